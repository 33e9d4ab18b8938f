"""Which weights are in memory together: both models if they fit, otherwise one at a time; an adapter with its base."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from prefscope.pipeline import model_pool
from prefscope.pipeline.run import score
from prefscope.scoring import probe
from tests.functional.runs import POLICY, REF, Loads, Outcome, roles, run, settings_of, watch_loads

pytestmark = pytest.mark.slow

PAIRS = 12
BATCH_TOKENS = 512
ROOM_FOR_ONE = 4_000_000
"""Bytes: of those, 70% are for weights, and each tiny model takes 2.4 million."""


@pytest.fixture(autouse=True)
def _short_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "ENOUGH_SECONDS", 0)


@pytest.fixture
def scarce(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave memory for one of the tiny models, but not for two."""
    monkeypatch.setattr(model_pool, "available_bytes", lambda _: ROOM_FOR_ONE)


def run_in(folder: Path, available: int | None) -> tuple[Outcome, Loads]:
    """Return a run of some batches, with limited or available memory, and what it loaded."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(probe, "ENOUGH_SECONDS", 0)
        loads = watch_loads(patch)
        if available is not None:
            patch.setattr(model_pool, "available_bytes", lambda _: available)
        return run(settings_of(limit=PAIRS, batch_tokens=BATCH_TOKENS)), loads


@pytest.fixture(scope="module")
def roomy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, Loads]:
    """Return a run with memory for both models."""
    return run_in(tmp_path_factory.mktemp("roomy"), None)


@pytest.fixture(scope="module")
def together(roomy: tuple[Outcome, Loads]) -> Outcome:
    return roomy[0]


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, Loads]:
    """Return the same run with memory for one model."""
    return run_in(tmp_path_factory.mktemp("narrow"), ROOM_FOR_ONE)


@pytest.fixture(scope="module")
def make_adapter(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Return a function that saves a LoRA adapter of tiny-ref, drawn with a seed."""

    def make(seed: int) -> Path:
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModelForCausalLM

        torch.manual_seed(seed)
        path = tmp_path_factory.mktemp("adapters") / f"adapter-{seed}"
        model = AutoModelForCausalLM.from_pretrained(REF)
        config = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
        get_peft_model(model, config).save_pretrained(str(path))
        file = path / "adapter_config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"base_model_name_or_path": str(REF)}))
        return path

    return make


@pytest.fixture(scope="module")
def adapter(make_adapter: Callable[[int], Path]) -> Path:
    return make_adapter(0)


def test_policy_and_reference_alternate_batches_if_both_fit_in_memory(roomy: tuple[Outcome, Loads]) -> None:
    outcome, loads = roomy
    turns = len(outcome.batches) // 2
    assert turns > 2
    assert roles(outcome.batches) == ["policy", "ref"] * turns
    assert (loads.names, loads.most_alive) == ([str(POLICY), str(REF)], 2)
    assert {plan.weight_bytes for plan in outcome.plans.values()} == {sum(loads.weight_bytes)}


def test_models_are_loaded_one_after_the_other_if_both_do_not_fit(narrow: tuple[Outcome, Loads]) -> None:
    outcome, loads = narrow
    turns = len(outcome.batches) // 2
    assert roles(outcome.batches) == ["policy"] * turns + ["ref"] * turns
    assert (loads.names, loads.most_alive) == ([str(POLICY), str(REF)], 1)
    assert {plan.weight_bytes for plan in outcome.plans.values()} == {max(loads.weight_bytes)}


def test_one_model_at_a_time_gives_an_identical_ledger(narrow: tuple[Outcome, Loads], together: Outcome) -> None:
    assert narrow[0].table.equals(together.table)


@pytest.mark.usefixtures("scarce")
def test_a_model_whose_sequences_are_all_stored_is_not_loaded_if_both_do_not_fit(loads: Loads) -> None:
    run(settings_of(ref="none", limit=2))
    loads.names.clear()
    outcome = run(settings_of(limit=2))
    assert loads.names == [str(REF)]
    assert set(roles(outcome.batches)) == {"ref"}


