"""`prefscope curate`: a scored data set is written with its marks applied."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prefscope.ledger.marks import Decision, Mark, load_marks
from prefscope.ledger.table import load_ledger

Program = Callable[..., tuple[int, str, str]]
MARKS: dict[int, Decision] = {0: "keep", 3: "drop", 5: "swap", 7: "drop"}


@pytest.fixture
def demo(samples: Path, tmp_path: Path) -> Path:
    """Return the demo ledger with some pairs marked."""
    path = tmp_path / "demo.parquet"
    shutil.copy(samples / "demo.parquet", path)
    ledger, marks = load_ledger(path), load_marks(path)
    for position, decision in MARKS.items():
        key = (str(ledger.stored["pair_id"][position]), int(ledger.occurrences[position]))
        marks.change({key: Mark(decision)})
    return path


@pytest.fixture
def expected(samples: Path) -> list[dict[str, Any]]:
    """Return the rows of the bundled data set as they are marked."""
    rows = [json.loads(line) for line in (samples / "pairs.jsonl").read_text(encoding="utf-8").splitlines()]
    rows[5] |= {"chosen": rows[5]["rejected"], "rejected": rows[5]["chosen"]}
    return [row for position, row in enumerate(rows) if MARKS.get(position) != "drop"]


def objects(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_the_data_set_is_written_with_its_marks_applied_and_counts_are_reported(
    program: Program, demo: Path, expected: list[dict[str, Any]]
) -> None:
    assert program("curate", demo, "-o", "curated.jsonl") == (
        0,
        "",
        "168 pairs to curated.jsonl; 2 dropped, 1 swapped\n",
    )
    assert objects(Path("curated.jsonl").read_text(encoding="utf-8")) == expected


def test_a_dash_writes_json_lines_to_stdout(program: Program, demo: Path, expected: list[dict[str, Any]]) -> None:
    code, out, message = program("curate", demo, "-o", "-")
    assert (code, message) == (0, "168 pairs to stdout; 2 dropped, 1 swapped\n")
    assert objects(out) == expected


def test_an_expression_picks_the_pairs_that_are_marked_keep_or_swap(
    program: Program, demo: Path, expected: list[dict[str, Any]]
) -> None:
    code, out, message = program("curate", demo, "-o", "-", "--where", "mark(keep) or mark(swap)")
    assert code == 0
    assert message == "2 of 170 pairs match mark(keep) or mark(swap)\n2 pairs to stdout; 0 dropped, 1 swapped\n"
    assert objects(out) == [expected[0], expected[4]]


def test_the_knobs_apply_to_the_expression(program: Program, demo: Path) -> None:
    counts = [
        len(program("curate", demo, "-o", "-", "--beta", beta, "--where", "margin > 0.5")[1].splitlines())
        for beta in ("0.1", "1")
    ]
    assert 0 < counts[0] < counts[1]


@pytest.mark.slow
def test_a_curated_data_set_can_be_scored_again(program: Program, demo: Path, samples: Path) -> None:
    program("curate", demo, "-o", "curated.csv", "--where", "row < 6")
    models = ["--policy", samples / "tiny-policy", "--ref", samples / "tiny-ref"]
    code, _, _ = program("score", "curated.csv", *models, "-o", "again.parquet", "--no-cache")
    assert code == 0
    before, after = load_ledger(demo).stored["pair_id"].tolist(), load_ledger(Path("again.parquet"))
    assert after.stored["pair_id"].tolist()[:4] == [before[0], before[1], before[2], before[4]]
    assert after.pair(4)["chosen"] == load_ledger(demo).pair(5)["rejected"]
