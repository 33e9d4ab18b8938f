"""The load screen identifies checkpoints before a run: missing bases, exchanged models, and what a run will cost."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from prefscope.events import BatchScored, Event
from prefscope.pipeline.run import score
from prefscope.settings import ComputeSettings, DataSettings, ModelSettings, ScoreSettings
from prefscope.tui.model.amounts import duration
from prefscope.tui.model.estimate import estimate, measured_speed, num_pairs, tokens_per_pair
from prefscope.tui.model.model_recognition import recognise_models
from prefscope.tui.model.nearby import find_checkpoints
from prefscope.tui.model.recognition import recognise_data
from tests.tui.pairs_app import write_pairs


def adapter(folder: Path, base: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": base}))
    (folder / "adapter_model.safetensors").touch()
    return folder


def found(policy: Path | str, ref: Path | str | None = None, base: Path | None = None) -> list[tuple[bool | None, str]]:
    """Return what the checkpoint fields say."""
    models = ModelSettings(str(policy), None if ref is None else str(ref), None if base is None else str(base))
    return [(one.good, one.text) for one in recognise_models(models)]


def test_an_adapter_is_recognised_with_its_base(samples: Path, tmp_path: Path) -> None:
    base = samples / "tiny-ref"
    policy, ref = found(adapter(tmp_path / "lora", str(base)))
    assert policy == (True, f"LoRA adapter on {base}")
    assert ref[0] is None


def test_an_adapter_whose_base_is_missing_is_refused_with_the_place_that_was_searched(tmp_path: Path) -> None:
    policy, _ = found(adapter(tmp_path / "lora", "/elsewhere/base"))
    assert policy == (
        False,
        "LoRA adapter, but its base is not on this machine: /elsewhere/base. Enter it as base (below) or as reference.",
    )


@pytest.mark.parametrize("field", ["base", "ref"])
def test_a_base_or_a_reference_stands_in_for_a_missing_base(samples: Path, tmp_path: Path, field: str) -> None:
    base = samples / "tiny-ref"
    lora = adapter(tmp_path / "lora", "/elsewhere/base")
    policy, _ = found(lora, base=base) if field == "base" else found(lora, base)
    assert policy == (True, f"LoRA adapter on {base}, which stands in for /elsewhere/base")


def test_a_base_that_is_itself_an_adapter_is_refused(tmp_path: Path) -> None:
    inner = adapter(tmp_path / "inner", "/elsewhere/base")
    policy, _ = found(adapter(tmp_path / "lora", str(inner)))
    assert policy[0] is False
    assert policy[1].endswith("which is itself an adapter. Merge that one into its base first.")


def test_a_base_of_the_hub_is_not_called_missing(tmp_path: Path) -> None:
    policy, _ = found(adapter(tmp_path / "lora", "org/base"))
    assert policy == (
        None,
        "LoRA adapter on org/base, not a local path: downloaded from the hub when scoring starts",
    )


@pytest.mark.parametrize("recorded", ["{base}", "/elsewhere/tiny-ref"], ids=["here", "another machine"])
def test_an_adapter_of_the_policy_as_reference_is_called_exchanged(
    samples: Path, tmp_path: Path, recorded: str
) -> None:
    base = samples / "tiny-ref"
    lora = adapter(tmp_path / "lora", recorded.format(base=base))
    policy, ref = found(base, lora)
    assert policy[0]
    assert ref == (False, "an adapter of the policy, so the two look exchanged: F3 exchanges them")


def test_an_adapter_of_another_base_may_be_the_reference(samples: Path, tmp_path: Path) -> None:
    _, ref = found(samples / "tiny-policy", adapter(tmp_path / "lora", str(samples / "tiny-ref")))
    assert ref[0]


@pytest.mark.parametrize("ref", [None, "base", "adapter-off"])
def test_a_full_policy_needs_a_reference(samples: Path, ref: str | None) -> None:
    policy, told = found(samples / "tiny-policy", ref)
    assert policy[0]
    assert told == (False, "The policy is a full checkpoint: enter the one that its training started from, or none.")


def test_a_ledger_as_data_set_is_opened(tmp_path: Path) -> None:
    write_pairs(tmp_path / "some.parquet", [{}, {}])
    data = recognise_data(str(tmp_path / "some.parquet"))
    assert (data.good, data.is_ledger) == (True, True)
    assert data.text.endswith("it is opened, not scored")


def test_checkpoints_adapters_and_gguf_files_nearby_are_offered_in_the_order_of_their_numbers(
    samples: Path, tmp_path: Path
) -> None:
    here, data = tmp_path / "here", tmp_path / "data"
    for step in (100, 90):
        shutil.copytree(samples / "tiny-ref", here / "run" / f"checkpoint-{step}")
    adapter(data / "lora", "x")
    (data / "rows.jsonl").touch()
    (here / "small.gguf").touch()
    (here / "empty").mkdir()
    (here / "empty" / "config.json").touch()
    (here / "link").symlink_to(samples / "tiny-policy")
    shutil.copytree(samples / "tiny-ref", here / ".hidden")
    assert find_checkpoints(str(data / "rows.jsonl"), folder=here) == (
        "run/checkpoint-90",
        "run/checkpoint-100",
        "small.gguf",
        str(data / "lora"),
    )


def test_the_estimate_respects_limit_and_sample(samples: Path) -> None:
    data = recognise_data(str(samples / "pairs.jsonl"))
    settings = ScoreSettings(DataSettings("x"), ModelSettings(""))
    asked = [
        replace(settings, data=DataSettings("x", limit=limit, sample=sample))
        for limit, sample in ((7, None), (None, 9))
    ]
    assert [num_pairs(one, data) for one in (settings, *asked)] == [170, 7, 9]
    texts = [estimate(one, data, *recognise_models(one.models)) for one in (settings, asked[0])]
    assert texts[0].startswith("about 38")
    assert texts[1].startswith("about 1.5")


def test_without_a_measured_speed_the_time_is_called_a_guess(samples: Path, tmp_path: Path) -> None:
    settings = ScoreSettings(
        DataSettings("x"), ModelSettings(""), compute=ComputeSettings(cache_dir=str(tmp_path / "cache"))
    )
    told = estimate(settings, recognise_data(str(samples / "pairs.jsonl")), *recognise_models(settings.models))
    assert "is a guess" in told or "unknown before the first run" in told
    assert not (tmp_path / "cache").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("divergences", "passes"), [(False, 2), (True, 1)])
def test_after_a_run_tokens_and_speed_are_estimated_within_a_factor_of_two(
    samples: Path, tmp_path: Path, *, divergences: bool, passes: int
) -> None:
    settings = ScoreSettings(
        DataSettings(str(samples / "pairs.jsonl")),
        ModelSettings(str(samples / "tiny-policy"), str(samples / "tiny-ref")),
        compute=ComputeSettings(cache_dir=str(tmp_path / "cache"), threads=1, divergences=divergences),
    )
    events: list[Event] = []
    score(settings, lambda _: tmp_path / "ledger.parquet", events.append)
    batches = [one for one in events if isinstance(one, BatchScored) and one.role == "policy"]
    computed, seconds = sum(one.computed for one in batches), sum(one.seconds for one in batches)
    data = recognise_data(settings.data.source)
    policy, ref = recognise_models(settings.models)
    tokens = data.pairs * tokens_per_pair(settings, data, policy)
    assert computed / 2 < tokens < computed * 2
    speed = measured_speed(settings, [policy, ref])
    assert speed is not None
    assert computed / seconds / 2 < speed < computed / seconds * 2
    told = f"about {duration(passes * tokens / speed)}, as measured here"
    assert told in estimate(settings, data, policy, ref)
