"""The explanation of a pair of a ledger: its words say only what the numbers support."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from prefscope.ledger.pairing import PairedView, Pairing
from prefscope.ledger.table import Ledger, load_ledger
from prefscope.ledger.view import View
from prefscope.report.explained import ExplainedPair, explain_pair, margin_of, position_of, similar_pairs
from prefscope.report.explanation_sections import explanation_json, explanation_tables
from prefscope.report.explanation_words import excerpt, in_words
from prefscope.report.nearest import PromptIndex
from prefscope.settings import LossChoice, PreferenceSettings
from tests.tui.pair_app import write_session

NAN = float("nan")


def view_of(path: Path, *pairs: dict[str, Any], **more: Any) -> View:
    session = write_session(path / "ledger.parquet", pairs or [{}], **more)
    return View(session.ledger, PreferenceSettings())


def words(pair: ExplainedPair) -> str:
    return "\n".join(line.text for line in in_words(pair))


def tokens(*changes: float) -> list[tuple[str, float, float]]:
    return [(f"w{at}", -1.0, -1.0 - change) for at, change in enumerate(changes)]


@pytest.fixture
def demo(samples: Path) -> PairedView:
    a, b = (load_ledger(samples / name) for name in ("demo.parquet", "demo-early.parquet"))
    return PairedView(a, PreferenceSettings(), None, b, Pairing(a, b))


def test_a_wrong_pair_of_the_demo_is_explained_in_nine_lines(demo: PairedView) -> None:
    pair = explain_pair(demo, 115, "early")
    lines = [line.text for line in in_words(replace(pair, similar=similar_pairs(demo, PromptIndex(demo.ledger), 115)))]
    assert lines == [
        "Ranked wrong by 0.234: the policy lowered the chosen response (−0.060) and raised the rejected one (+0.174).",
        (
            "Most against the chosen response: the rejected response's 1st sentence “In most cases not before yo…” "
            "−0.093 and its 3rd sentence “Then talk about that wish,…” −0.043."
        ),
        "By region: first difference +0.007, middle −0.219, shared ending +0.002, end token −0.024.",
        "Gross plus +0.068, gross minus −0.303: 37% cancels.",
        (
            "Length: +0.028 comes from the rejected response's 50 more tokens (−0.0006 each on average), −0.262 from "
            "the difference per token."
        ),
        "The noise floor of this ledger was not measured (score --noise-floor).",
        (
            "Run B (early) has −0.065; the difference is −0.169, most of all in the rejected response's 1st sentence "
            "(−0.059)."
        ),
        (
            "Tokens that moved most since run B: chosen “<|im_end|>” −0.023, rejected “offer” −0.018, chosen “her” "
            "−0.015."
        ),
        "No other prompt is similar.",
    ]


def test_the_parts_of_every_pair_of_the_demo_add_up_to_the_margin_that_is_shown(demo: PairedView) -> None:
    margins = demo.column("margins")
    for position in range(demo.ledger.num_pairs):
        found = explain_pair(demo, position).explanation
        assert found is not None
        assert found.parts is not None
        assert sum(one.effect for one in found.parts.sentences) == pytest.approx(margins[position], abs=1e-6)
        assert sum(one.effect for one in found.parts.regions) == pytest.approx(margins[position], abs=1e-6)
        assert margin_of(demo, position) == pytest.approx(margins[position], abs=1e-9)


@pytest.mark.parametrize(
    ("chosen", "rejected", "said"),
    [
        ((1.0,), (3.0,), "wrong by 0.200: the policy raised both responses, the rejected one more (chosen +0.100, "),
        ((-1.0,), (-3.0,), "right by 0.200: the policy lowered both responses, the rejected one more (chosen −0.100, "),
        (
            (1.0,),
            (-1.0,),
            "right by 0.200: the policy raised the chosen response (+0.100) and lowered the rejected one",
        ),
        ((0.0,), (1.0,), "wrong by 0.100: the policy left the chosen response (0.000) and raised the rejected one"),
        ((1.0,), (1.0,), "A tie: the policy moved both responses alike"),
        ((0.0,), (0.0,), "A tie: the policy gives both responses the reference's log-probs."),
        ((0.0,), (0.001,), "Ranked wrong by 0.0001"),
    ],
)
def test_the_verdict_says_how_the_policy_moved_the_responses(
    tmp_path: Path, chosen: tuple[float, ...], rejected: tuple[float, ...], said: str
) -> None:
    view = view_of(tmp_path, {"chosen": tokens(*chosen), "rejected": [("z", *one[1:]) for one in tokens(*rejected)]})
    assert said in words(explain_pair(view, 0))


def test_an_unscored_pair_is_not_explained(tmp_path: Path) -> None:
    view = view_of(tmp_path, {"chosen": [("a", NAN, -1.0)]})
    pair = explain_pair(view, 0)
    assert pair.explanation is None
    assert words(pair) == "This pair is unscored: a log-prob is NaN or infinite, or not known yet."
    assert explanation_json(pair)["margin"] is None
    json.dumps(explanation_json(pair), allow_nan=False)


def test_without_tokens_the_margin_and_its_length_are_explained(tmp_path: Path) -> None:
    pair = explain_pair(view_of(tmp_path, has_tokens=False), 0)
    assert "Ranked right by 0.425" in words(pair)
    assert "more tokens" in words(pair)
    assert "There are no token log-probs in this ledger" in words(pair)
    assert explanation_tables(pair) == []


def test_without_a_reference_simpos_reward_is_explained_with_its_beta(tmp_path: Path) -> None:
    view = view_of(tmp_path, has_reference=False)
    preferences = PreferenceSettings(losses=(LossChoice("simpo", {"beta": 4.0}),))
    pair = explain_pair(View(view.ledger, preferences), 0)
    assert pair.explanation is not None
    assert pair.explanation.margin == pytest.approx(4 * (-6.5 / 4 + 5 / 2))
    assert words(pair).startswith(
        "Ranked right by 3.500, without a reference: 4 × mean log π (SimPO's reward) is −6.500"
    )
    assert "Length has no part in it: the reward is a mean over tokens." in words(pair)
    assert "noise" not in words(pair)


def test_sums_that_contradict_the_tokens_are_reported(tmp_path: Path) -> None:
    pair = explain_pair(view_of(tmp_path, {"policy_chosen_logps": -1.0}), 0)
    assert "The token log-probs add up to +0.425, but the ledger's sums to +0.975." in words(pair)


@pytest.mark.parametrize(
    ("floor", "said"), [(1.0, "The noise floor is ±0.1: it is not rounding."), (5.0, "within the noise floor of ±0.5")]
)
def test_a_margin_is_compared_with_the_noise_floor(tmp_path: Path, floor: float, said: str) -> None:
    view = view_of(tmp_path)
    view.ledger.manifest["noise"] = {"floor": floor}
    assert said in words(explain_pair(view, 0))


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"pairs": [{"pair_id": "f" * 16}]}, "Run B (b) does not have this pair."),
        ({"has_reference": False}, "Run B (b) has no reference, so the margins cannot be compared."),
        ({"pairs": [{"chosen": [("a", NAN, -1.0)]}]}, "Run B (b) has not scored this pair."),
        ({"pairs": [{"chosen": tokens(1.0)}]}, "Run B (b) has +0.450; the difference is −0.025."),
        ({}, "Run B (b) has +0.425; the difference is 0.000."),
    ],
    ids=["absent", "no reference", "unscored", "other tokens", "equal"],
)
def test_run_b_is_compared_where_it_can_be(tmp_path: Path, other: dict[str, Any], said: str) -> None:
    ours = write_session(tmp_path / "a.parquet", [{}]).ledger
    theirs = write_session(tmp_path / "b.parquet", other.pop("pairs", [{}]), **other).ledger
    view = PairedView(ours, PreferenceSettings(), None, theirs, Pairing(ours, theirs))
    assert said in words(explain_pair(view, 0, "b"))


def test_rows_are_found_by_their_number_in_the_data_set(tmp_path: Path) -> None:
    ledger: Ledger = write_session(tmp_path / "x.parquet", [{"row": 3}, {"row": 8}]).ledger
    assert [position_of(ledger, row) for row in (3, 8, 0)] == [0, 1, None]


@pytest.mark.parametrize("text", ["\x1b[2J", "\u202eabc", "[/foo]", "a\nb\tc", "\x9b31m"])
def test_hostile_texts_are_shown_safely(tmp_path: Path, text: str) -> None:
    view = view_of(tmp_path, {"chosen": [(text, -1.0, -2.0)], "prompt": text}, {"prompt": text})
    pair = replace(explain_pair(view, 0, text), similar=similar_pairs(view, PromptIndex(view.ledger), 0))
    shown = words(pair) + "".join(cell for table in explanation_tables(pair) for row in table.rows for cell in row)
    assert not {"\x1b", "\u202e", "\x9b", "\t"} & {*shown}


def test_a_long_text_is_cut() -> None:
    assert excerpt("x" * 10_000) == "x" * 27 + "…"
    assert excerpt(" short ") == "short"


def test_a_table_of_many_sentences_says_what_it_leaves_out(tmp_path: Path) -> None:
    many = [(f"w{at}.\n", -1.0, -1.0 - at / 100) for at in range(40)]
    tables = explanation_tables(explain_pair(view_of(tmp_path, {"chosen": many}), 0))
    assert tables[1].title == "By sentence"
    assert len(tables[1].rows) == 12
    assert tables[1].note.startswith("29 others add up to +")
