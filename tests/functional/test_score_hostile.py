"""Text from a data set is scored like any other and never steers the terminal."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prefscope.ledger.table import load_ledger

Program = Callable[..., tuple[int, str, str]]
CONTROLS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]")
TEXTS = {
    "clear screen": "\x1b[2J\x1b[H",
    "clipboard": "\x1b]52;c;aGVsbG8=\x07",
    "C1": "\x9b31m\x9d0;title\x9c",
    "bidi": "\u202etxet\u202c",
    "tags": "\U000e0041\U000e007f",
    "markup": "[red]x[/red] [link=http://x.example]y[/link]",
    "wide": "日本語 👩\u200d👩\u200d👧 e\u0301",
    "zero": "a\x00b",
}


def row_of(text: str) -> dict[str, Any]:
    """Return a pair with the text in every field, which the tiny policy may rank wrong or right."""
    user, chosen, rejected = f"{text} why?", f"Because {text}", f"{text}. I think that is so."
    return {
        "prompt": [{"role": "user", "content": user}],
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
        "note": text,
    }


@pytest.fixture
def hostile(write_jsonl: Callable[..., Path]) -> Path:
    """Return a data set of hostile texts, each also with its responses exchanged, so that some are ranked wrong."""
    rows = [row_of(text) for text in TEXTS.values()]
    exchanged = [row | {"chosen": row["rejected"], "rejected": row["chosen"]} for row in rows]
    return write_jsonl("hostile.jsonl", rows + exchanged)


def test_no_output_of_a_run_has_control_characters_of_the_texts(
    program: Program, hostile: Path, models: list[str]
) -> None:
    code, out, err = program("score", hostile, *models, "-o", "out.parquet")
    assert code == 0
    assert "Worst-ranked pairs" in out
    assert CONTROLS.findall(out + err) == []


def test_json_on_stdout_escapes_every_control_character(program: Program, hostile: Path, models: list[str]) -> None:
    _, out, _ = program("score", hostile, *models, "--json")
    assert re.findall(r"[\x00-\x09\x0b-\x1f]", out) == []
    assert json.loads(out)["pairs"] == 2 * len(TEXTS)


def test_the_ledger_and_the_table_keep_texts_unchanged(program: Program, hostile: Path, models: list[str]) -> None:
    program("score", hostile, *models, "-o", "out.parquet", "-o", "out.csv", "--texts")
    ledger = load_ledger("out.parquet")
    with Path("out.csv").open(newline="", encoding="utf-8") as stream:
        cells = list(csv.DictReader(stream))
    for i, text in enumerate(TEXTS.values()):
        pair = ledger.pair(i)
        assert (pair["prompt"], pair["chosen"]) == (f"[user]\n{text} why?", f"Because {text}")
        assert (cells[i]["note"], cells[i]["chosen"]) == (text, f"Because {text}")


def test_a_hostile_file_name_is_shown_safely(
    program: Program, rows: list[dict[str, Any]], models: list[str], write_jsonl: Callable[..., Path]
) -> None:
    data = write_jsonl("a\x1b]52;c;aGk=\x07.jsonl", rows[:1])
    _, out, err = program("score", data, *models, "-o", "out.parquet")
    assert CONTROLS.findall(out + err) == []


@pytest.mark.parametrize("numbers", [{}, {"policy_chosen_logps": -1.0, "policy_rejected_logps": -2.0}])
def test_a_lone_surrogate_makes_a_bad_row(
    program: Program, numbers: dict[str, float], write_jsonl: Callable[..., Path]
) -> None:
    data = write_jsonl("half.jsonl", [{"prompt": "a", "chosen": "b\ud800", "rejected": "c"} | numbers])
    code, out, err = program("score", data)
    assert (code, out) == (2, "")
    assert "  half.jsonl:1: the row contains half of a character, a lone surrogate (\\ud800)\n" in err


def test_a_worker_runs_no_code_of_the_working_folder(program: Program, pairs: Path, models: list[str]) -> None:
    for name in ("torch", "numpy", "prefscope"):
        Path(f"{name}.py").write_text("open('ran', 'w').close()", encoding="utf-8")
    code, _, err = program("score", pairs, *models, "--workers", "1", "-o", "out.parquet")
    assert (code, Path("ran").exists()) == (0, False), err
