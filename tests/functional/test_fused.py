"""Runs with fused kernels: what the ledger, the store and the user learn of them, and how to do without."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from prefscope.scoring.engine import compute_scope
from prefscope.settings import ScoreSettings
from tests.functional.runs import NATS_A_TOKEN, Outcome, largest_difference, run, settings_of
from tests.numerics.substitutes import install, rms_norm, substitutes

pytestmark = pytest.mark.slow

Program = Callable[..., tuple[int, str, str]]


def off_in_long_rows(values: Tensor, *others: Any) -> Tensor:
    found = rms_norm(values, *others)
    return found.roll(1, -2) if values.shape[-2] > 16 else found


def unfused(settings: ScoreSettings) -> ScoreSettings:
    return replace(settings, compute=replace(settings.compute, fused=False))


def kernels(outcome: Outcome) -> list[str | None]:
    return [model.get("kernels") for model in outcome.manifest["models"].values()]


def test_a_run_uses_fused_kernels_and_the_ledger_names_them(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    install(monkeypatch, substitutes(calls))
    outcome = run(settings_of(limit=3))
    assert kernels(outcome) == ["triton 3.9.0"] * 2
    assert {*calls} == {"norm", "gate", "rotary", "logps"}
    calls.clear()
    again = run(settings_of(limit=3))
    assert kernels(again) == ["triton 3.9.0"] * 2
    assert (again.batches, calls) == ([], [])


def test_without_fused_kernels_the_models_own_code_computes_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    install(monkeypatch, substitutes(calls))
    with_them = run(settings_of(limit=3))
    calls.clear()
    without = run(unfused(settings_of(limit=3)))
    assert (kernels(without), calls) == ([None, None], [])
    assert [plan.missing for plan in without.plans.values()] == [6, 6]  # the store keeps them apart
    for role in ("policy", "ref"):
        assert largest_difference(with_them.token_logps(role), without.token_logps(role)) < NATS_A_TOKEN


def test_a_model_that_fails_with_fused_kernels_is_scored_without_and_a_note_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = run(settings_of(ref="none", limit=3, cache="other"))
    install(monkeypatch, substitutes(rms_norm=off_in_long_rows))
    outcome = run(settings_of(ref="none", limit=3))
    model = outcome.manifest["models"]["policy"]
    assert (model["path"], "kernels" in model) == ("packed", False)
    reason = "one response leaks into others in a packed row"
    assert model["unfused"] == reason
    (note,) = [note for note in outcome.notes if "fused kernels" in note]
    assert note.startswith(f"Warning: fused kernels are not used for the policy, because with them {reason}.")
    np.testing.assert_array_equal(outcome.token_logps("policy"), expected.token_logps("policy"))
    assert note in run(settings_of(ref="none", limit=3)).notes


def test_the_option_turns_fused_kernels_off(program: Program, samples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    install(monkeypatch, substitutes(calls))
    models = ("--policy", samples / "tiny-policy", "--ref", "none")
    command = ("score", samples / "pairs.jsonl", *models, "--limit", "1", "--cache", "cache")
    assert program(*command, "--no-fused", "-o", "without.parquet")[0] == 0
    assert calls == []
    Path("prefscope.toml").write_text("no-fused = true\n", encoding="ascii")
    assert program(*command, "-o", "without.parquet")[0] == 0
    assert calls == []
    Path("prefscope.toml").unlink()
    assert program(*command, "-o", "with.parquet")[0] == 0
    assert "norm" in calls


def test_kernels_of_other_packages_have_other_store_keys() -> None:
    def scope(**others: Any) -> bytes:
        return compute_scope(
            fingerprint="",
            dtype="float32",
            device=torch.device("cpu"),
            path="packed",
            attention="",
            processes=1,
            **others,
        )

    assert scope() == scope(kernels="")
    assert len({scope(), scope(kernels="triton 3.9.0"), scope(kernels="triton 3.9.0, liger_kernel 0.8.5")}) == 3
