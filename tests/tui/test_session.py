"""A session: filter, order, cursor and marks, without a screen."""

from __future__ import annotations

import numpy as np
import pytest

from prefscope.ledger.filters import FilterError
from prefscope.ledger.marks import Mark
from prefscope.settings import PreferenceSettings
from prefscope.tui.model.session import Session, Sort

WRONG = "margin < 0"


def test_initially_all_pairs_are_shown_in_the_order_of_the_data_set(demo: Session) -> None:
    assert demo.order.tolist() == list(range(170))
    assert (demo.position, demo.place) == (0, 0)


def test_a_filter_keeps_matching_pairs_in_order(demo: Session) -> None:
    demo.set_sort(Sort("margins", descending=True))
    demo.set_filter(WRONG)
    margins = demo.view.column("margins")[demo.order]
    assert (margins < 0).all()
    assert (np.diff(margins) <= 0).all()
    assert len(margins) == 14


def test_sorting_keeps_the_filter(demo: Session) -> None:
    demo.set_filter(WRONG)
    demo.set_sort(Sort("chosen_num_tokens"))
    assert len(demo.order) == 14


@pytest.mark.parametrize("column", ["margins", "row", "chosen_num_tokens", "outcome", "category", "prompt", "dpo_loss"])
def test_every_kind_of_column_can_be_sorted_in_both_directions(demo: Session, column: str) -> None:
    demo.set_sort(Sort(column))
    values = demo.view.column(column)[demo.order].tolist()
    assert values == sorted(values)
    demo.set_sort(Sort(column, descending=True))
    assert demo.view.column(column)[demo.order].tolist() == sorted(values, reverse=True)


def test_missing_values_come_last_in_both_directions(demo: Session) -> None:
    demo.ledger.stored["policy_chosen_logps"] = demo.ledger.stored["policy_chosen_logps"].copy()
    demo.ledger.stored["policy_chosen_logps"][3] = np.nan
    for descending in (False, True):
        demo.set_sort(Sort("policy_chosen_logps", descending=descending))
        assert demo.order[-1] == 3


def test_the_cursor_stays_on_its_pair_when_the_order_changes(demo: Session) -> None:
    demo.move_to(20)
    demo.set_sort(Sort("margins", descending=True))
    assert demo.position == 20
    assert demo.order[demo.place] == 20


def test_a_cursor_whose_pair_is_filtered_out_stays_at_its_place_or_the_nearest(demo: Session) -> None:
    demo.move_to(169)
    demo.set_filter("row < 10")
    assert (demo.position, demo.place) == (9, 9)


def test_a_filter_may_match_nothing(demo: Session) -> None:
    demo.set_filter("margin > 1e9")
    demo.move_to(3)
    assert demo.order.size == 0
    assert demo.find_wrong(1) is None
    demo.set_filter("")
    assert demo.order.size == 170


def test_a_bad_expression_changes_nothing(demo: Session) -> None:
    demo.set_filter(WRONG)
    before = demo.generation
    with pytest.raises(FilterError):
        demo.set_filter("margin <")
    assert (demo.expression, demo.generation, len(demo.order)) == (WRONG, before, 14)


def test_the_next_and_previous_wrong_pairs_follow_the_shown_order(demo: Session) -> None:
    wrong = np.flatnonzero(demo.view.column("margins") < 0).tolist()
    assert demo.find_wrong(-1) is None
    found = []
    while (place := demo.find_wrong(1)) is not None:
        demo.move_to(place)
        found.append(demo.position)
    assert found == wrong
    assert demo.find_wrong(-1) == wrong[-2]


def test_knobs_change_margins_and_filters_on_them(demo: Session) -> None:
    demo.set_filter("margin > 0.5")
    before = len(demo.order)
    demo.set_preferences(PreferenceSettings(beta=1.0))
    assert len(demo.order) > before
    assert demo.initial.beta == 0.1


def test_marks_can_be_read_filtered_by_and_undone(demo: Session) -> None:
    demo.set_marks({5: Mark("drop")})
    demo.set_filter("mark(drop)")
    assert demo.order.tolist() == [5]
    assert demo.mark_of(5) == Mark("drop")
    assert demo.undo_marks()
    assert demo.mark_of(5) == Mark()
    assert not demo.undo_marks()


def test_every_change_increments_the_generation(demo: Session) -> None:
    generations = [demo.generation]
    for change in (
        lambda: demo.set_filter(WRONG),
        lambda: demo.set_sort(Sort("margins")),
        lambda: demo.set_preferences(PreferenceSettings(beta=0.2)),
        lambda: demo.set_marks({0: Mark("keep")}),
        demo.undo_marks,
    ):
        change()
        generations.append(demo.generation)
    assert generations == list(range(6))
