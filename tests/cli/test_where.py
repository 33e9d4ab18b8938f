"""`--where` selects the same pairs for tables and reports."""

from __future__ import annotations

import csv
import html
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from prefscope.ledger.marks import Mark, load_marks
from prefscope.ledger.table import load_ledger

Program = Callable[..., tuple[int, str, str]]
WRONG = "margin < 0 and len_c > len_r"


@pytest.fixture
def demo(samples: Path) -> Path:
    return samples / "demo.parquet"


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_export_writes_the_matching_pairs_and_reports_their_number(program: Program, demo: Path) -> None:
    _, whole, _ = program("export", demo, "-o", "-")
    code, part, message = program("export", demo, "-o", "-", "--where", WRONG)
    expected = [
        row
        for row in table(whole)
        if float(row["margins"]) < 0 and int(row["chosen_num_tokens"]) > int(row["rejected_num_tokens"])
    ]
    assert code == 0
    assert table(part) == expected
    assert 0 < len(expected) < 170
    assert message == f"{len(expected)} of 170 pairs match {WRONG}\n"


def test_a_report_is_of_the_pairs_that_match(program: Program, demo: Path) -> None:
    code, out, _ = program("report", demo, "--json", "--where", WRONG)
    summary = json.loads(out)
    assert code == 0
    assert summary["outcomes"]["win"] == summary["outcomes"]["tie"] == 0
    assert summary["pairs"] == summary["outcomes"]["loss"] > 0
    assert all(pair["value"] < 0 for pair in summary["worst"])
    assert (summary["scope"], summary["pairs_in_ledger"]) == (WRONG, 170)


@pytest.mark.parametrize("name", ["", "report.md", "report.html"])
def test_a_report_names_its_scope(program: Program, demo: Path, tmp_path: Path, name: str) -> None:
    output = ["-o", str(tmp_path / name)] if name else []
    _, out, _ = program("report", demo, "--where", 'category == "math"', *output)
    text = html.unescape((tmp_path / name).read_text(encoding="utf-8")) if name else out
    assert 'scope: category == "math"' in text
    assert "17 of 170 pairs of " in text


def test_a_report_of_all_pairs_has_no_scope(program: Program, demo: Path) -> None:
    assert "scope" not in json.loads(program("report", demo, "--json")[1])


def test_filters_can_use_the_data_sets_own_columns_and_texts(program: Program, demo: Path) -> None:
    _, out, _ = program("export", demo, "-o", "-", "--texts", "--where", 'split == "train" and prompt ~ "python"')
    rows = table(out)
    assert rows
    assert all(row["split"] == "train" and "python" in row["prompt"].lower() for row in rows)


def test_beta_and_losses_apply_to_the_expression_too(program: Program, demo: Path) -> None:
    counts = [
        len(table(program("export", demo, "-o", "-", "--beta", beta, "--where", "abs(margin) > 1")[1]))
        for beta in ("0.01", "0.1", "1")
    ]
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]


def test_filters_can_use_marks(program: Program, demo: Path, tmp_path: Path) -> None:
    path = tmp_path / "copy.parquet"
    path.write_bytes(demo.read_bytes())
    ledger = load_ledger(path)
    load_marks(path).change({(str(ledger.stored["pair_id"][7]), int(ledger.occurrences[7])): Mark("drop")})
    _, out, _ = program("export", path, "-o", "-", "--where", "mark(drop)")
    assert [row["row"] for row in table(out)] == ["7"]


def test_a_value_that_a_column_never_has_is_reported(program: Program, demo: Path) -> None:
    code, out, message = program("export", demo, "-o", "-", "--where", 'category == "maths"')
    assert (code, len(out.splitlines())) == (0, 1)
    note, count = message.splitlines()
    assert note.startswith('note: category is never "maths"; it has: math ')
    assert count == '0 of 170 pairs match category == "maths"'


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_exports_of_a_ledger_with_marks_have_them(program: Program, demo: Path, tmp_path: Path, suffix: str) -> None:
    import pandas as pd

    path = tmp_path / "copy.parquet"
    path.write_bytes(demo.read_bytes())
    marks = load_marks(path)
    first, second = load_ledger(path).ids_at(np.array([2, 5]))
    marks.change({first: Mark("swap"), second: Mark("drop", 'a typo, "here"')})
    output = tmp_path / f"out.{suffix}"
    code, _, err = program("export", path, "-o", output, "--where", "row < 6")
    assert code == 0, err
    if suffix == "jsonl":
        found = pd.read_json(output, lines=True)
    else:
        found = pd.read_csv(output) if suffix == "csv" else pd.read_parquet(output)
    assert [*found.columns][-3:] == ["flags", "mark", "mark_note"]  # the data set has a note, too
    assert found["mark"].fillna("").tolist() == ["", "", "swap", "", "", "drop"]
    assert found["mark_note"].fillna("").tolist() == ["", "", "", "", "", 'a typo, "here"']


def test_a_search_of_the_texts_is_part_of_an_expression(program: Program, demo: Path) -> None:
    where = 'has("PYTHON") and not matches("pyth.n.*list")'
    _, out, _ = program("export", demo, "-o", "-", "--texts", "--where", where)
    rows = table(out)
    assert rows
    assert all("python" in f"{row['prompt']} {row['chosen']} {row['rejected']}".lower() for row in rows)


def test_no_match_gives_a_table_of_its_header_alone(program: Program, demo: Path) -> None:
    code, out, message = program("export", demo, "-o", "-", "--where", "margin > 1e9")
    assert (code, len(out.splitlines())) == (0, 1)
    assert message.startswith("0 of 170 pairs match")


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_no_match_writes_an_empty_table_into_every_format(program: Program, demo: Path, suffix: str) -> None:
    code, _, _ = program("export", demo, "-o", f"none.{suffix}", "--where", "false")
    assert code == 0
    assert Path(f"none.{suffix}").exists()


def test_a_report_of_no_pair_says_nan_and_does_not_fail(program: Program, demo: Path) -> None:
    code, out, _ = program("report", demo, "--where", "false")
    assert code == 0
    assert "0 pairs of" in out


@pytest.mark.parametrize("command", [["export", "-o", "-"], ["report"]], ids=["export", "report"])
def test_an_error_points_at_the_place_and_suggests_a_column(program: Program, demo: Path, command: list[str]) -> None:
    code, out, message = program(command[0], demo, *command[1:], "--where", "len_c > 3 and margni < 0")
    assert (code, out) == (2, "")
    assert message.splitlines() == [
        'prefscope: There is no column margni. Did you mean margin or margins? Texts must be in quotes: "margni".',
        "  len_c > 3 and margni < 0",
        "                ^^^^^^",
    ]


def test_columns_of_another_run_exist_only_on_the_screens(program: Program, demo: Path) -> None:
    code, out, message = program("export", demo, "-o", "-", "--where", "margin <= 0 and margin_b > 0")
    assert (code, out) == (2, "")
    assert "There is no column margin_b. Did you mean margin" in message
