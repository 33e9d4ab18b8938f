"""The Health pane: diagnostics over all pairs, flags, lint findings, and subsets; a row lists its pairs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from rich.style import Style
from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.color import Color
from textual.content import Content
from textual.widgets import DataTable, Static

from prefscope.flags import FLAGS
from prefscope.ledger.table import Ledger
from prefscope.report.diagnosis import Finding, diagnose, token_finding
from prefscope.report.subsets import Grouping, group_by
from prefscope.report.visible import visible
from prefscope.tui.dialogs.column_choice import ColumnChoice
from prefscope.tui.messages import PairsRequested
from prefscope.tui.model.cells import fit
from prefscope.tui.model.health_rows import (
    CLEAN,
    LINT,
    SEVERE,
    TOKENS,
    WARNING,
    HealthRow,
    count_flags,
    finding_row,
    flag_rows,
    lint_rows,
    subset_rows,
    unlinted_row,
    unread_row,
)
from prefscope.tui.model.session import Session
from prefscope.tui.panes.pane import Pane, key_of

FEW = 500
"""Up to this many pairs, tokens are read and texts are linted at once: the delay is not noticeable."""
WIDTHS = (2, 20, 31)
"""Widths in cells of all columns but the last, which gets the rest; the current row is shown in full below."""
LEAST = 20


class HealthPane(Pane):
    """What to check in a ledger before trusting its numbers."""

    HELP = (
        "Diagnostics over all pairs, with formulas and sources, then the flags, then what is wrong with the data. "
        "Enter lists the pairs of a row; b groups the pairs by a column; v also shows flags that no pair has."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("b", "group", "Group by", id="health-group"),
        Binding("v", "toggle_clean", "Clean flags", id="health-clean"),
        Binding("escape", "leave", "Findings", id="health-leave"),
    ]
    DEFAULT_CSS = """
    HealthPane {
        DataTable { height: auto; max-height: 60%; background: $background; overflow-x: hidden; }
        DataTable { scrollbar-size-vertical: 1; }
        #clean { height: auto; padding: 0 1; color: $quiet; }
        #detail { height: 1fr; padding: 1 1 0 1; color: $foreground; }
    }
    """

    def __init__(self, session: Session, *, id: str) -> None:  # noqa: A002 (Textual's name)
        super().__init__(session, id=id)
        self._all = False
        self._column: str | None = None
        self._read: tuple[Ledger, int, Finding | None] | None = None
        """The ledger and scope whose tokens were read, and the finding, which does not depend on the knobs."""
        self._rows: dict[str, HealthRow] = {}
        self._linting: Ledger | None = None
        """The ledger that is being linted."""

    def compose(self) -> ComposeResult:
        """Create the table and the details below it."""
        yield DataTable[Text](cursor_type="row", zebra_stripes=False, cell_padding=0, id="health-rows")
        yield Static(id="clean", markup=False)
        yield Static(id="detail", markup=False)

    def draw(self) -> None:
        """List findings and flags, or the subsets; the cursor stays on its row."""
        grouping = self._grouping()
        rows = [*subset_rows(grouping)] if grouping else [*self._findings(), *self._flags(), *self._lint()]
        last = max(self.size.width - sum(WIDTHS) - 1, LEAST)
        legend = LEGENDS[0] if len(LEGENDS[0]) <= last else LEGENDS[1]
        titles = _titles(grouping) if grouping else ("", "what", "figure", legend)
        table = self.query_one(DataTable)
        cursor = self._place_in(rows, table.cursor_row)
        self._rows = {row.key: row for row in rows}
        table.clear(columns=True)
        for title, width in zip(titles, (*WIDTHS, last), strict=True):
            table.add_column(_cell(title), width=width)
        for row in rows:
            glyph = Text(row.glyph, style=self._style_of(row.glyph))
            table.add_row(glyph, *map(_cell, (fit(row.name, 19), fit(row.figure, 30), row.meaning)), key=row.key)
        table.move_cursor(row=cursor)
        self._show_caption(grouping)
        self._show_detail(rows[cursor] if rows else None)
        self.refresh_bindings()

    def _style_of(self, glyph: str) -> Style:
        """Return the style of a severity in the current theme."""
        variable = {CLEAN: "success", WARNING: "warning", SEVERE: "error"}.get(glyph)
        if variable is None:
            return Style()
        return Style(color=Color.parse(self.app.theme_variables[variable]).rich_color, bold=glyph == SEVERE)

    def _place_in(self, rows: list[HealthRow], cursor: int) -> int:
        """Return the index of the row under the cursor in new rows, 0 if it is not among them."""
        known = [*self._rows]
        key = known[cursor] if 0 <= cursor < len(known) else ""
        return next((place for place, row in enumerate(rows) if row.key == key), 0)

    def _findings(self) -> Iterator[HealthRow]:
        view, rest = self.session.scoped, self.session.rest
        yield from (finding_row(view, one, rest) for one in diagnose(view, tokens=False).findings)
        ledger = view.ledger
        if not (ledger.has_reference and ledger.has_tokens):
            return
        if ledger.num_pairs <= FEW:
            self._read_tokens()
        if not self._has_read:
            yield unread_row(view)
        elif self._read is not None and self._read[2] is not None:
            yield finding_row(view, self._read[2])

    @property
    def _has_read(self) -> bool:
        """Whether the tokens of the scope have been read."""
        return self._read is not None and self._read[:2] == (self.session.ledger, self.session.scope_number)

    def _read_tokens(self) -> None:
        if not self._has_read:
            found = token_finding(self.session.scoped.ledger)
            self._read = self.session.ledger, self.session.scope_number, found

    def _flags(self) -> Iterator[HealthRow]:
        return flag_rows(self.session.scoped, clean=self._all)

    def _lint(self) -> Iterator[HealthRow]:
        from prefscope.ledger.source_pairs import is_linted, lint_of  # imports the readers of data sets

        ledger = self.session.ledger
        if ledger.num_pairs <= FEW or is_linted(ledger):
            return lint_rows(lint_of(ledger), self.session.scoped.ledger.stored["row"])
        return iter([unlinted_row(self.session.view, is_running=self._linting is ledger)])

    def _lint_texts(self) -> None:
        """Lint the texts of the ledger in a background thread."""
        ledger = self._linting = self.session.ledger

        def lint() -> None:
            from prefscope.ledger.source_pairs import lint_of

            lint_of(ledger)
            self.app.call_from_thread(self._redraw_if_shown)

        self.run_worker(lint, thread=True, group="lint", exclusive=True)
        self.draw()

    def _redraw_if_shown(self) -> None:
        if self._column is None:
            self.draw()

    def _grouping(self) -> Grouping | None:
        """Return the subsets by the chosen column, or None if no column is chosen or the view no longer has it."""
        view = self.session.scoped
        if self._column is None or view.names.full(self._column) is None:
            self._column = None
            return None
        return group_by(view, self._column)

    def _show_caption(self, grouping: Grouping | None) -> None:
        """Show the line below the table: a caution about subsets, or the number of flags left out."""
        if grouping is not None:
            text = f"{grouping.caution}."
        else:
            clean = len(FLAGS) - len(count_flags(self.session.scoped))
            text = f"{CLEAN} {clean} of {len(FLAGS)} flags occur on no pair (v shows them)"
        self.query_one("#clean", Static).update(Content(text))

    def _show_detail(self, row: HealthRow | None) -> None:
        self.query_one("#detail", Static).update(Content(row.detail() if row else ""))

    @property
    def copied(self) -> tuple[str, str]:
        """What `y` copies: the rows of the table."""
        lines = (f"{row.name.strip()}: {row.figure.strip()}. {row.meaning.strip()}" for row in self._rows.values())
        return "\n".join(lines), "the findings" if self._column is None else "the subsets"

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Enable `leave` only in the subsets, and `toggle_clean` only in the findings."""
        if action == "leave":
            return self._column is not None
        return self._column is None if action == "toggle_clean" else super().check_action(action, parameters)

    def on_resize(self) -> None:
        """Fit the last column to the new width."""
        if self._rows:
            self.call_after_refresh(self.draw)

    def action_toggle_clean(self) -> None:
        """Show or hide the flags that no pair has."""
        self._all = not self._all
        self.draw()

    def action_group(self) -> None:
        """Choose a column to group the pairs by."""

        def show(column: str | None) -> None:
            if column is not None:
                self._column = column
                self.draw()

        self.app.push_screen(ColumnChoice(self.session.view), show)

    def action_leave(self) -> None:
        """Go back to the findings."""
        self._column = None
        self.draw()

    @on(DataTable.RowHighlighted)
    def _follow_cursor(self, event: DataTable.RowHighlighted) -> None:
        event.stop()
        if key := key_of(event):
            self._show_detail(self._rows.get(key))

    @on(DataTable.RowSelected)
    def _open(self, event: DataTable.RowSelected) -> None:
        """List the pairs of a row; on a placeholder row, read the tokens or lint the texts."""
        event.stop()
        row = self._rows.get(key_of(event))
        if row is not None and row.expression:
            self.post_message(PairsRequested(row.expression))
        elif row is not None and row.key == TOKENS:
            self._read_tokens()
            self.draw()
        elif row is not None and row.key == LINT and self._linting is not self.session.ledger:
            self._lint_texts()


LEGENDS = (
    f"{CLEAN} fine  {WARNING} look at it  {SEVERE} numbers may be wrong  · not looked at yet",
    f"{CLEAN} fine {WARNING} look {SEVERE} serious · new",
)
"""What the symbols mean, in long and in short."""


def _titles(grouping: Grouping) -> tuple[str, ...]:
    mean = "mean margin (95%)" if grouping.by_margin else "mean gap, nats per token (95%)"
    return "", visible(grouping.title), " pairs  right (95%)", mean


def _cell(text: str) -> Text:
    return Text(text, no_wrap=True, overflow="ellipsis")
