"""Shortcuts that give the label away: a phrase, white space, length."""

from __future__ import annotations

import pytest

from prefscope.data.checks import lint_pairs
from prefscope.data.records import PreferencePair
from tests.unit.data.checked import findings, pair, rows_of, sentence


def with_phrase(side: str, told: int, other: int) -> list[PreferencePair]:
    """Return 200 pairs, some with a phrase in one response and some with it in the other."""
    pairs = []
    for row in range(200):
        texts = {"chosen": sentence(3 * row + 1), "rejected": sentence(3 * row + 2)}
        name = side if row < told else "chosen" if side == "rejected" else "rejected"
        if row < told + other:
            texts[name] = f"As an AI language model, {texts[name]}"
        pairs.append(pair(row, **texts))
    return pairs


@pytest.mark.parametrize("side", ["chosen", "rejected"])
def test_a_phrase_that_predicts_the_label_is_found_whole_with_exact_counts(side: str) -> None:
    report = lint_pairs(with_phrase(side, 40, 1))
    assert rows_of(report) == {"telling_phrase": list(range(40))}
    found = findings(report)["telling_phrase"].found
    (example,) = found.examples
    assert example.excerpt == f"“as an ai language model” is in {side} in 40 of 41 pairs"
    (phrase,) = found.figures["phrases"]
    assert (phrase["phrase"], phrase["side"], phrase["pairs"], phrase["telling"]) == (
        "as an ai language model",
        side,
        41,
        40,
    )
    assert phrase["p_value"] < 1e-6


@pytest.mark.parametrize(
    ("told", "other"), [(9, 0), (40, 4)], ids=["in too few pairs", "in the other response too often"]
)
def test_a_phrase_that_does_not_predict_the_label_is_not_a_shortcut(told: int, other: int) -> None:
    assert rows_of(lint_pairs(with_phrase("rejected", told, other))) == {}


def test_words_of_long_responses_are_not_shortcuts() -> None:
    pairs = [pair(row, chosen=sentence(3 * row + 1, 300), rejected=sentence(3 * row + 2, 5)) for row in range(200)]
    found = findings(lint_pairs(pairs))
    assert "length_bias" in found
    assert "telling_phrase" not in found


def test_phrases_in_scripts_without_spaces_are_sequences_of_characters() -> None:
    pairs = [pair(row, rejected=f"作为人工智能 {sentence(3 * row + 2)}") for row in range(40)]
    (example,) = findings(lint_pairs(pairs))["telling_phrase"].found.examples
    assert example.excerpt == "“作为人工智能” is in rejected in 40 of 40 pairs"


def spaced(only_chosen: int, only_rejected: int, both: int) -> list[PreferencePair]:
    """Return 100 pairs, some of which have responses that end with white space."""
    ends = [("\n", "")] * only_chosen + [("", "\n")] * only_rejected + [("\n", "\n")] * both
    ends += [("", "")] * (100 - len(ends))
    return [
        pair(row, chosen=sentence(3 * row + 1) + first, rejected=sentence(3 * row + 2) + second)
        for row, (first, second) in enumerate(ends)
    ]


def test_white_space_that_separates_the_sides_is_reported_with_its_counts() -> None:
    report = lint_pairs(spaced(30, 1, 10))
    assert rows_of(report) == {"white_space": list(range(30))}
    found = findings(report)["white_space"].found
    assert found.detail == "only chosen ends with it in 30 of 31 pairs"


@pytest.mark.parametrize("counts", [(0, 0, 100), (20, 20, 0), (9, 0, 0)], ids=["everywhere", "on both sides", "seldom"])
def test_white_space_that_does_not_separate_the_sides_is_ignored(counts: tuple[int, int, int]) -> None:
    assert rows_of(lint_pairs(spaced(*counts))) == {}


def lengths(longer: int, equal: int, shorter: int) -> list[PreferencePair]:
    kinds = ["ab"] * longer + ["a"] * equal + [""] * shorter
    words = ["x", "y", "z", "v", "w"]
    return [
        pair(row, chosen=f"{words[row % 5]}{row:03}{kind}", rejected=f"{words[row % 4]}{row + 500:03}a")
        for row, kind in enumerate(kinds)
    ]


def test_the_length_rule_counts_ties_half_and_gives_wilsons_bounds() -> None:
    report = lint_pairs(lengths(70, 20, 10))
    found = findings(report)["length_bias"].found
    assert found.detail == "the longer is chosen in 80.0% (95%: 71.1% to 86.7%), by characters"
    assert found.rows.size == 0


def test_the_length_rule_works_in_both_directions_and_prefers_token_counts() -> None:
    report = lint_pairs(lengths(10, 20, 70), count_tokens=lambda text: 2 * len(text))
    assert findings(report)["length_bias"].found.detail.endswith("by tokens")
    assert findings(lint_pairs(lengths(10, 20, 70)))["length_bias"].found.detail == (
        "the shorter is chosen in 80.0% (95%: 71.1% to 86.7%), by characters"
    )


def test_balanced_lengths_are_measured_but_not_a_bias() -> None:
    report = lint_pairs(lengths(50, 0, 50))
    (finding,) = (one for one in report.findings if one.check.name == "length_bias")
    assert finding.is_clean
    assert finding.found.figures["longer_is_chosen"] == 0.5
