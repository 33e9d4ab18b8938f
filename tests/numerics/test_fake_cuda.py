"""On GPUs without values, forward passes of all families run without mixing devices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import PretrainedConfig

from prefscope.scoring import fused_parts
from prefscope.scoring.batches import prepare
from prefscope.scoring.blocks import blocks_of
from prefscope.scoring.engine import forward, start
from prefscope.scoring.forward_mode import ForwardMode
from prefscope.scoring.fused_kernels import Kernels
from prefscope.scoring.logps import token_logps
from prefscope.scoring.packing import pack
from prefscope.scoring.self_check import follow
from tests.numerics.fake_cuda import fake_gpus, fake_model
from tests.numerics.families import PACKED, changed, related_sequences
from tests.numerics.substitutes import install, substitutes

pytestmark = pytest.mark.slow

LLAMA = {
    "model.embed_tokens": "cuda:0",
    "model.rotary_emb": "cuda:0",
    "model.layers.0": "cuda:0",
    "model.layers.1": "cuda:1",
    "model.norm": "cuda:1",
    "lm_head": "cuda:1",
}
GPT2 = {
    "transformer.wte": "cuda:0",
    "transformer.wpe": "cuda:0",
    "transformer.drop": "cuda:0",
    "transformer.h.0": "cuda:0",
    "transformer.h.1": "cuda:1",
    "transformer.ln_f": "cuda:1",
    "lm_head": "cuda:0",
}
MAPS = {
    "last layer, norm and head on the second": ("llama, untied head", LLAMA),
    "a head that shares the embeddings": ("llama, tied head", LLAMA | {"lm_head": "cuda:0"}),
    "only the head on the second": (
        "llama, untied head",
        {**dict.fromkeys(LLAMA, "cuda:0"), "lm_head": "cuda:1"},
    ),
    "learnt positions": ("gpt2, learnt positions", GPT2),
}
VIEWS = {"device", "transpose", "numpy_T", "slice", "unsqueeze", "view", "select", "reshape", "empty"}
"""Operators that launch no kernel."""
DTYPES = [torch.bfloat16, torch.float32]


def assert_runs(
    config: PretrainedConfig,
    dtype: torch.dtype,
    path: ForwardMode,
    monkeypatch: pytest.MonkeyPatch,
    placed: Mapping[str, str] | None = None,
) -> None:
    sequences = related_sequences()
    with fake_gpus(monkeypatch):
        model = fake_model(config, dtype, placed)
        follow(model, path)
        found = forward(model, path, sequences)
    assert [len(logps) for logps in found] == [sequence.num_scored for sequence in sequences]


@pytest.mark.parametrize("path", ["packed", "padded"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("family", PACKED)
def test_every_family_runs_on_a_gpu(
    family: str, dtype: torch.dtype, path: ForwardMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_runs(PACKED[family], dtype, path, monkeypatch)


@pytest.mark.parametrize("path", ["packed", "padded"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", MAPS)
def test_a_model_spread_over_two_gpus_runs(
    case: str, dtype: torch.dtype, path: ForwardMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    family, placed = MAPS[case]
    assert_runs(PACKED[family], dtype, path, monkeypatch, placed)


class Trace(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts operators, and copies between the host and GPUs."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operators: Counter[str] = Counter()
        self.uploads = self.downloads = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run and count an operator."""
        del types
        found = func(*args, **(kwargs or {}))
        self.operators[func.overloadpacket.__name__] += 1
        if isinstance(found, Tensor) and args and isinstance(args[0], Tensor):
            directions = (args[0].device.type, found.device.type)
            self.uploads += directions == ("cpu", "cuda")
            self.downloads += directions == ("cuda", "cpu")
        return found


def trace(
    config: PretrainedConfig, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch, *, is_fused: bool = False
) -> Trace:
    found = Trace()
    with fake_gpus(monkeypatch):
        model = fake_model(config, dtype)
        follow(model, "packed", is_fused=is_fused)
        forward(model, "packed", related_sequences())
        with found:
            forward(model, "packed", related_sequences())
    return found


