"""Settings survive the transfer to a worker process as JSON."""

from __future__ import annotations

import dataclasses
import json

import pytest

from prefscope.settings import (
    DEFAULT_LOSSES,
    ComputeSettings,
    DataSettings,
    ModelSettings,
    PreferenceSettings,
    ScoreSettings,
    TokenizationSettings,
)

FULL = ScoreSettings(
    data=DataSettings(
        "pairs.jsonl", "trl", {"prompt": "q"}, "train", "main", "v1", 10, 5, 3, skip_bad_rows=True, more=("more.jsonl",)
    ),
    models=ModelSettings("p", "none", "b", "bfloat16", "cpu", "auto", "eager", True, True, True, 2),  # noqa: FBT003 (in their order)
    tokenization=TokenizationSettings(128, "keep_end", "{{ messages }}", "simpo", "2026-01-31"),
    compute=ComputeSettings(
        *("cache", False, 64, 2, False, 8), collisions=True, alternatives=5, divergences=True, fused=False
    ),
)
LEAST = ScoreSettings(DataSettings("-"), ModelSettings("policy"))


@pytest.mark.parametrize("settings", [FULL, LEAST], ids=["all given", "defaults"])
def test_settings_round_trip_through_json(settings: ScoreSettings) -> None:
    assert ScoreSettings.from_json(json.loads(json.dumps(settings.to_json()))) == settings


@pytest.mark.parametrize("part", ["data", "models", "tokenization", "compute"])
def test_the_full_example_leaves_no_field_at_its_default(part: str) -> None:
    full, least = getattr(FULL, part), getattr(LEAST, part)
    assert [f.name for f in dataclasses.fields(full) if getattr(full, f.name) == getattr(least, f.name)] == []


def test_settings_are_immutable() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        FULL.data.seed = 1  # type: ignore[misc]  # that is what is refused


def test_default_parameters_are_those_of_trl_and_simpo() -> None:
    preferences = PreferenceSettings()
    assert preferences.beta == 0.1
    assert preferences.losses == DEFAULT_LOSSES
    assert [choice.name for choice in preferences.losses] == ["dpo", "ipo", "simpo"]


def test_nothing_is_truncated_by_default() -> None:
    assert TokenizationSettings().max_length is None
