"""On GPUs without values, forward passes of all families run without mixing devices."""

from __future__ import annotations

import pytest
import torch

from prefscope.scoring.engine import forward
from prefscope.scoring.forward_mode import ForwardMode
from prefscope.scoring.self_check import follow
from tests.numerics.fake_cuda import fake_gpus, fake_model
from tests.numerics.families import PACKED, related_sequences

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
DTYPES = [torch.bfloat16, torch.float32]


@pytest.mark.parametrize("path", ["packed", "padded"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("family", PACKED)
def test_every_family_runs_on_a_gpu(
    family: str, dtype: torch.dtype, path: ForwardMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fake_gpus(monkeypatch):
        model = fake_model(PACKED[family], dtype)
        follow(model, path)
        found = forward(model, path, related_sequences())
    assert [len(logps) for logps in found] == [sequence.num_scored for sequence in related_sequences()]


@pytest.mark.parametrize("path", ["packed", "padded"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", MAPS)
def test_a_model_spread_over_two_gpus_runs(
    case: str, dtype: torch.dtype, path: ForwardMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    family, placed = MAPS[case]
    with fake_gpus(monkeypatch):
        model = fake_model(PACKED[family], dtype, placed)
        follow(model, path)
        found = forward(model, path, related_sequences())
    assert [len(logps) for logps in found] == [sequence.num_scored for sequence in related_sequences()]
