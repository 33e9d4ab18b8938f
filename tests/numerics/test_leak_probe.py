"""The leak probe: only it finds recurrent layers, in any dtype, and it finds nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import PretrainedConfig

from prefscope.scoring import self_check
from prefscope.scoring.models import LanguageModel
from prefscope.scoring.self_check import ForwardChoice, _leaks, _probes, check, follow
from tests.numerics.families import CONTEXT, HYBRIDS, PACKED, as_loaded, random_model, token_pool

pytestmark = pytest.mark.slow

LEAKS = "one response leaks into others in a packed row"
hybrids = pytest.mark.parametrize("config", [pytest.param(config, id=name) for name, config in HYBRIDS.items()])
dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])


def model_of(config: PretrainedConfig, dtype: torch.dtype) -> LanguageModel:
    return as_loaded(random_model(config, dtype))


def leaks(model: LanguageModel, pool: list[int]) -> str:
    """Return the result of the leak probe alone, with probes of these tokens."""
    follow(model, "packed")
    return _leaks(model, _probes(np.array(pool, dtype=np.int32), CONTEXT))


@dtypes
@hybrids
def test_recurrent_layers_are_found_only_by_the_leak_probe(config: PretrainedConfig, dtype: torch.dtype) -> None:
    assert leaks(model_of(config, dtype), token_pool().tolist()) == LEAKS


@dtypes
@hybrids
def test_recurrent_layers_are_found_even_if_the_config_hides_them(
    config: PretrainedConfig, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(self_check, "_unsuitable", lambda _module: "")
    assert check(model_of(config, dtype), token_pool()) == ForwardChoice("padded", LEAKS)


@hybrids
def test_recurrent_layers_are_found_in_sixteen_bits_if_float32_does_not_fit(
    config: PretrainedConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(self_check, "_unsuitable", lambda _module: "")
    monkeypatch.setattr(self_check, "available_bytes", lambda _device: 0)
    assert check(model_of(config, torch.bfloat16), token_pool()) == ForwardChoice("padded", LEAKS)


@pytest.mark.parametrize("config", [pytest.param(config, id=name) for name, config in PACKED.items()])
def test_nothing_leaks_in_bfloat16_if_packing_is_correct(config: PretrainedConfig) -> None:
    assert leaks(model_of(config, torch.bfloat16), token_pool().tolist()) == ""


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_a_model_in_another_dtype_is_packed(dtype: str) -> None:
    model = model_of(PACKED["llama, tied head"], getattr(torch, dtype))
    assert (model.dtype, check(model, token_pool())) == (dtype, ForwardChoice("packed", ""))


@pytest.mark.parametrize("distinct", [0, 12, 33])
@pytest.mark.parametrize("name", ["lfm2", "jamba", "mamba"])
def test_recurrent_layers_are_found_with_probes_of_few_distinct_tokens(name: str, distinct: int) -> None:
    assert leaks(model_of(HYBRIDS[name], torch.float32), list(range(distinct))) == LEAKS