@pytest.mark.parametrize(
    ("family", "dtype", "operator", "windows"),
    [
        ("llama, tied head", torch.bfloat16, "_flash_attention_forward", 1),
        ("llama, tied head", torch.float32, "_efficient_attention_forward", 1),
        ("mistral, a window in all layers", torch.bfloat16, "_flash_attention_forward", 1),
        ("gpt_oss, sinks, experts and a window", torch.bfloat16, "_flash_attention_forward", 2),
    ],
)
def test_a_batch_takes_one_launch_of_attention_a_layer_and_few_copies(
    family: str, dtype: torch.dtype, operator: str, windows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = PACKED[family]
    found = trace(config, dtype, monkeypatch)
    assert found.operators[operator] == config.num_hidden_layers
    assert found.uploads == 1 + windows  # the row, and its paths for each width of window
    assert found.downloads == 1


def test_soft_caps_take_a_few_launches_a_layer_for_all_segments_and_no_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    config = PACKED["gemma2, soft caps and a window"]
    row = pack(related_sequences())
    groups = [len(blocks_of(row, torch.device("meta"), window)) for window in (None, config.sliding_window)]
    shallow = trace(config, torch.bfloat16, monkeypatch)
    deep = trace(changed(config, num_hidden_layers=4, layer_types=2 * config.layer_types), torch.bfloat16, monkeypatch)
    assert deep.operators["softmax"] - shallow.operators["softmax"] == sum(groups)
    assert sum(groups) < len(row.segments)
    assert (deep.uploads, deep.downloads) == (shallow.uploads, 1)


def test_a_batch_that_is_laid_out_like_the_one_before_uploads_nothing_while_it_computes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = Trace()
    with fake_gpus(monkeypatch):
        model = fake_model(PACKED["gpt_oss, sinks, experts and a window"], torch.bfloat16)
        follow(model, "packed")
        first = prepare("packed", related_sequences(), model.device)
        start(model, first)
        second = prepare("packed", related_sequences(), model.device, like=first)
        with found:
            start(model, second)
    assert (found.uploads, found.downloads) == (0, 1)


def test_a_layer_launches_no_more_kernels_than_it_did(monkeypatch: pytest.MonkeyPatch) -> None:
    shallow = trace(PACKED["llama, tied head"], torch.bfloat16, monkeypatch)
    deep = trace(changed(PACKED["llama, tied head"], num_hidden_layers=3), torch.bfloat16, monkeypatch)
    launches = {name: count for name, count in (deep.operators - shallow.operators).items() if name not in VIEWS}
    assert sum(launches.values()) <= 41, launches


@pytest.fixture
def single_operators() -> Iterator[Kernels]:
    """Provide kernels of one operator each, without values."""
    library = torch.library.Library("prefscope_test", "DEF")  # type: ignore[no-untyped-call]
    operators: dict[str, tuple[str, Callable[..., Any]]] = {
        "norm": ("(Tensor values) -> Tensor", torch.empty_like),
        "gate": ("(Tensor gate) -> Tensor", torch.empty_like),
        "rotary": ("(Tensor query, Tensor key) -> (Tensor, Tensor)", lambda query, key: (query.clone(), key.clone())),
        "logps": ("(Tensor logits) -> Tensor", lambda logits: logits.new_empty(len(logits))),
    }
    for name, (schema, shaped) in operators.items():
        library.define(name + schema)  # type: ignore[no-untyped-call]
        library.impl(name, shaped, "Meta")  # type: ignore[no-untyped-call]
    ours = torch.ops.prefscope_test
    yield substitutes(
        measures={token_logps: lambda logits, _: ours.logps(logits)},
        rms_norm=lambda values, *_: ours.norm(values),
        gates={"silu": lambda gate, _: ours.gate(gate)},
        rotary=lambda query, key, *_: ours.rotary(query, key),
    )
    library._destroy()  # type: ignore[no-untyped-call]


def test_with_fused_kernels_a_layer_launches_less_than_half_of_the_kernels(
    single_operators: Kernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, single_operators)
    monkeypatch.setattr(fused_parts, "_errors", lambda *_: [0.0])  # there are no values to compare
    shallow = trace(PACKED["llama, tied head"], torch.bfloat16, monkeypatch, is_fused=True)
    deep = trace(changed(PACKED["llama, tied head"], num_hidden_layers=3), torch.bfloat16, monkeypatch, is_fused=True)
    launches = {name: count for name, count in (deep.operators - shallow.operators).items() if name not in VIEWS}
    assert {name: launches[name] for name in ("norm", "gate", "rotary")} == {"norm": 2, "gate": 1, "rotary": 1}
    assert sum(launches.values()) <= 17, launches
    assert deep.operators["logps"] == 1
