"""Several ledgers of the same pairs in one session, without a screen: which is shown, and what depends on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from prefscope.ledger.marks import Mark
from prefscope.settings import PreferenceSettings
from prefscope.tui.dialogs.quick_filters import quick_filters
from prefscope.tui.model.pair_facts import numbers_line
from prefscope.tui.model.session import Session, Sort
from prefscope.tui.widgets.pair_columns import pair_columns
from tests.tui.pairs_app import write_pairs

Open = Callable[..., Session]


def pairs_of(**margins: float) -> list[dict[str, Any]]:
    """Return pairs with these margins, each named by a letter."""
    return [{"pair_id": letter * 16, "margin": margin} for letter, margin in margins.items()]


A, B, C = pairs_of(a=-1, b=1, c=2, d=3), pairs_of(d=-3, c=2, b=-1), pairs_of(a=5, b=5, c=5, d=5)


@pytest.fixture
def several(tmp_path: Path) -> Open:
    """Return a function that opens runs, the first one shown."""

    def call(*runs: Sequence[dict[str, Any]], **options: Any) -> Session:
        ledgers = [write_pairs(tmp_path / f"{n}.parquet", run, **options).ledger for n, run in enumerate(runs)]
        return Session(ledgers[0], PreferenceSettings(), ledgers[1:])

    return call


def letters(session: Session) -> str:
    """Return the pairs in their order."""
    return "".join(session.ledger.stored["pair_id"][position][0] for position in session.order)


def test_the_first_run_is_shown_and_compared_with_the_second(several: Open) -> None:
    session = several(A, B, C)
    assert session.runs.both == ("0", "1")
    assert session.ledger.num_pairs == 4
    session.set_filter("margin > 0 and margin_b < 0")
    assert letters(session) == "bd"


def test_comparing_another_run_updates_the_filtered_pairs(several: Open) -> None:
    session = several(A, B, C)
    session.set_filter("margin_b > 0")
    assert letters(session) == "c"
    assert session.compare(2)
    assert session.runs.both == ("0", "2")
    assert letters(session) == "abcd"


@pytest.mark.parametrize("number", [0, 1])
def test_comparing_the_shown_or_the_compared_run_changes_nothing(several: Open, number: int) -> None:
    session = several(A, B)
    assert session.compare(number)
    assert (session.generation, session.runs.both) == (0, ("0", "1"))


def test_showing_another_run_compares_it_with_the_previous_one(several: Open) -> None:
    session = several(A, B, C)
    session.show_run(2)
    assert session.runs.both == ("2", "0")
    assert letters(session) == "abcd"
    assert session.view.column("margins") == pytest.approx([5.0] * 4)
    assert session.view.column("margins_b") == pytest.approx([-1.0, 1.0, 2.0, 3.0])


def test_knobs_filter_and_order_stay_when_another_run_is_shown(several: Open) -> None:
    session = several(A, B)
    session.set_preferences(PreferenceSettings(beta=0.2))
    session.set_filter("margin > -5")
    session.set_sort(Sort("margins", descending=True))
    assert letters(session) == "dcba"
    assert session.show_run(1)
    assert session.preferences.beta == 0.2
    assert letters(session) == "cb"  # of margins 4 and −2, and −6


def test_the_cursor_follows_its_pair_into_the_other_run(several: Open) -> None:
    session = several(A, B)
    session.move_to(1)
    session.show_run(1)
    assert (session.position, letters(session)[session.place]) == (2, "b")
    session.show_run(0)
    assert (session.position, letters(session)[session.place]) == (1, "b")


def test_a_cursor_whose_pair_is_not_in_the_other_run_stays_at_its_place_or_the_nearest(several: Open) -> None:
    session = several(pairs_of(b=1, c=1, d=1, x=1), B)
    session.move_to(3)
    session.show_run(1)
    assert session.place == 2


def test_showing_the_shown_run_changes_nothing(several: Open) -> None:
    session = several(A, B)
    assert session.show_run(0)
    assert (session.generation, session.runs.both) == (0, ("0", "1"))


def test_filter_and_order_are_cleared_if_the_other_run_does_not_have_their_columns(tmp_path: Path) -> None:
    own: dict[str, Any] = {"score": ("number", [4.0, 3.0, 2.0, 1.0])}
    a, b = write_pairs(tmp_path / "a.parquet", A, extra=own), write_pairs(tmp_path / "b.parquet", B)
    session = Session(a.ledger, PreferenceSettings(), [b.ledger])
    session.set_filter("score > 1")
    session.set_sort(Sort("score"))
    assert letters(session) == "cba"
    assert not session.show_run(1)
    assert (session.expression, session.sort, letters(session)) == ("", Sort(), "dcb")


def test_a_filter_may_match_no_pair_of_the_other_run(several: Open) -> None:
    session = several(A, B)
    session.move_to(3)
    session.set_filter("margin == 3")
    session.show_run(1)
    assert session.order.size == 0
    assert 0 <= session.position < 3
    session.set_filter("")
    assert letters(session) == "dcb"


def test_a_run_without_a_pair_can_be_shown(several: Open) -> None:
    session = several(A, [])
    session.move_to(2)
    session.show_run(1)
    assert (session.order.size, session.position) == (0, 0)


def test_every_run_has_its_own_marks(several: Open) -> None:
    session = several(A, B)
    session.set_marks({1: Mark("drop")})
    session.show_run(1)
    assert session.mark_of(2) == Mark()
    session.set_marks({2: Mark("keep")})
    session.set_filter("mark(keep)")
    assert letters(session) == "b"
    session.show_run(0)
    assert session.mark_of(1) == Mark("drop")


def test_a_run_without_a_reference_is_compared_without_margins(tmp_path: Path) -> None:
    a = write_pairs(tmp_path / "a.parquet", A)
    free = write_pairs(tmp_path / "free.parquet", [{"pair_id": "b" * 16}], has_reference=False)
    session = Session(a.ledger, PreferenceSettings(), [free.ledger])
    assert not session.runs.compares_margins
    session.set_filter("logp_c_b < 0")
    assert letters(session) == "b"


def test_a_single_ledger_is_not_compared(several: Open) -> None:
    session = several(A)
    assert session.runs.both == ("0", "")
    assert "margins_b" not in session.view.names.kinds


def test_the_other_runs_margin_is_a_column_of_the_table_unless_it_has_no_reference(tmp_path: Path) -> None:
    shown = write_pairs(tmp_path / "a.parquet", A)
    assert "margins_b" not in [column.name for column in pair_columns(shown)]
    for has_reference in (True, False):
        other = write_pairs(tmp_path / "b.parquet", B, has_reference=has_reference)
        session = Session(shown.ledger, PreferenceSettings(), [other.ledger])
        assert ("margins_b" in [column.name for column in pair_columns(session)]) == has_reference


def test_pairs_are_ordered_by_any_column_of_the_other_run(several: Open) -> None:
    session = several(A, B)
    session.set_sort(Sort("margins_b"))
    assert letters(session) == "dbca"
    session.set_sort(Sort("dpo_loss_b"))
    assert letters(session) == "cbda"
    assert "dpo_loss_b" in [column.name for column in pair_columns(session)]


@pytest.mark.parametrize(("place", "told"), [(0, "margin −1.00 (B ·)"), (1, "margin +1.00 (B −1.00)")])
def test_a_pairs_margin_in_the_other_run_is_shown_beside_its_own(several: Open, place: int, told: str) -> None:
    session = several(A, B)
    session.move_to(place)
    assert told in numbers_line(session)


def test_pairs_that_only_one_run_ranks_right_have_quick_filters(several: Open) -> None:
    found = {one.title: (one.expression, one.count) for one in quick_filters(several(A, B))}
    assert found["only A right"] == ("margins > 0 and margins_b <= 0", 2)
    assert found["only B right"] == ("margins <= 0 and margins_b > 0", 0)
    assert "only A right" not in [one.title for one in quick_filters(several(A))]
