"""Sections of a report on a terminal: hostile texts stay harmless, and lines fit the width."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from prefscope.ledger.table import load_ledger
from prefscope.ledger.view import View
from prefscope.report.document import build_sections
from prefscope.report.sections import Plot, Section, headline, number
from prefscope.report.summary import summarise
from prefscope.report.tables import print_sections
from prefscope.settings import PreferenceSettings

WRONG = {"logps": (-50.0, -60.0, -50.0, -63.0)}
RIGHT = {"logps": (-50.0, -60.0, -52.0, -58.0)}
HOSTILE = "\x1b]52;c;aGk=\x07\x9b31m\u202e[b]</td><script>"


def built(path: Path, width: int = 80) -> tuple[list[str], list[Section]]:
    ledger, preferences = load_ledger(path), PreferenceSettings()
    summary = summarise(ledger, preferences)
    return headline(summary), build_sections(summary, View(ledger, preferences), width)


def printed(path: Path, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False, markup=False, emoji=False)
    print_sections(console, *built(path, width))
    return str(console.file.getvalue())  # type: ignore[attr-defined]  # the StringIO above


@pytest.fixture
def hostile(write_pairs: Callable[..., Path]) -> Path:
    pair = WRONG | {"prompt": HOSTILE, "chosen": HOSTILE, "rejected": HOSTILE}
    model = {"name": HOSTILE, "base": None, "fingerprint": "", "stored_dtype": "float32", "attention": "sdpa"}
    manifest: dict[str, Any] = {"data": {"source": HOSTILE}, "models": {"policy": model, "ref": model}}
    return write_pairs([pair, RIGHT], manifest=manifest)


def test_no_control_of_a_text_or_a_name_reaches_the_terminal(hostile: Path) -> None:
    text = printed(hostile)
    assert re.findall(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text) == []
    assert "␛]52;c;aGk=␇" in text


def test_no_control_of_a_forged_ledger_reaches_the_terminal(write_pairs: Callable[..., Path]) -> None:
    compute = {"dtype": HOSTILE, "device": HOSTILE, "matrix_products": "", "numerics_version": 1}
    path = write_pairs([WRONG | {"flags": HOSTILE}], manifest={"compute": compute})
    assert "\x1b" not in printed(path)


def test_markup_in_a_text_is_shown_literally(hostile: Path) -> None:
    assert "[b]</td><script>" in printed(hostile)


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 150])
def test_no_line_is_wider_than_the_terminal(write_pairs: Callable[..., Path], width: int) -> None:
    path = write_pairs([WRONG | {"prompt": "漢字" * 40, "flags": "truncated;no_eos"}, RIGHT])
    lines = printed(path, width).splitlines()[3:]  # the headline is not cut: paths in it can be copied
    assert [line for line in lines if cell_len(line) > width] == []


def test_on_a_wide_terminal_plots_are_side_by_side(write_pairs: Callable[..., Path]) -> None:
    path = write_pairs([WRONG, RIGHT])
    assert [sum(isinstance(section, Plot) for section in built(path, width)[1]) for width in (99, 100)] == [2, 1]


def test_without_a_reference_the_plots_show_mean_log_probs(write_pairs: Callable[..., Path]) -> None:
    path = write_pairs([{"logps": (-50.0, -60.0, None, None)}], manifest={"has_reference": False})
    titles = [section.title for section in built(path, 120)[1]]
    assert titles == ["Summary", "Losses", "Mean log-probs, nats per token", "Pairs with the largest loss"]


def test_without_a_reference_and_token_counts_there_is_no_plot(write_pairs: Callable[..., Path]) -> None:
    pair = {"logps": (-50.0, -60.0, None, None), "chosen_num_tokens": -1, "rejected_num_tokens": -1}
    path = write_pairs([pair], manifest={"has_reference": False})
    assert [section.title for section in built(path)[1]] == ["Summary"]


def test_the_headline_names_the_data_and_the_models(write_pairs: Callable[..., Path]) -> None:
    assert built(write_pairs([WRONG, RIGHT]))[0] == [
        "policy policy   reference reference",
        "computed in float32 on cpu, stored as float32",
        "2 pairs of pairs.jsonl   beta 0.1",
    ]


def test_the_headline_begins_with_the_note_on_bundled_models(write_pairs: Callable[..., Path]) -> None:
    first = built(write_pairs([WRONG], manifest={"bundled": True}))[0][0]
    assert first == "No --policy was given: this is a demonstration with the bundled tiny models."


def test_the_headline_of_log_probs_from_a_file_names_no_model(write_pairs: Callable[..., Path]) -> None:
    assert built(write_pairs([WRONG], manifest={"models": {}}))[0][0].startswith("log-probs from the file")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.0000"),
        (-0.51234, "-0.5123"),
        (999.99, "999.9900"),
        (1234567.89, "1,234,567.9"),
        (0.000123456, "0.000123"),
        (-1e-12, "-1e-12"),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
    ],
)
def test_a_number_for_people_has_the_digits_that_matter(value: float, text: str) -> None:
    assert number(value) == text


def test_ties_within_noise_are_shown_below_the_outcomes_only_if_measured(
    write_pairs: Callable[..., Path],
) -> None:
    noise = {"pairs": 64, "floor": 3.5, "float32_floor": 0.25}
    message = printed(write_pairs([RIGHT, WRONG], manifest={"noise": noise}))
    assert "\n1 of 2 pairs lie within the noise floor of ±0.3500: ties within noise\n" in message
    assert "\n99% of the margins in float32 are within ±0.0250 of those in float32\n" in message
    assert "noise" not in printed(write_pairs([RIGHT, WRONG], name="quiet.parquet"))