def test_all_weights_are_freed_before_the_ledger_is_written(loads: Loads) -> None:
    alive: list[int] = []

    def place(_: str) -> Path:
        alive.append(loads.alive)
        return Path("ledger.parquet")

    score(settings_of(limit=2), place, lambda _: None)
    assert alive == [0]


@pytest.mark.parametrize("memory", ["room", "scarce"])
def test_an_adapter_and_its_base_share_one_set_of_weights(
    memory: str, adapter: Path, together: Outcome, loads: Loads, request: pytest.FixtureRequest
) -> None:
    if memory == "scarce":
        request.getfixturevalue("scarce")
    outcome = run(settings_of(adapter, None, limit=PAIRS, batch_tokens=BATCH_TOKENS))
    assert loads.names == [str(adapter)]
    assert roles(outcome.batches) == roles(together.batches)
    for name in ("ref_chosen_token_logps", "ref_rejected_token_logps"):
        assert outcome.table[name].equals(together.table[name])
    assert not outcome.table["policy_chosen_logps"].equals(together.table["ref_chosen_logps"])


def test_an_adapter_and_its_base_share_weights_even_if_only_the_base_is_unchecked(adapter: Path, loads: Loads) -> None:
    run(settings_of(adapter, "none", limit=2))
    loads.names.clear()
    outcome = run(settings_of(adapter, None, limit=4))
    assert set(roles(outcome.batches)) == {"policy", "ref"}
    assert len(loads.names) == 1
    assert loads.most_alive == 1


@pytest.mark.usefixtures("scarce")
def test_two_adapters_of_one_base_load_it_once(
    adapter: Path, make_adapter: Callable[[int], Path], loads: Loads
) -> None:
    outcome = run(settings_of(adapter, make_adapter(1), limit=2))
    assert set(roles(outcome.batches)) == {"policy", "ref"}
    assert loads.most_alive == 1


def test_adapters_that_share_a_base_score_as_they_do_alone(adapter: Path, make_adapter: Callable[[int], Path]) -> None:
    other = make_adapter(1)
    both = run(settings_of(adapter, other, limit=2))
    for role, path in (("policy", adapter), ("ref", other)):
        alone = run(settings_of(path, "none", limit=2, cache="other"))
        assert np.array_equal(both.token_logps(role), alone.token_logps("policy"))
    assert not np.array_equal(both.token_logps("policy"), both.token_logps("ref"))


@pytest.mark.usefixtures("scarce")
def test_a_base_used_as_policy_shares_weights_with_its_adapter(adapter: Path, loads: Loads) -> None:
    outcome = run(settings_of(REF, adapter, limit=2))
    assert set(roles(outcome.batches)) == {"policy", "ref"}
    assert loads.most_alive == 1


def test_the_reported_weights_include_adapter_and_base(adapter: Path, loads: Loads) -> None:
    outcome = run(settings_of(adapter, None, limit=2))
    base = outcome.plans["policy"].weight_bytes
    assert base <= loads.weight_bytes[0] < 1.05 * base  # the adapter itself is small


def test_device_map_auto_gives_the_same_numbers_one_model_at_a_time(together: Outcome, loads: Loads) -> None:
    pytest.importorskip("accelerate")
    outcome = run(settings_of(limit=PAIRS, batch_tokens=BATCH_TOKENS, device_map="auto"))
    assert outcome.table.equals(together.table)
    assert (loads.names, loads.most_alive) == ([str(POLICY), str(REF)], 1)
    assert {plan.path for plan in outcome.plans.values()} == {"packed"}
    assert outcome.manifest["settings"]["models"]["device_map"] == "auto"
    assert outcome.manifest["models"] == together.manifest["models"]


def test_a_reference_equal_to_the_policy_is_neither_loaded_nor_scored(loads: Loads) -> None:
    outcome = run(settings_of(REF, REF, limit=2))
    assert loads.names == [str(REF)]
    assert list(outcome.plans) == ["policy"]
    assert set(roles(outcome.batches)) == {"policy"}
    for side in ("chosen", "rejected"):
        policy, ref = (outcome.table[f"{role}_{side}_token_logps"] for role in ("policy", "ref"))
        assert policy.equals(ref)
