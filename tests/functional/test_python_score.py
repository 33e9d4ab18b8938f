"""`prefscope.score` in Python: which models a call uses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import prefscope
from prefscope.errors import UsageError
from prefscope.settings import ModelSettings

SUMS = {f"{role}_{side}_logps": -1.5 for role in ("policy", "ref") for side in ("chosen", "rejected")}


def test_log_probs_in_the_file_are_used_without_a_policy(
    write_jsonl: Callable[..., Path], rows: list[dict[str, Any]]
) -> None:
    ledger = prefscope.score(write_jsonl("given.jsonl", [row | SUMS for row in rows]), output="ledger.parquet")
    assert ledger.stored["policy_chosen_logps"].tolist() == [-1.5] * len(rows)
    assert ledger.manifest["models"] == {}


def test_the_models_of_the_settings_are_used_without_a_policy(pairs: Path, samples: Path) -> None:
    settings = ModelSettings(str(samples / "tiny-ref"), "none")
    ledger = prefscope.score(pairs, model_settings=settings, output="ledger.parquet")
    assert ledger.manifest["models"]["policy"]["name"] == str(samples / "tiny-ref")
    assert not ledger.has_reference


@pytest.mark.parametrize(
    "given", [{"ref": "tiny-ref"}, {"model_settings": ModelSettings("", base="tiny-base")}], ids=["reference", "base"]
)
def test_a_reference_or_a_base_without_a_policy_is_refused(pairs: Path, given: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="--ref and --base need a --policy"):
        prefscope.score(pairs, **given, output="ledger.parquet")


def test_a_reference_without_a_policy_is_refused_even_if_the_file_has_log_probs(
    write_jsonl: Callable[..., Path], rows: list[dict[str, Any]]
) -> None:
    data = write_jsonl("given.jsonl", [json.loads(json.dumps(row)) | SUMS for row in rows])
    with pytest.raises(UsageError, match="--ref and --base need a --policy"):
        prefscope.score(data, ref="tiny-ref", output="ledger.parquet")
