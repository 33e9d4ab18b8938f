"""GPUs that are not there: the forward pass runs on tensors that have a device, a dtype and a shape, but no values.

torch's fake tensors do all but two things on a build for CPUs. They need a device guard, which a few lines of C++ put
in place, and they allow an index on another GPU than the tensor that it indexes, which real CUDA refuses.
"""

from __future__ import annotations

import ctypes
import functools
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import hooks  # type: ignore[import-untyped]
from torch import Tensor, _meta_registrations, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from prefscope.scoring import attention
from prefscope.scoring.models import LanguageModel

GUARD = """
#include <c10/core/impl/DeviceGuardImplInterface.h>
using Guard = c10::impl::NoOpDeviceGuardImpl<c10::DeviceType::CUDA>;
extern "C" void prefscope_install_guard() {
  static Guard guard;
  c10::impl::device_guard_impl_registry[static_cast<size_t>(c10::DeviceType::CUDA)].store(&guard);
}
"""
CUDA = "cuda:0"
INDEXING = ("index", "index_put", "index_put_", "_unsafe_index", "_index_put_impl_")


@functools.cache
def install_guard() -> None:
    """Let tensors of a build for CPUs have CUDA devices; skip the test where that cannot be compiled."""
    if torch.cuda.is_available():
        return
    compiler = shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        pytest.skip("there is no C++ compiler to build a device guard with")
    package = Path(torch.__file__).parent
    folder = Path(tempfile.mkdtemp())
    (folder / "guard.cpp").write_text(GUARD, encoding="ascii")
    headers = [f"-I{package / 'include'}", f"-I{package / 'include/torch/csrc/api/include'}"]
    libraries = [f"-L{package / 'lib'}", "-lc10", "-ltorch_cpu"]
    options = ["-std=c++20", "-shared", "-fPIC", *headers, "guard.cpp", *libraries, "-o", "guard.so"]
    subprocess.run([compiler, *options], cwd=folder, check=True, capture_output=True)
    ctypes.CDLL(str(folder / "guard.so")).prefscope_install_guard()
    shutil.rmtree(folder)


class IndexRule(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Refuses what CUDA refuses: indices on a GPU other than that of the tensor they index."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run an operator, checking those that index."""
        del types
        if func.overloadpacket.__name__ in INDEXING:
            for index in args[1]:
                if isinstance(index, Tensor) and index.device.type != "cpu" and index.device != args[0].device:
                    raise RuntimeError(f"indices on {index.device} of a tensor on {args[0].device}")
        return func(*args, **(kwargs or {}))


@contextmanager
def fake_gpus(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Provide GPUs of compute capability 9.0 whose tensors have no values; what comes back from them is 0."""
    install_guard()
    from_numpy = torch.from_numpy

    def zeros(tensor: Tensor) -> Any:
        assert tensor.device.type == "cpu", f"numpy() of a tensor on {tensor.device}"
        return np.zeros(tuple(tensor.shape), dtype=np.float32)

    def grouped_product(some: Tensor, others: Tensor, *_: Any, **__: Any) -> Tensor:
        return some.new_empty((some.shape[0], others.shape[-1]))

    def shaped(array: Any) -> Tensor:
        return torch.empty(array.shape, dtype=from_numpy(array[:0]).dtype)

    # A GPU computes experts in float32 without the grouped product; only the shapes of fake tensors insist on bfloat16.
    monkeypatch.setattr(_meta_registrations, "_meta_grouped_mm_common", grouped_product)
    monkeypatch.setattr(attention, "_keeps_windows", lambda *_: True)  # there are no values to compare
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (9, 0))
    monkeypatch.setattr(Tensor, "numpy", zeros)
    monkeypatch.setattr(torch, "from_numpy", shaped)
    try:
        with FakeTensorMode(allow_non_fake_inputs=True), IndexRule():  # type: ignore[no-untyped-call]
            yield
    except RuntimeError as error:
        if "Found no NVIDIA driver" in str(error):
            pytest.skip("this build of torch looks for a driver even for fake tensors")
        raise


def fake_model(config: PretrainedConfig, dtype: torch.dtype, placed: Mapping[str, str] | None = None) -> LanguageModel:
    """Return a model without values on one GPU, or spread as a device map says, with accelerate's hooks.

    Args:
        config: Of the model.
        dtype: Of its weights.
        placed: Devices by name of a module, as in `hf_device_map`.
    """
    with torch.device("meta"):
        module: PreTrainedModel = AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=dtype)
    module.eval()
    device_of = _placement(placed or {"": CUDA})
    for name, part in module.named_modules():
        _place(part, functools.partial(device_of, name))
    module.tie_weights()
    if placed is not None:
        _attach_hooks(module, placed)
    inputs: Any = module.get_input_embeddings()
    return LanguageModel(module, None, inputs.weight.device, str(dtype).removeprefix("torch."), "eager")


def _placement(placed: Mapping[str, str]) -> Callable[[str], str]:
    def device_of(name: str) -> str:
        fitting = [prefix for prefix in placed if not prefix or name == prefix or name.startswith(f"{prefix}.")]
        return placed[max(fitting, key=len)] if fitting else CUDA

    return device_of


def _place(part: nn.Module, device: Callable[[], str]) -> None:
    for name, weight in list(part._parameters.items()):
        if weight is not None:
            part._parameters[name] = nn.Parameter(torch.empty_like(weight, device=device()), requires_grad=False)
    for name, buffer in list(part._buffers.items()):
        if buffer is not None:
            part._buffers[name] = torch.empty_like(buffer, device=device())


def _attach_hooks(module: PreTrainedModel, placed: Mapping[str, str]) -> None:
    """Attach what accelerate attaches, which moves the inputs of every part to its device; the weights are placed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hooks, "set_module_tensor_to_device", lambda *_, **__: None)
        hooks.attach_align_device_hook_on_blocks(
            module,
            execution_device={"": CUDA, **placed},
            offload=dict.fromkeys(placed, False),
            skip_keys=module._skip_keys_device_placement,
        )
