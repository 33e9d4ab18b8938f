"""The table of runs, one per row, with figures from their overview cards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.widgets import DataTable
from textual.widgets.data_table import ColumnKey

from prefscope.report.cards import Card
from prefscope.report.visible import visible
from prefscope.tui.model.cells import ABSENT, fit
from prefscope.tui.model.runs import Runs

NAME = 15
WIDTHS = {"sign": 2, "run": NAME, "shared": 9, "accuracy": 16, "margin": 14, "loss": 16, "len ρ": 8, "policy": 40}
"""Widths of the columns in cells; on narrow screens the policy is cut off."""
LEFT = frozenset({"sign", "run", "policy"})
FIGURES = (0, 1, 2, 5)
"""Indices of the overview cards that are shown as columns."""


class RunTable(DataTable[Text]):
    """Shows the runs; the cursor is on the run that the shown run is compared with."""

    HELP = (
        "Ledgers of the same pairs. The cursor picks run B, which the shown run A is compared with; enter shows it "
        "instead of A on all screens. Tab moves to the quadrants."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "cursor_up", "Run B", key_display="↑↓", id="runs-previous"),
        Binding("down,j", "cursor_down", "Next run", show=False, id="runs-next"),
        Binding("enter", "select_cursor", "Show it instead of A", id="runs-show"),
        Binding("tab", "app.focus_next", "Quadrants", id="runs-quadrants"),
    ]
    DEFAULT_CSS = """
    RunTable {
        height: auto;
        max-height: 8;
        background: $background;
        overflow-x: hidden;
        scrollbar-size-vertical: 1;
    }
    """

    def __init__(self, runs: Runs, *, id: str) -> None:  # noqa: A002 (Textual's name)
        super().__init__(id=id, cursor_type="row", cell_padding=0)
        self._runs = runs

    def on_mount(self) -> None:
        """Create the columns, and an empty row for every run."""
        for name, width in WIDTHS.items():
            title = "" if name == "sign" else name
            self.add_column(_cell(name, f"  {title}" if name == "policy" else title), key=name, width=width)

    def show_runs(self, cards: Sequence[Sequence[Card]]) -> None:
        """Fill the table from the cards of each run, and move the cursor to the compared run."""
        titles = [cards[self._runs.shown][at].title for at in FIGURES]
        for column, title in zip(("accuracy", "margin", "loss"), titles, strict=False):
            self.columns[ColumnKey(column)].label = _cell(column, title)
        for number in range(self.row_count, len(self._runs)):  # those that were added since
            self.add_row(*(Text() for _ in WIDTHS), key=str(number))
        for number, ledger in enumerate(self._runs.ledgers):
            name = fit(visible(self._runs.names[number]), NAME)
            figures = [_figure(cards[number][at], title) for at, title in zip(FIGURES, titles, strict=True)]
            policy = str(ledger.manifest.get("models", {}).get("policy", {}).get("name", ""))
            texts = (self._sign(number), name, self._shared(number), *figures, f"  {visible(Path(policy).name)}")
            for column, text in zip(WIDTHS, texts, strict=True):
                self.update_cell(str(number), column, _cell(column, text))
        self.move_cursor(row=self._runs.compared)

    def _sign(self, number: int) -> str:
        return "A" if number == self._runs.shown else "B" if number == self._runs.compared else ""

    def _shared(self, number: int) -> str:
        """Return the number of pairs that a run shares with the shown run."""
        is_shown = number == self._runs.shown
        return f"{self._runs.ledger.num_pairs if is_shown else self._runs.pairing(number).num_pairs:,}"


def _figure(card: Card, title: str) -> str:
    """Return the value of a card, or `·` if it is not the same quantity as that of the shown run."""
    return f"{card.value}{' ⚠' if card.warns else ''}" if card.title == title else ABSENT


def _cell(column: str, text: str) -> Text:
    return Text(text, justify="left" if column in LEFT else "right", overflow="ellipsis", no_wrap=True)
