"""The pairs of a data set can be restored from its ledger."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from prefscope.data.checks import lint_pairs
from prefscope.data.records import PreferencePair
from prefscope.ledger.source_pairs import source_pairs
from prefscope.ledger.table import load_ledger


def test_pairs_of_a_ledger_equal_those_read_and_lint_the_same(
    samples: Path, bundled_pairs: list[PreferencePair]
) -> None:
    pairs = list(source_pairs(load_ledger(samples / "demo.parquet")))
    assert [pair.pair_id for pair in pairs] == [pair.pair_id for pair in bundled_pairs]
    assert lint_pairs(pairs).to_json() == lint_pairs(bundled_pairs).to_json()


def test_texts_are_used_if_the_source_row_gives_no_pair(write_pairs: Callable[..., Path]) -> None:
    path = write_pairs([{"logps": (-1.0, -2.0, -1.0, -2.0), "prompt": "Why?", "chosen": "So.", "rejected": "No."}])
    (pair,) = source_pairs(load_ledger(path))
    assert (pair.row, pair.line, pair.prompt, pair.chosen, pair.rejected) == (0, 1, "Why?", "So.", "No.")
