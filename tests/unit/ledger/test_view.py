"""Every column of a small ledger that filters can use, and what they match."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from prefscope.data.checks import CHECKS
from prefscope.ledger.column_values import never, value_counts
from prefscope.ledger.filter_functions import LINT_CHECKS
from prefscope.ledger.filters import FilterError
from prefscope.ledger.marks import Mark, load_marks
from prefscope.ledger.table import Ledger, load_ledger
from prefscope.ledger.view import View
from prefscope.settings import LossChoice, PreferenceSettings

DEFAULT = PreferenceSettings()
PAIRS = [
    {"logps": (-50.0, -60.0, -52.0, -58.0), "prompt": "Sort a list in Python", "flags": "truncated;no_eos"},
    {"logps": (-50.0, -80.0, -46.0, -70.0), "flags": "no_eos"},
    {"logps": (-50.0, -60.0, -40.0, -60.0), "chosen_num_tokens": -1},
]
EXTRA = {
    "score": ("number", [1.5, None, 3.0]),
    "category": ("text", ["code", None, "chat"]),
    "checked": ("boolean", [True, None, False]),
    "len_r": ("integer", [7, 8, 9]),
    "meta": ("json", ['{"a": 1}', None, "[]"]),
}


@pytest.fixture
def ledger(write_pairs: Callable[..., Path]) -> Ledger:
    return load_ledger(write_pairs(PAIRS, extra=EXTRA, groups=2))


def rows(ledger: Ledger, expression: str, preferences: PreferenceSettings = DEFAULT) -> list[int]:
    return np.flatnonzero(View(ledger, preferences).filter(expression)).tolist()


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("margin < 0", [2]),
        ("margins > 0.5", [1]),
        ("chosen_logratios == 2", [0]),
        ('outcome == "loss"', [2]),
        ("policy_chosen_logps == -50 and row > 0", [1, 2]),
        ("dpo_loss > 0.7", [2]),
        ("dpo < ipo_loss", [0, 1, 2]),
        ("dpo_weight > 0.05", [2]),
        ('prompt ~ "python"', [0]),
        ('rejected ~ "rejected 1"', [1]),
        ('pair_id == "0000000000000002"', [2]),
        ("flag(truncated)", [0]),
        ("flag(no_eos)", [0, 1]),
        ('flags ~ "no_eos"', [0, 1]),
        ("chosen_num_tokens == chosen_num_tokens", [0, 1]),
        ("score > 1", [0, 2]),
        ('category == ""', [1]),
        ("checked", [0]),
        ("not checked", [1, 2]),
        ('meta ~ "a"', [0]),
        ("len_c == 20", [0, 1]),
        ("data_len_r > 7", [1, 2]),
    ],
)
def test_a_filter_finds_these_pairs(ledger: Ledger, expression: str, expected: list[int]) -> None:
    assert rows(ledger, expression) == expected


@pytest.mark.parametrize(
    ("expression", "hint"),
    [
        ("len_r > 0", "Write rejected_num_tokens for prefscope's column, data_len_r for the data set's"),
        ("`Margin` > 0", "Write margins for prefscope's column, data_Margin for the data set's"),
        ("` dpo` > 0", "Write dpo_loss for prefscope's column, `data_ dpo` for the data set's"),
        ("mark == 1", "Write data_mark for the data set's column, mark(keep), mark(drop), … for your marks"),
        ("margin_b > 0", "Write data_margin_b"),
    ],
)
def test_an_ambiguous_name_is_refused_with_both_candidates(
    write_pairs: Callable[..., Path], expression: str, hint: str
) -> None:
    names = ("len_r", "Margin", " dpo", "mark", "margin_b")
    ledger = load_ledger(write_pairs(PAIRS, extra={name: ("integer", [1, 2, 3]) for name in names}))
    with pytest.raises(FilterError, match="is ambiguous: the data set also has a column of this name") as no:
        rows(ledger, expression)
    assert no.value.hint.removesuffix(".") == hint


def test_a_ledger_that_renamed_a_column_refuses_its_old_name(write_pairs: Callable[..., Path]) -> None:
    manifest = {"renamed": {"margin": "data_margin"}}
    ledger = load_ledger(write_pairs(PAIRS, extra={"data_margin": ("number", [1.0, 2.0, 3.0])}, manifest=manifest))
    assert rows(ledger, "data_margin > 1 and margins > 0") == [1]
    with pytest.raises(FilterError, match=r"margin is ambiguous"):
        rows(ledger, "margin > 0")


def test_a_column_named_data_margin_leaves_margin_to_the_ledger(write_pairs: Callable[..., Path]) -> None:
    ledger = load_ledger(write_pairs(PAIRS, extra={"data_margin": ("number", [1.0, 2.0, 3.0])}))
    assert rows(ledger, "margin < 0 and data_margin == 3") == [2]


def test_the_full_name_of_a_ledger_column_is_never_ambiguous(write_pairs: Callable[..., Path]) -> None:
    names = ("outcome", "flags", "row", "dpo_loss", "margins", "true")
    manifest = {"renamed": {name: f"data_{name}" for name in names}}
    extra = {f"data_{name}": ("integer", [9, 9, 9]) for name in names}
    ledger = load_ledger(write_pairs(PAIRS, extra=extra, manifest=manifest))
    assert rows(ledger, 'outcome == "loss" and row == 2 and margins < 0 and dpo_loss > 0.7 and true') == [2]


def test_a_clashing_column_of_an_older_ledger_is_read_under_its_new_name(write_pairs: Callable[..., Path]) -> None:
    ledger = load_ledger(write_pairs(PAIRS, extra={"margin": ("number", [7.0, 8.0, 9.0])}, groups=2))
    assert [*ledger.extra_columns] == ["data_margin"]
    assert [value for group in ledger.read(["data_margin", "row"]) for value in group["data_margin"]] == [7, 8, 9]
    assert (ledger.pair(1)["data_margin"], ledger.pair(2, ["data_margin"])) == (8.0, {"data_margin": 9.0})
    assert "margin" not in ledger.pair(1)
    assert ledger.to_pandas()["data_margin"].tolist() == [7.0, 8.0, 9.0]


def test_columns_follow_the_knobs(write_pairs: Callable[..., Path]) -> None:
    ledger = load_ledger(write_pairs(PAIRS[:2]))
    wide = PreferenceSettings(beta=1.0, losses=(LossChoice("simpo", {"gamma": 0.0}),))
    margins = {beta: View(ledger, PreferenceSettings(beta=beta)).column("margins") for beta in (0.1, 1.0)}
    assert margins[1.0] == pytest.approx(10 * margins[0.1])
    assert not np.array_equal(View(ledger, DEFAULT).column("simpo_loss"), View(ledger, wide).column("simpo_loss"))


def test_a_loss_that_needs_token_counts_is_not_a_column_if_one_is_unknown(ledger: Ledger) -> None:
    with pytest.raises(FilterError, match="There is no column simpo"):
        rows(ledger, "simpo > 0")


def test_an_unknown_column_is_refused_with_suggestions(ledger: Ledger) -> None:
    with pytest.raises(FilterError, match=r"There is no column categroy\. Did you mean category"):
        rows(ledger, 'categroy == "code"')


@pytest.mark.parametrize("expression", ["margin < 0", "ref_c < 0", "dpo_loss > 1", "chosen_rewards > 0"])
def test_columns_that_need_a_reference_do_not_exist_without_one(
    write_pairs: Callable[..., Path], expression: str
) -> None:
    path = write_pairs([{"logps": (-50.0, -60.0, None, None)}], manifest={"has_reference": False})
    with pytest.raises(FilterError, match="There is no column"):
        rows(load_ledger(path), expression)


def test_policy_columns_and_simpo_exist_without_a_reference(write_pairs: Callable[..., Path]) -> None:
    path = write_pairs([{"logps": (-50.0, -60.0, None, None)}], manifest={"has_reference": False})
    assert rows(load_ledger(path), "logp_c > logp_r and simpo < 10") == [0]


def test_a_slice_of_a_ledger_has_its_own_pairs_texts_and_columns(ledger: Ledger) -> None:
    part = ledger.only(View(ledger, DEFAULT).filter("row > 0"))
    assert part.num_pairs == 2
    assert part.pair(1)["row"] == 2
    assert [row for group in part.read(["row"]) for row in group["row"]] == [1, 2]
    assert rows(part, "margin < 0") == [1]
    assert part.only(np.array([False, True])).pair(0)["row"] == 2
    assert ledger.num_pairs == 3


def test_a_slice_of_a_slice_reads_nothing_that_is_known_of_the_whole(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = View(ledger, DEFAULT)
    margins, lines = whole.column("margins"), whole.column("line")
    part = whole.only(np.array([True, False, True])).only(np.array([False, True]))
    monkeypatch.setattr(type(ledger._file), "read", lambda *_: pytest.fail("read again"))
    assert (part.column("margins").tolist(), part.column("line").tolist()) == ([margins[2]], [lines[2]])


def test_an_empty_slice_still_has_its_columns(ledger: Ledger) -> None:
    nothing = ledger.only(np.zeros(3, dtype=np.bool_))
    assert list(nothing.read(["row", "prompt"])) == [{"row": [], "prompt": []}]
    assert View(nothing, DEFAULT).column("margins").tolist() == []
    assert rows(nothing, 'margin < 0 and prompt ~ "x"') == []


def test_a_lint_filter_selects_the_pairs_of_its_check(write_pairs: Callable[..., Path]) -> None:
    logps = (-1.0, -2.0, -1.0, -2.0)
    texts = [("why?", "yes", "no"), ("how?", "so", "thus"), ("why?", "no", "yes")]
    rows = [{"logps": logps, **dict(zip(("prompt", "chosen", "rejected"), one, strict=True))} for one in texts]
    view = View(load_ledger(write_pairs(rows)), PreferenceSettings())
    assert view.filter("lint(contradictions)").tolist() == [True, False, True]


def test_filters_know_every_check_about_pairs() -> None:
    assert {*LINT_CHECKS, "bad_rows"} == {*CHECKS}


def test_values_that_a_column_never_has_are_reported_with_those_it_has(ledger: Ledger) -> None:
    view = View(ledger, DEFAULT)
    assert never(view, view.parse('category == "coed" and outcome != "won"')) == [
        'category is never "coed"; it has: code 1, empty 1, chat 1.',
        'outcome is never "won"; it has: win 2, loss 1.',
    ]
    assert never(view, view.parse('category in ("code", "maths") or pair_id == "x" or prompt == "x"')) == [
        'category is never "maths"; it has: code 1, empty 1, chat 1.',
        'pair_id is never "x"; it has: 0000000000000000 1, 0000000000000001 1, 0000000000000002 1.',
    ]
    assert never(view, view.parse('category == "code" and outcome == "win" and category ~ "zz"')) == []


def test_a_column_of_many_values_is_not_listed(write_pairs: Callable[..., Path]) -> None:
    names = [f"name {number}" for number in range(60)]
    view = View(load_ledger(write_pairs([PAIRS[0]] * 60, extra={"author": ("text", names)})), DEFAULT)
    assert value_counts(view, "author") == []
    assert never(view, view.parse('author == "name"')) == [
        'author is never "name"; author ~ "name" finds it in longer texts.'
    ]


def test_marks_and_notes_are_columns(ledger: Ledger) -> None:
    marks = load_marks(ledger.path)
    view = View(ledger, DEFAULT, marks)
    assert view.column("mark").tolist() == ["", "", ""]
    keys = ledger.ids_at(np.arange(3))
    marks.change({keys[0]: Mark("drop", "a Typo"), keys[2]: Mark(note="hm")})
    assert view.column("mark").tolist() == ["drop", "", ""]
    assert view.column("note").tolist() == ["a Typo", "", "hm"]
    for source in (ledger, load_ledger(ledger.path)):  # with the marks of a session, and read from the file
        assert rows(source, 'mark == "drop"') == [0]
        assert rows(source, 'note ~ "typo"') == [0]
        assert rows(source, 'note != "" and mark == ""') == [2]
    assert view.only(np.array([False, False, True])).column("note").tolist() == ["hm"]


def test_notes_have_another_name_beside_a_data_sets_own(write_pairs: Callable[..., Path]) -> None:
    ledger = load_ledger(write_pairs(PAIRS, extra={"note": ("text", ["x", "", "y"])}))
    load_marks(ledger.path).change({ledger.ids_at(np.arange(3))[1]: Mark(note="mine")})
    assert rows(ledger, 'note == "y"') == [2]
    assert rows(ledger, 'mark_note == "mine"') == [1]
