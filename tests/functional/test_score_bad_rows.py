"""Bad rows are all reported before any weights are read, and skipped only on request."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prefscope.ledger.table import load_ledger

Program = Callable[..., tuple[int, str, str]]
Rows = list[dict[str, Any]]


@pytest.fixture
def weightless(samples: Path, tmp_path: Path) -> list[str]:
    """Return options that name models without weights: reading the weights would fail."""
    path = shutil.copytree(samples / "tiny-policy", tmp_path / "weightless")
    (path / "model.safetensors").unlink()
    return ["--policy", str(path), "--ref", str(samples / "tiny-ref")]


@pytest.fixture
def mixed(rows: Rows, tmp_path: Path) -> Path:
    """Return a file with bad rows on lines 2, 4 and 5."""
    good = [json.dumps(row) for row in rows]
    lines = [good[0], "{broken", good[1], '{"prompt": "a", "chosen": "b"}', "[1]", good[2]]
    (tmp_path / "mixed.jsonl").write_text("\n".join(lines) + "\n")
    return tmp_path / "mixed.jsonl"


def test_every_bad_row_is_reported_with_its_line_before_weights_are_read(
    program: Program, mixed: Path, weightless: list[str]
) -> None:
    code, out, told = program("score", mixed, *weightless, "-o", "out.parquet")
    assert (code, out) == (2, "")
    lines = told.splitlines()
    assert lines[0] == f"prefscope: {mixed}: 3 rows cannot be read as preference pairs:"
    assert lines[1].startswith(f"  {mixed}:2: the line is not JSON")
    assert lines[2].startswith(f"  {mixed}:4: `rejected` is missing")
    assert lines[3] == f"  {mixed}:5: the row is a list, not an object"
    assert lines[4] == ("Nothing was scored. Fix the rows, or skip them with --skip-bad-rows.")
    assert not Path("out.parquet").exists()


def test_missing_weights_are_reported_when_no_row_is_bad(program: Program, pairs: Path, weightless: list[str]) -> None:
    code, _, told = program("score", pairs, *weightless)
    assert code == 2
    assert "there are no weights (.safetensors) in this folder" in told


def test_the_first_twenty_bad_rows_are_reported_in_full_and_the_rest_by_line(
    program: Program, weightless: list[str]
) -> None:
    Path("bad.jsonl").write_text("{broken\n" * 25)
    code, _, told = program("score", "bad.jsonl", *weightless)
    lines = told.splitlines()
    assert code == 2
    assert lines[0] == "prefscope: bad.jsonl: 25 rows cannot be read as preference pairs:"
    assert [line.split(": ")[0] for line in lines[1:21]] == [f"  bad.jsonl:{line}" for line in range(1, 21)]
    assert lines[21] == "  and lines 21, 22, 23, 24, 25"


def test_bad_rows_are_skipped_and_counted_on_request(program: Program, mixed: Path, models: list[str]) -> None:
    code, _, told = program("score", mixed, *models, "--skip-bad-rows", "-o", "out.parquet")
    ledger = load_ledger("out.parquet")
    assert code == 0
    assert f"{mixed}: 3 pairs" in told
    assert "3 bad rows skipped:" in told
    assert f"{mixed}:4: `rejected` is missing" in told
    assert ledger.manifest["data"]["bad_rows"] == 3
    assert ledger.stored["line"].tolist() == [1, 3, 6]
    assert ledger.stored["row"].tolist() == [0, 2, 5]


def test_a_data_set_of_only_bad_rows_cannot_be_skipped(program: Program, weightless: list[str]) -> None:
    Path("bad.jsonl").write_text("{broken\n" * 2)
    code, _, told = program("score", "bad.jsonl", *weightless, "--skip-bad-rows")
    assert code == 2
    assert told.startswith("prefscope: bad.jsonl: 2 rows cannot be read as preference pairs:")


def test_a_bad_row_beyond_the_limit_is_not_checked(program: Program, mixed: Path, models: list[str]) -> None:
    assert program("score", mixed, *models, "--limit", "1", "-o", "out.parquet")[0] == 0
    assert load_ledger("out.parquet").num_pairs == 1


def test_a_bad_row_outside_the_sample_is_still_reported(program: Program, mixed: Path, weightless: list[str]) -> None:
    code, _, told = program("score", mixed, *weightless, "--sample", "1")
    assert code == 2
    assert "3 rows cannot be read" in told


def test_the_reason_of_a_bad_row_cannot_steer_the_terminal(program: Program, weightless: list[str]) -> None:
    Path("bad.jsonl").write_text(json.dumps({"\x1b]52;c;aGk=\x07": 1}) + "\n")
    code, _, told = program("score", "bad.jsonl", *weightless)
    assert code == 2
    assert "\x1b" not in told
    assert "␛]52;c;aGk=␇" in told


def test_images_are_refused(
    program: Program, rows: Rows, weightless: list[str], write_jsonl: Callable[..., Path]
) -> None:
    data = write_jsonl("pictures.jsonl", [rows[0] | {"images": ["a.png"]}])
    code, _, told = program("score", data, *weightless)
    assert code == 2
    assert "images are not supported" in told


def test_conversations_without_a_chat_template_are_refused(
    program: Program, pairs: Path, weightless: list[str]
) -> None:
    Path(weightless[1], "chat_template.jinja").unlink()
    code, _, told = program("score", pairs, *weightless)
    assert code == 2
    assert told == (
        "prefscope: The data are conversations, but the tokenizer has no chat template. "
        "Pass one with --chat-template FILE.\n"
    )
