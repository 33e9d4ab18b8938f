"""Runs with the wrong models, which the diagnosis of their ledgers has to find."""

from __future__ import annotations

from pathlib import Path

import pytest

from prefscope.ledger.table import load_ledger
from prefscope.ledger.view import View
from prefscope.preference.diagnostics import Conclusion
from prefscope.report.diagnosis import diagnose
from prefscope.settings import PreferenceSettings
from tests.functional.runs import POLICY, REF, run, settings_of
from tests.peers.adapters import save_adapter

pytestmark = pytest.mark.slow


def reference_of(policy: Path, ref: Path) -> Conclusion:
    """Score with two models, and return what the diagnosis concludes about the reference."""
    run(settings_of(policy, ref))
    view = View(load_ledger("ledger.parquet"), PreferenceSettings())
    return next(one.conclusion for one in diagnose(view, tokens=False).findings if one.diagnostic.name == "reference")


def test_a_base_that_is_scored_against_its_adapter_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    found = reference_of(REF, save_adapter("lora", REF, tmp_path))
    assert (found.warns, "base of the reference" in found.sentence) == (True, True)


def test_a_policy_and_a_reference_that_are_exchanged_are_found_by_their_margins(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    found = reference_of(REF, POLICY)
    assert (found.warns, "prefers the rejected" in found.sentence) == (True, True)


def test_a_base_model_before_fine_tuning_is_no_reference(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    found = reference_of(POLICY, REF.with_name("tiny-base"))
    assert (found.warns, "supervised fine-tuning" in found.sentence) == (True, True)


def test_the_right_models_are_fine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert not reference_of(POLICY, REF).warns
