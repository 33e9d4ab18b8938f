"""A ledger of format 1 can always be opened, with exactly the stored numbers.

It was written by `prefscope score pairs.jsonl --policy tiny-policy --ref tiny-ref` from the first 12 bundled pairs; its
expectations lie beside it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from prefscope.ledger.table import Ledger, load_ledger
from prefscope.report.summary import summarise
from prefscope.settings import PreferenceSettings

FILE = Path(__file__).with_name("ledger-v1.parquet")
EXPECTED: dict[str, Any] = json.loads(FILE.with_suffix(".json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def ledger() -> Ledger:
    return load_ledger(FILE)


def leaves(value: Any, path: str = "") -> dict[str, Any]:
    """Return the leaves of JSON values by their path."""
    if isinstance(value, dict):
        return {key: leaf for name, item in value.items() for key, leaf in leaves(item, f"{path}/{name}").items()}
    if isinstance(value, list):
        return {key: leaf for i, item in enumerate(value) for key, leaf in leaves(item, f"{path}/{i}").items()}
    return {path: value}


def test_every_stored_number_is_the_same(ledger: Ledger) -> None:
    assert {name: ledger.stored[name].tolist() for name in EXPECTED["stored"]} == EXPECTED["stored"]


def test_the_summary_is_the_same(ledger: Ledger) -> None:
    summary = summarise(ledger, PreferenceSettings()).to_json()
    found = leaves(summary | {"losses": {loss["name"]: loss["spread"] for loss in summary["losses"]}})
    expected = leaves(EXPECTED["summary"])
    texts = {path: value for path, value in expected.items() if isinstance(value, str)}
    numbers = {path: value for path, value in expected.items() if path not in texts}
    assert {path: found[path] for path in texts} == texts
    assert {path: found[path] for path in numbers} == pytest.approx(numbers, rel=1e-12, abs=1e-12)


def test_texts_and_tokens_can_be_read(ledger: Ledger) -> None:
    pair = ledger.pair(1)
    assert pair["prompt"] == "[user]\nWhat is 17 times 24?"
    assert (pair["chosen"], pair["rejected"]) == ("408", "398")
    assert "".join(pair["chosen_tokens"]) == "408<|end|>"
    assert len(pair["policy_chosen_token_logps"]) == pair["chosen_num_tokens"]
    assert pair["category"] == "math"


def test_the_file_is_small() -> None:
    assert FILE.stat().st_size < 100_000
