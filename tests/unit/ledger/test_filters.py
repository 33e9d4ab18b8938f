"""The filter language: what matches, and where an error points."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from prefscope.ledger.filters import FilterError, Names, parse_filter

NAMES = Names(
    kinds={
        "margins": "number",
        "chosen_num_tokens": "number",
        "rejected_num_tokens": "number",
        "prompt": "text",
        "outcome": "text",
        "checked": "truth",
        "my score": "number",
    },
    aliases={"margin": "margins", "len_c": "chosen_num_tokens", "len_r": "rejected_num_tokens"},
)


@dataclass(frozen=True)
class Four:
    """Four pairs."""

    columns: Mapping[str, Any]

    def column(self, name: str) -> Any:
        return self.columns[name]

    def flagged(self, flag: str) -> NDArray[np.bool_]:
        return np.array([flag == "truncated", False, False, True])

    def marked(self, mark: str) -> NDArray[np.bool_]:
        return np.array([False, mark == "drop", False, False])

    def linted(self, check: str) -> NDArray[np.bool_]:
        return np.array([False, False, check == "contradictions", False])


PAIRS = Four(
    {
        "margins": np.array([-2.0, -0.5, np.nan, 3.0]),
        "chosen_num_tokens": np.array([10.0, 20.0, 30.0, 0.0]),
        "rejected_num_tokens": np.array([5.0, 20.0, 60.0, 0.0]),
        "prompt": np.array(['In "Python", why?', "Write C", "", "straße PYTHON"], dtype=object),
        "outcome": np.array(["loss", "loss", "", "win"]),
        "checked": np.array([True, False, True, False]),
        "my score": np.array([1.0, 2.0, 3.0, 4.0]),
    }
)


def matching(expression: str) -> list[int]:
    return np.flatnonzero(parse_filter(expression, NAMES).mask(PAIRS, 4)).tolist()


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("", [0, 1, 2, 3]),
        ("   ", [0, 1, 2, 3]),
        ("margin < 0", [0, 1]),
        ("margins <= -0.5", [0, 1]),
        ("0 < margin", [3]),
        ("margin = 3", [3]),
        ("margin == 3.0e0", [3]),
        ("margin != 3", [0, 1, 2]),
        ("-1 < margin < 1", [1]),
        ("-3 < margin < 0 < len_r", [0, 1]),
        ("len_c > len_r * 1.5", [0]),
        ("len_c / len_r < 1", [2]),
        ("len_c - len_r - 5 == 0", [0]),
        ("2 + 2 * 3 == 8 and margin > 0", [3]),
        ("(2 + 2) * 3 == 12 and margin > 0", [3]),
        ("abs(margin) >= 2", [0, 3]),
        ("abs(len_c - len_r) > 10", [2]),
        ("--margin > 0", [3]),
        ('prompt ~ "python"', [0, 3]),
        ("prompt ~ 'STRASSE'", [3]),
        ('prompt !~ "python"', [1, 2]),
        (r'prompt ~ "\"Python\""', [0]),
        ('prompt == ""', [2]),
        ('outcome == "loss" and margin > -1', [1]),
        ('outcome != "loss"', [2, 3]),
        ("margin < -1 or margin > 1", [0, 3]),
        ("margin < 0 or margin > 1 and len_c == 0", [0, 1, 3]),
        ("(margin < 0 or margin > 1) and len_c == 0", [3]),
        ("not margin < 0", [2, 3]),
        ("not margin < 0 and margin == margin", [3]),
        ("not (margin < 0 or checked)", [3]),
        ("checked", [0, 2]),
        ("checked == false", [1, 3]),
        ("true", [0, 1, 2, 3]),
        ("`my score` > 2", [2, 3]),
        ("flag(truncated)", [0, 3]),
        ('flag("empty")', [3]),
        ("mark(drop)", [1]),
        ("lint(contradictions)", [2]),
        ("margin\n<\n0", [0, 1]),
    ],
)
def test_an_expression_matches_the_expected_pairs(expression: str, expected: list[int]) -> None:
    assert matching(expression) == expected


@pytest.mark.parametrize(
    ("expression", "pointed", "told"),
    [
        ("margni < 0", "margni", "There is no column margni. Did you mean margin"),
        ("outcome == loss", "loss", 'Texts must be in quotes: "loss".'),
        ("margin", "margin", "This is a number, but a condition is needed. Compare it"),
        ("margin and len_c > 0", "margin", "This is a number, but a condition is needed"),
        ("margin < 0 len_c", "len_c", "The expression should end here. Join conditions with and, or."),
        ("margin <", "", "Something is missing at the end"),
        ("margin < < 0", "<", "A column or a value is expected here"),
        ("(margin < 0", "(", "This bracket is not closed"),
        ("margin < 0)", ")", "The expression should end here"),
        ('margin < "0"', 'margin < "0"', "A number cannot be compared with a text"),
        ('outcome < "win"', "<", "< only works with numbers. Use ==, != or ~."),
        ("margin ~ 3", "margin", "This is a number, but a text is needed"),
        ("prompt ~ 3", "3", "This is a number, but a text is needed"),
        ("prompt + 1 > 0", "prompt", "This is a text, but a number is needed"),
        ("-prompt > 0", "prompt", "This is a text, but a number is needed"),
        ('prompt ~ "py', '"py', "This quote is not closed"),
        ("margin < 0 ; x", "; x", "This is not valid here"),
        ("margin & 3", "& 3", "This is not valid here"),
        ("flag(broken)", "broken", "There is no such flag. Choose from: truncated,"),
        ("mark(keep", "mark", "This bracket is not closed"),
        ("open(margin)", "open", "There is no function open. The functions are abs, flag, lint and mark."),
        ("__import__", "__import__", "There is no column __import__"),
        ("not", "", "Something is missing at the end"),
    ],
)
def test_an_error_points_at_the_mistake_and_gives_advice(expression: str, pointed: str, told: str) -> None:
    with pytest.raises(FilterError) as caught:
        parse_filter(expression, NAMES)
    error = caught.value
    assert expression[error.start : error.stop] == pointed
    sentence, shown, carets = str(error).split("\n")
    assert told in sentence
    assert shown == f"  {expression}"
    assert carets == "  " + " " * error.start + "^" * (error.stop - error.start)


def test_division_by_zero_is_not_an_error() -> None:
    assert matching("len_c / len_r == 1") == [1]


def test_deep_nesting_is_an_error_and_not_a_crash() -> None:
    with pytest.raises(FilterError, match="too deep"):
        parse_filter("(" * 5000 + "margin" + ")" * 5000, NAMES)
