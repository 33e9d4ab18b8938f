"""A model that is being trained, lent for scoring and given back exactly as it was.

Its training flags, attention implementation, rotary state and random states are restored; its gradients, weights and
compiled graphs are never touched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from prefscope.errors import ModelError
from prefscope.scoring.models import LanguageModel

DTYPES = {torch.float64: "float64", torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16"}
REFERENCE_ADAPTER = "ref"
"""TRL's name for the copy of an adapter that training began with."""


def language_model(model: nn.Module) -> LanguageModel:
    """Return the model of a trainer as one that the engine can score.

    Raises:
        ModelError: If its weights are spread over processes or of an unknown dtype, or it is not a model of
            transformers.
    """
    whole: Any = getattr(model, "_orig_mod", model)  # torch.compile wraps models
    peft = whole if hasattr(whole, "get_base_model") else None
    module: Any = whole if peft is None else peft.get_base_model()
    if not isinstance(module, PreTrainedModel):
        raise ModelError(f"A {type(module).__name__} is not a model of transformers, so it cannot be scored")
    _refuse_spread(module)
    first = next(module.parameters())
    attention = str(module.config._attn_implementation)  # noqa: SLF001 (transformers names it nowhere else)
    if module.dtype not in DTYPES:
        hint = "Follow the training's checkpoints with `prefscope watch`."
        raise ModelError(f"Weights in {module.dtype} cannot be scored in place", hint=hint)
    return LanguageModel(module, peft, first.device, DTYPES[module.dtype], attention, is_trained=True)


def _refuse_spread(module: nn.Module) -> None:
    """Raise an error for weights of which this process has only a part.

    Raises:
        ModelError: If there are any.
    """
    for parameter in module.parameters():
        kind = type(parameter).__name__ + type(parameter.data).__name__
        if hasattr(parameter, "ds_id") or "DTensor" in kind or "FlatParameter" in kind:
            raise ModelError(
                "The weights of this model are spread over processes (ZeRO-3 or FSDP), so it cannot be scored in place",
                hint="Score its checkpoints with `prefscope watch` in another process.",
            )


@contextmanager
def lent(model: LanguageModel) -> Iterator[None]:
    """Let a model be scored, and restore all of its state afterwards."""
    module = model.module
    devices = [model.device] if model.device.type == "cuda" else []
    with ExitStack() as restored:
        restored.enter_context(torch.random.fork_rng(devices, device_type=model.device.type))
        restored.enter_context(_eager())
        restored.callback(_attention(module))
        restored.callback(_rotary(module))
        restored.callback(_modes(module))
        restored.callback(_own_forward(module))
        yield


def _eager() -> Any:
    """Return a context in which compiled parts run as plain code, so that no graph is added to their caches."""
    stance = getattr(torch.compiler, "set_stance", None)
    return nullcontext() if stance is None else stance("force_eager")


def _modes(module: nn.Module) -> Callable[[], None]:
    """Switch a model to evaluation, and return what restores the flag of each of its modules."""
    before = [(part, part.training) for part in module.modules()]
    for part, _ in before:
        part.training = False

    def restore() -> None:
        for part, training in before:
            part.training = training

    return restore


def _attention(module: nn.Module) -> Callable[[], None]:
    """Return what restores the attention implementation in every config of a model."""
    configs: dict[int, Any] = {}
    for part in module.modules():
        for config in _configs(getattr(part, "config", None)):
            configs[id(config)] = config
    name = "_attn_implementation_internal"
    before = [(config, getattr(config, name, None)) for config in configs.values()]

    def restore() -> None:
        for config, attention in before:
            setattr(config, name, attention)

    return restore


def _configs(config: Any) -> Iterator[Any]:
    """Yield a config and those within it."""
    if config is None or isinstance(config, dict):
        return
    yield config
    for name in getattr(config, "sub_configs", {}):
        yield from _configs(getattr(config, name, None))


def _rotary(module: nn.Module) -> Callable[[], None]:
    """Return what restores rotary frequencies that depend on the sequences seen so far."""
    before: list[tuple[nn.Module, dict[str, Any], dict[str, Any]]] = [
        (part, {name: value for name, value in vars(part).items() if name.endswith("max_seq_len_cached")}, buffers)
        for part in module.modules()
        if (buffers := {name: one for name, one in part.named_buffers(recurse=False) if name.endswith("inv_freq")})
    ]

    def restore() -> None:
        for part, lengths, buffers in before:
            vars(part).update(lengths)
            part._buffers.update(buffers)  # noqa: SLF001 (as they were, the same tensors)

    return restore


def _own_forward(module: nn.Module) -> Callable[[], None]:
    """Take away what wraps a model's forward method, such as accelerate's autocast; return what puts it back."""
    wrapper = module.__dict__.pop("forward", None)

    def restore() -> None:
        if wrapper is not None:
            module.__dict__["forward"] = wrapper

    return restore


@contextmanager
def reference_adapter(model: LanguageModel) -> Iterator[None]:
    """Let a model with an adapter compute its reference: TRL's copy of the first adapter, or no adapter."""
    peft: Any = model.peft
    trained = [(parameter, parameter.requires_grad) for parameter in peft.parameters()]
    try:
        if REFERENCE_ADAPTER in peft.peft_config:
            active = [*peft.active_adapters]
            peft.base_model.set_adapter(REFERENCE_ADAPTER)
            try:
                yield
            finally:
                peft.base_model.set_adapter(active)
        else:
            with peft.disable_adapter():
                yield
    finally:
        for parameter, requires_grad in trained:  # PEFT decides anew which adapters are trained
            parameter.requires_grad_(requires_grad)
