"""The filter language: what matches, and where an error points."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from prefscope.ledger.filters import FilterError, Names, parse_filter
from prefscope.ledger.search import Needle, hits

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

    def searched(self, needle: Needle) -> NDArray[np.bool_]:
        return np.array([bool(hits(text, (needle,))) for text in self.columns["prompt"]])


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
        ("margin < 0 && len_c > 10", [1]),
        ("margin < -1 || margin > 1", [0, 3]),
        ("!margin < 0", [2, 3]),
        ("!(margin < 0 or checked)", [3]),
        ("!!checked", [0, 2]),
        ("margin <> 3", [0, 1, 2]),
        ("NOT margin < 0 AND checked == False OR 1 == 2", [3]),
        ('outcome in ("win", "tie", "")', [2, 3]),
        ('outcome IN ("win")', [3]),
        ('outcome not in ("win", "loss")', [2]),
        ("len_c in (10, 5 * 4)", [0, 1]),
        ("not len_c in (10, 20) and margin == margin", [3]),
        ("-3 < margin < 0 and len_r in (5, 6)", [0]),
        ('has("PYTHON")', [0, 3]),
        ('not has("python") and margin < 0', [1]),
        (r'matches("c$|straße")', [1, 3]),
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
        (
            "open(margin)",
            "open",
            "There is no function open. The functions are abs, flag, has, lint, mark and matches.",
        ),
        ("__import__", "__import__", "There is no column __import__"),
        ("not", "", "Something is missing at the end"),
        ("margin < 0 & checked", "& checked", "This is not valid here. Write and."),
        ("margin < 0 | checked", "| checked", "Write or."),
        ("len_c % 2 == 0", "% 2 == 0", "write 0.05 for 5%"),
        ('outcome in ["win"]', '["win"]', 'Lists are in round brackets: category in ("a", "b")'),
        ("prompt ~ “python”", "“python”", 'Texts are in straight quotes: "python"'),
        ('outcome in "win"', '"win"', 'A list of values is expected here. Write category in ("a", "b").'),
        ('outcome == ("win", "loss")', '("win",', 'A list can only follow in. Write category in ("a", "b").'),
        ('outcome in ("win", 3)', 'outcome in ("win", 3', "A text cannot be compared with a number"),
        ('outcome in ("win"', "(", "This bracket is not closed"),
        ("outcome in ()", ")", "A column or a value is expected here"),
        ("outcome is null", "is", 'Write category == "" for empty texts, score != score for missing numbers.'),
        ('prompt LIKE "a%"', "LIKE", 'Write prompt ~ "python"'),
        ('prompt contains "a"', "contains", 'Write prompt ~ "python"'),
        ("margin between 0 and 1", "between", "Write 0 < margin < 1."),
        (
            '"python" and checked',
            '"python"',
            'This is a text, but a condition is needed. Search for it: has("python").',
        ),
        ("has(python)", "python", 'A text to search for is expected here. Put it in quotes: has("python").'),
        ('has("")', '""', "A text to search for is expected here"),
        ('matches("(a")', '"(a"', "This pattern is invalid: missing )"),
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


def test_a_column_with_the_name_of_an_operator_in_capitals_is_a_column() -> None:
    columns = {"AND": np.array([1.0, 2.0]), "In": np.array([3.0, 4.0])}
    names = Names(kinds={"AND": "number", "In": "number"}, aliases={})
    found = parse_filter("AND == 2 and In in (3, 4) and not In < 4", names).mask(Four(columns), 2)
    assert found.tolist() == [False, True]


_NUMBERS = st.sampled_from(
    ["margin", "len_c", "len_r", "`my score`", "-margin", "abs(margin)", "2", "0.5", "len_c / 2"]
)
_CONDITIONS = st.recursive(
    st.one_of(
        st.tuples(_NUMBERS, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), _NUMBERS).map(" ".join),
        st.sampled_from(["checked", "flag(truncated)", 'outcome == "loss"', 'prompt ~ "python"', "true"]),
    ),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from([" and ", " or "]), inner).map(lambda one: f"({one[0]}){one[1]}({one[2]})"),
        inner.map("not ({})".format),
    ),
)


@given(_CONDITIONS)
def test_the_spellings_of_other_languages_match_the_same_pairs(expression: str) -> None:
    other = re.sub(r"\band\b", "&&", re.sub(r"\bor\b", "||", re.sub(r"\bnot\b", "!", expression))).replace("!=", "<>")
    assert matching(other) == matching(expression)
    capitals = re.sub(r"\b(and|or|not|true)\b", lambda word: word[0].upper(), expression)
    assert matching(capitals) == matching(expression)


@given(_CONDITIONS)
def test_an_expression_matches_the_pairs_for_which_python_finds_it_true(expression: str) -> None:
    python = expression.replace('prompt ~ "python"', '("python" in prompt)').replace("`my score`", "my_score")
    expected = []
    for at in range(4):
        pair = {name.replace(" ", "_"): values[at] for name, values in PAIRS.columns.items()}
        pair |= {"margin": pair["margins"], "len_c": pair["chosen_num_tokens"], "len_r": pair["rejected_num_tokens"]}
        pair |= {"prompt": pair["prompt"].casefold(), "true": True, "truncated": at in {0, 3}, "flag": bool, "abs": abs}
        with np.errstate(all="ignore"):
            expected += [at] if eval(python, {"__builtins__": {}}, pair) else []  # noqa: S307 (our own expressions)
    assert matching(expression) == expected


def test_division_by_zero_is_not_an_error() -> None:
    assert matching("len_c / len_r == 1") == [1]


def test_deep_nesting_is_an_error_and_not_a_crash() -> None:
    with pytest.raises(FilterError, match="too deep"):
        parse_filter("(" * 5000 + "margin" + ")" * 5000, NAMES)
