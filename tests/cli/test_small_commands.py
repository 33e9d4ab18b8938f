"""`losses`, `cache`, and report files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from prefscope.preference import losses as _losses  # noqa: F401 (registers the losses)
from prefscope.preference.diagnostics import DIAGNOSTICS
from prefscope.preference.registry import LOSSES, listed_losses

Program = Callable[..., tuple[int, str, str]]


def test_losses_lists_every_loss_with_its_formula_source_and_parameters(program: Program) -> None:
    code, out, err = program("losses")
    assert (code, err) == (0, "")
    for loss in LOSSES.values():
        assert f"\n{loss.name}: {loss.title}" in out
        assert f"  formula  {loss.formula}\n  source   {loss.source}\n" in out
        for knob in loss.parameters:
            assert f"  {knob.name} = {knob.default:g}, from {knob.low:g} to {knob.high:g}: {knob.meaning}" in out


def test_losses_as_json_are_the_same_list(program: Program) -> None:
    found = json.loads(program("losses", "--json")[1])
    assert found["schema"] == 1
    assert list(found["losses"]) == [loss.name for loss in listed_losses()]
    assert found["losses"]["simpo"]["needs_reference"] is False
    assert found["losses"]["dpo"]["parameters"]["beta"]["default"] == 0.1


def test_cache_reports_that_there_is_no_store_yet(program: Program) -> None:
    assert program("cache", "--cache", "here") == (0, "here/logps.sqlite: does not exist yet\n", "")


@pytest.mark.slow
def test_cache_shows_what_a_run_left_and_clears_it(program: Program, samples: Path) -> None:
    program("score", samples / "pairs.jsonl", "--limit", "2", "--cache", "here")
    shown, cleared, empty = (program("cache", "--cache", "here", *more)[1] for more in ((), ("--clear",), ()))
    assert shown.startswith("here/logps.sqlite: 8 sequences, ")
    assert shown.endswith(" MB, 0 unfinished runs\n")
    assert cleared.startswith("here/logps.sqlite: 0 sequences, ")
    assert empty.startswith("here/logps.sqlite: 0 sequences, ")


@pytest.mark.slow
def test_after_clearing_the_cache_everything_is_computed_again(program: Program, samples: Path) -> None:
    run = ("score", samples / "pairs.jsonl", "--limit", "2", "--cache", "here")
    program(*run)
    program("cache", "--cache", "here", "--clear")
    assert "policy: 4 of 4 sequences to compute" in program(*run)[2]


def test_a_markdown_report_refers_to_nothing_outside(program: Program, ledger: Path) -> None:
    code, out, err = program("report", ledger, "-o", "r.md")
    text = Path("r.md").read_text(encoding="utf-8")
    assert (code, out, err) == (0, "", "")
    assert text.startswith("# prefscope report\n")
    assert "| rewards/margins | " in text
    assert "](" not in text
    assert "http" not in text


def test_an_html_report_refers_to_nothing_outside(program: Program, ledger: Path) -> None:
    code, out, err = program("report", ledger, "-o", "r.html")
    text = Path("r.html").read_text(encoding="utf-8")
    assert (code, out, err) == (0, "", "")
    assert text.startswith("<!DOCTYPE html>")
    assert "rewards/margins" in text
    assert [word for word in ("http:", "https:", "src=", "href=", "@import", "url(") if word in text] == []


def test_a_report_has_subsets_by_a_column(program: Program, ledger: Path) -> None:
    code, out, _ = program("report", ledger, "--by", "split")
    assert code == 0
    assert "Subsets by split" in out


def test_subsets_by_an_unknown_column_suggest_the_nearest(program: Program, ledger: Path) -> None:
    code, out, err = program("report", ledger, "--by", "categry")
    assert (code, out) == (2, "")
    assert err == "prefscope: There is no column 'categry' to group by. Try category.\n"


def test_a_report_without_the_diagnosis_has_none(program: Program, ledger: Path) -> None:
    assert "Diagnosis" in program("report", ledger)[1]
    assert "Diagnosis" not in program("report", ledger, "--no-diagnosis")[1]
    assert "diagnosis" not in json.loads(program("report", ledger, "--no-diagnosis", "--json")[1])


def test_json_has_the_figures_of_every_finding(program: Program, ledger: Path) -> None:
    found = json.loads(program("report", ledger, "--json", "--by", "split")[1])
    assert list(found["diagnosis"]) == ["pairs", "left_out", *DIAGNOSTICS]
    assert found["diagnosis"]["displacement"]["pairs"] == found["pairs"]
    assert [one["value"] for one in found["subsets"]["split"]["groups"]] == ["train", "held_out"]


def test_no_report_is_written_over_the_ledger(program: Program, ledger: Path) -> None:
    Path("r.html").symlink_to(ledger)
    before = ledger.read_bytes()
    code, _, err = program("report", ledger, "-o", "r.html")
    assert (code, ledger.read_bytes() == before) == (2, True)
    assert "r.html: this is the ledger itself" in err


def test_a_picture_of_a_report_refers_to_nothing_outside(program: Program, ledger: Path) -> None:
    code, out, err = program("report", ledger, "-o", "r.svg")
    text = Path("r.svg").read_text(encoding="utf-8")
    assert (code, out, err) == (0, "", "")
    assert text.startswith("<svg ")
    assert "rewards/margins" in text
    assert [word for word in ("@font-face", "url(http", "src=", "href=", "<script") if word in text] == []


def test_a_report_in_a_file_has_the_numbers_of_the_terminal(program: Program, ledger: Path) -> None:
    shown = program("report", ledger, "--beta", "0.3")[1]
    program("report", ledger, "-o", "r.md", "--beta", "0.3")
    line = next(line for line in shown.splitlines() if line.startswith("rewards/margins"))
    row = next(line for line in Path("r.md").read_text().splitlines() if line.startswith("| rewards/margins"))
    assert line.split()[1:] == row.replace("|", "").split()[1:]
