"""The noise floor: a sample recomputed without the store and in other batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch import nn

from prefscope.settings import ComputeSettings, ScoreSettings
from tests.functional.runs import Loads, Outcome, run, settings_of

pytestmark = pytest.mark.slow

Batches = list[tuple[int, ...]]


def settings(**more: Any) -> ScoreSettings:
    """Return the settings of a run over 12 pairs in several batches."""
    asked = settings_of(limit=12, **more)
    compute = ComputeSettings(cache_dir="cache", batch_tokens=512, threads=1, noise_pairs=64)
    return ScoreSettings(asked.data, asked.models, asked.tokenization, compute)


@pytest.fixture
def batches(loads: Loads) -> Batches:
    """Return the token ids of every forward pass of the test."""
    seen: Batches = []

    def look(_module: nn.Module, _args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen.append(tuple(kwargs["input_ids"].flatten().tolist()))

    def add(decoder: nn.Module) -> None:
        decoder.register_forward_pre_hook(look, with_kwargs=True)

    loads.hooks.append(add)
    return seen


def test_the_noise_sample_bypasses_the_store_and_uses_other_batches(batches: Batches) -> None:
    first = run(settings_of(limit=12, batch_tokens=512))
    of_the_run = {*batches}
    batches.clear()
    again = run(settings())
    assert again.batches == []
    assert len(batches) >= 8
    assert not of_the_run & {*batches}
    assert again.table.equals(first.table)


def test_the_float32_noise_floor_of_the_tiny_models_is_far_below_any_margin() -> None:
    noise = run(settings()).manifest["noise"]
    assert noise["pairs"] == 12
    assert 0 < noise["floor"] < 1e-4
    assert noise["float32_floor"] is None


def test_bfloat16_runs_report_the_difference_to_float32_too(loads: Loads) -> None:
    noise = run(settings(dtype="bfloat16")).manifest["noise"]
    assert 1e-3 < noise["floor"] < 2
    assert 1e-3 < noise["float32_floor"] < 2
    assert loads.names == 2 * loads.names[:2]  # both models, then both in float32


def test_a_run_has_no_noise_floor_by_default(loads: Loads) -> None:
    outcome: Outcome = run(settings_of(limit=2))
    assert "noise" not in outcome.manifest
    assert len(loads.names) == 2


def test_the_policy_as_its_own_reference_has_no_noise() -> None:
    asked = settings()
    policy = Path(asked.models.policy)
    outcome = run(settings(policy=policy, ref=policy))
    assert outcome.manifest["noise"]["floor"] == 0
