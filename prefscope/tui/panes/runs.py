"""The Runs pane: several ledgers of the same pairs; one is shown, and another is compared with it pair by pair."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from textual import on
from textual.app import ComposeResult
from textual.content import Content
from textual.widgets import DataTable, Static

from prefscope.ledger.pairing import PairedView
from prefscope.report.cards import Card, cards
from prefscope.report.comparison import Comparison, Paired, cautions, compare, quadrant_filter
from prefscope.report.visible import visible
from prefscope.settings import PreferenceSettings
from prefscope.tui.messages import PairsRequested, SessionChanged
from prefscope.tui.model.numbers import minus, signed
from prefscope.tui.model.session import Session
from prefscope.tui.panes.pane import Pane, key_of
from prefscope.tui.widgets.quadrants import Quadrants
from prefscope.tui.widgets.run_table import RunTable

ALONE = """Only one ledger is open. Open several ledgers of the same pairs to compare them here, pair by pair:

    prefscope view step-1000.parquet step-2000.parquet

• the figures of all runs side by side
• the differences between two of them, with paired 95% intervals
• the pairs that only one of the two ranks right
• columns of the other run to filter and sort by: margin_b, r_chs_b, dpo_b, …"""
LEAST_P = 0.0001
FIRST_LOSS = 2
"""Its row in the table of differences."""
CHANGE = (30, 39)
"""Cells of a difference beside that of the rest, on narrow and wide screens."""


class RunsPane(Pane):
    """A table of the runs, the differences between two of them, and the quadrants of their margins."""

    HELP = "Several ledgers of the same pairs, compared pair by pair: prefscope view A.parquet B.parquet"
    SCOPED_CSS = False  # uses the screen's size class
    DEFAULT_CSS = """
    RunsPane {
        #alone { padding: 1 2; display: none; }
        &.-alone { #alone { display: block; } RunTable, #differences, Quadrants { display: none; } }
        #differences { height: auto; padding: 1 1; text-wrap: nowrap; text-overflow: ellipsis; }
    }
    .-short RunsPane {
        RunTable { max-height: 6; }
        #differences { padding: 0 1; }
    }
    """

    def __init__(self, session: Session, *, id: str) -> None:  # noqa: A002 (Textual's name)
        super().__init__(session, id=id)
        self.can_focus = session.runs.compared is None
        self.set_class(self.can_focus, "-alone")
        self._cards: tuple[tuple[PreferenceSettings, int, int], list[list[Card]]] | None = None
        self._comparison: tuple[PairedView, Comparison, Comparison | None] | None = None
        """Of the pairs in the scope, and of the rest."""

    def compose(self) -> ComposeResult:
        """Create the table, the differences and the quadrants, and instructions for a single run instead."""
        yield Static(ALONE, id="alone", markup=False)
        yield RunTable(self.session.runs, id="run-table")
        yield Static(id="differences", markup=False)
        yield Quadrants(id="quadrants")

    def draw(self) -> None:
        """Draw the runs and their comparison for the current knobs."""
        view = self.session.scoped
        self.can_focus = not isinstance(view, PairedView)
        self.set_class(self.can_focus, "-alone")
        if not isinstance(view, PairedView):
            return
        if self._comparison is None or self._comparison[0] is not view:
            rest = self.session.rest
            self._comparison = view, compare(view), compare(rest) if isinstance(rest, PairedView) else None
        self.query_one(RunTable).show_runs(self._figures(view))
        self._draw_differences()
        self._draw_quadrants(self._comparison[1])

    def _figures(self, view: PairedView) -> list[list[Card]]:
        """Return the cards of every run, cached until the knobs, the scope or the runs change."""
        state = view.preferences, self.session.scope_number, len(self.session.runs)
        if self._cards is None or self._cards[0] != state:
            self._cards = state, [cards(one) for one in self.session.views_of_runs()]
        return self._cards[1]

    def _draw_differences(self) -> None:
        if self._comparison is None:
            return
        view, comparison, rest = self._comparison
        warnings = [f"⚠ {sentence}." for sentence in cautions(view, comparison)]
        size = {"tall": not self.screen.has_class("-short"), "wide": not self.screen.has_class("-narrow")}
        lines = [*differences(comparison, rest, **size)] if comparison.pairs else []
        self.query_one("#differences", Static).update(Content("\n".join([*lines, *warnings])))

    def _draw_quadrants(self, comparison: Comparison) -> None:
        quadrants = self.query_one(Quadrants)
        a, b = self.session.runs.both
        what = "margin" if comparison.by_margin else "log-prob per token, chosen − rejected"
        quadrants.border_title = Content(f"{what} of B {visible(b)} ↑ against A {visible(a)} →")
        quadrants.show_comparison(comparison)

    @property
    def copied(self) -> tuple[str, str] | None:
        """What `y` copies: the differences between the two runs."""
        if self._comparison is None or not self._comparison[1].pairs:
            return None
        return "\n".join(differences(*self._comparison[1:], tall=True, wide=True)), "the differences"

    def on_resize(self) -> None:
        """Show as many differences as fit the new size."""
        self.call_after_refresh(self._draw_differences)

    def focus_first(self) -> None:
        """Focus the table of runs, or the pane if there is only one run."""
        (self if self.can_focus else self.query_one(RunTable)).focus()

    @on(DataTable.RowHighlighted)
    def _compare_run(self, event: DataTable.RowHighlighted) -> None:
        event.stop()
        self._change(self.session.compare, key_of(event))

    @on(DataTable.RowSelected)
    def _show_run(self, event: DataTable.RowSelected) -> None:
        event.stop()
        self._change(self.session.show_run, key_of(event))

    def _change(self, change: Callable[[int], bool], row: str) -> None:
        """Compare or show another run; notify the user if this clears the filter."""
        if not row:
            return
        generation, expression = self.session.generation, self.session.expression
        if not change(int(row)):
            self.notify(visible(f"Filter cleared (a column is not available now): {expression}"), markup=False)
        if self.session.generation != generation:
            self.post_message(SessionChanged())

    @on(Quadrants.Opened)
    def _open(self, opened: Quadrants.Opened) -> None:
        if self._comparison is not None:
            self.post_message(PairsRequested(quadrant_filter(opened.quadrant, by_margin=self._comparison[1].by_margin)))


def differences(comparison: Comparison, rest: Comparison | None, *, tall: bool, wide: bool) -> Iterator[str]:
    """Yield the lines of a table of both runs' means and their differences, in the scope and in the rest.

    Losses but the first need a tall screen; beside the rest, the means need a wide one.
    """
    rows, others = _rows(comparison), [] if rest is None or not rest.pairs else _rows(rest)
    p_value = f"p<{LEAST_P}" if comparison.p_value < LEAST_P else f"p={comparison.p_value:.2g}"
    has_p = wide or not others
    title = f"B − A (95%{', McNemar' * has_p})"
    yield _row(f"{comparison.pairs:,} pairs", "A", "B", title, "rest: B − A (95%)" if others else "", wide=wide)
    for number, (name, a, b, change) in enumerate(rows):
        is_later_loss = FIRST_LOSS < number < len(rows) - 1
        if tall or not is_later_loss:
            own = f"{change}, {p_value}" if has_p and number == 0 else change
            yield _row(name, a, b, own, others[number][-1] if others else "", wide=wide)


def _rows(comparison: Comparison) -> list[tuple[str, str, str, str]]:
    """Return name, both means and their difference for accuracy, margin, losses and length bias."""
    titles = ("accuracy", "margin") if comparison.by_margin else ("chosen ahead", "gap per token")
    found, (a, b) = comparison.accuracy, comparison.length_bias
    change = f"{signed(100 * found.difference, 1)} pp{_bounds(100 * found.low, 100 * found.high, 1)}"
    return [
        (titles[0], f"{found.a:.1%}", f"{found.b:.1%}", change),
        (titles[1], *_numbers(comparison.margin, 3)),
        *((f"{name} loss", *_numbers(loss, 4)) for name, loss in comparison.losses.items()),
        ("length bias ρ", signed(a), signed(b), signed(b - a)),
    ]


def _numbers(found: Paired, digits: int) -> tuple[str, str, str]:
    a, b = (minus(f"{mean:,.{digits}f}") for mean in (found.a, found.b))
    return a, b, f"{signed(found.difference, digits)}{_bounds(found.low, found.high, digits)}"


def _bounds(low: float, high: float, digits: int) -> str:
    return f" ({signed(low, digits)} to {signed(high, digits)})" if math.isfinite(low) else ""


def _row(name: str, a: str, b: str, difference: str, rest: str, *, wide: bool) -> str:
    means = f"{a:>11}{b:>11}   " if wide or not rest else ""
    return f"{name:<15}{means}{difference:<{CHANGE[wide] if rest else 0}}{rest}"
