"""The table of pairs, for any number of rows: only visible rows are drawn, directly from NumPy columns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.events import Click, Resize
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from prefscope.ledger.search import hits
from prefscope.tui.messages import PairOpened, SessionChanged
from prefscope.tui.model.cells import fit, one_line, without_roles
from prefscope.tui.model.session import Session, Sort
from prefscope.tui.widgets.beginnings import Beginnings
from prefscope.tui.widgets.pair_columns import POINTER, Placed, arrange, cell, heading, pair_columns

HEADER = 1
"""Lines of the header, which does not scroll."""
GROUPS_PER_PAINT = 4
"""Maximum number of row groups to read prompts from before a paint (2 to 4 ms each); the rest follows after it."""


class PairTable(ScrollView, can_focus=True):
    """Shows the pairs in the session's order, with a cursor."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "Open", id="pairs-open"),
        Binding("down,j", "move(1)", "Next pair", show=False, id="pairs-down"),
        Binding("up,k", "move(-1)", "Previous pair", show=False, id="pairs-up"),
        Binding("pagedown", "page(1)", "Page down", show=False, id="pairs-page-down"),
        Binding("pageup", "page(-1)", "Page up", show=False, id="pairs-page-up"),
        Binding("right_square_bracket,ctrl+d", "page(0.5)", "Half a page down", show=False, id="pairs-half-down"),
        Binding("left_square_bracket,ctrl+u", "page(-0.5)", "Half a page up", show=False, id="pairs-half-up"),
        Binding("V", "range", "Range", show=False, id="pairs-range"),
        Binding("shift+down", "extend(1)", "Extend the range down", show=False, id="pairs-extend-down"),
        Binding("shift+up", "extend(-1)", "Extend the range up", show=False, id="pairs-extend-up"),
        Binding("home,g", "edge('first')", "First pair", show=False, id="pairs-first"),
        Binding("end,G", "edge('last')", "Last pair", show=False, id="pairs-last"),
        Binding("n", "wrong(1)", "Next wrong", id="pairs-next-wrong"),
        Binding("N", "wrong(-1)", "Previous wrong", show=False, id="pairs-previous-wrong"),
        Binding("s", "sort", "Sort", id="pairs-sort"),
        Binding("<", "choose(-1)", "Column to the left", show=False, id="pairs-column-left"),
        Binding(">", "choose(1)", "Column to the right", show=False, id="pairs-column-right"),
    ]
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "pair-table--row",
        "pair-table--header",
        "pair-table--chosen",
        "pair-table--cursor",
        "pair-table--range",
        "pair-table--positive",
        "pair-table--negative",
        "pair-table--quiet",
    }
    DEFAULT_CSS = """
    PairTable {
        overflow-x: hidden;
        overflow-y: auto;
        scrollbar-size-vertical: 1;
        height: 1fr;
        width: 1fr;
        & > .pair-table--header { color: $foreground; background: $panel; text-style: bold; }
        & > .pair-table--chosen { text-style: underline; }
        & > .pair-table--cursor { background: $panel; }
        & > .pair-table--range { background: $accent 25%; }
        & > .pair-table--positive { color: $positive; }
        & > .pair-table--negative { color: $negative; }
        & > .pair-table--quiet { color: $quiet; }
        &:focus > .pair-table--cursor { background: $primary 30%; text-style: bold; }
    }
    """
    EMPTY = "no pairs match · esc clears the filter"

    class Moved(Message):
        """The cursor has moved to another pair."""

    def __init__(self, session: Session, *, id: str | None = None) -> None:  # noqa: A002 (Textual's name)
        super().__init__(id=id)
        self.session = session
        self._cursor = 0
        self._chosen = session.sort.column
        self._anchor: int | None = None
        """Place where the range begins; it ends at the cursor."""
        self._order = session.order
        self._prompts = Beginnings(session.ledger, "prompt")
        self._placed: list[Placed] = []
        self.left_out = 0
        """Number of columns that do not fit."""
        self._is_read_pending = False

    def on_mount(self) -> None:
        """Draw the pairs of the session."""
        self.show_session()

    def on_resize(self, event: Resize) -> None:
        """Choose the columns that fit the new width."""
        del event
        self.show_session()

    def show_session(self) -> None:
        """Redraw the session's pairs, with the cursor in view."""
        if self._prompts.ledger is not self.session.ledger:
            self._prompts = Beginnings(self.session.ledger, "prompt")
        self._arrange()
        self._cursor = self.session.place
        if self._order is not self.session.order:  # other pairs, or in another order
            self._order, self._anchor = self.session.order, None
        self.virtual_size = Size(0, self.session.order.size + HEADER)
        self._keep_in_view()
        self.refresh()

    def _arrange(self) -> None:
        """Place the columns that fit; the selected column and the sort column take priority."""
        wanted = {self._chosen, self.session.sort.column}
        columns = pair_columns(self.session)
        self._placed = arrange(columns, self.scrollable_content_region.width, wanted)
        self.left_out = len(columns) - len(self._placed)

    @property
    def _rows_in_view(self) -> int:
        return max(self.scrollable_content_region.height - HEADER, 1)

    def _keep_in_view(self) -> None:
        """Scroll by as little as possible to bring the cursor into view."""
        top = round(self.scroll_y)
        highest = self._cursor - self._rows_in_view + 1
        self.scroll_to(y=min(max(top, highest), self._cursor), animate=False, force=True)

    # Drawing

    def render_lines(self, crop: Region) -> list[Strip]:
        """Render the visible lines after reading their prompts; prompts beyond the limit are read after this paint."""
        top = round(self.scroll_y)
        positions = self.session.order[top : top + self._rows_in_view].tolist()
        if not self._prompts.load(positions, GROUPS_PER_PAINT) and not self._is_read_pending:
            self._is_read_pending = True
            self.call_later(self._read_more)
        return super().render_lines(crop)

    def _read_more(self) -> None:
        self._is_read_pending = False
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """Render the header, a row, or an empty line below the last row."""
        width = self.size.width
        place = y - HEADER + round(self.scroll_y)
        if y < HEADER:
            segments = self._header()
        elif place < self.session.order.size:
            segments = self._row(place)
        else:
            message = self.EMPTY.center(width).rstrip() if place == 0 else ""
            segments = [Segment(message, self._plain + self._colour("quiet"))]
        return Strip(segments).adjust_cell_length(width, segments[-1].style)

    def _header(self) -> list[Segment]:
        base = self.get_component_rich_style("pair-table--header")
        marked = base + self._colour("chosen")
        segments = [Segment(" " * POINTER, base)]
        for placed in self._placed:
            text = heading(placed, self.session)
            chosen = placed.column.name == self._chosen
            segments += [Segment(text, marked if chosen else base), Segment(" ", base)]
        return segments

    def _row(self, place: int) -> list[Segment]:
        position = int(self.session.order[place])
        is_cursor = place == self._cursor
        in_range = place in self._places
        name = "cursor" if is_cursor else "range" if in_range else "row"
        base = self.get_component_rich_style(f"pair-table--{name}")
        segments = [Segment("▶" if is_cursor else "│" if in_range else " ", base)]
        for placed in self._placed:
            if placed.column.kind == "prompt":
                segments += [*self._highlighted(self._prompt(position, placed.width), base), Segment(" ", base)]
                continue
            text, colour = cell(placed, self.session, position)
            segments += [Segment(text, base + self._colour(colour) if colour else base), Segment(" ", base)]
        return segments

    def _prompt(self, position: int, width: int) -> str:
        """Return the beginning of a prompt, or the part with the first hit; an ellipsis until it is read."""
        text = self._prompts.get(position)
        if text is None:
            return fit("…", width)
        line = one_line(without_roles(text))
        found = hits(line, self.session.needles)[:1] if self.session.needles else []
        if found and found[0][1] >= width:
            line = f"…{line[max(found[0][0] - width // 4, 0) :]}"
        return fit(line, width)

    def _highlighted(self, text: str, base: Style) -> Iterator[Segment]:
        """Yield a text with what the scope searches for in reverse."""
        at = 0
        for start, stop in hits(text, self.session.needles) if self.session.needles else ():
            yield Segment(text[at:start], base)
            yield Segment(text[start:stop], base + Style(reverse=True))
            at = stop
        yield Segment(text[at:], base)

    @property
    def _plain(self) -> Style:
        return self.get_component_rich_style("pair-table--row")  # unlike rich_style, this is cached

    def _colour(self, name: str) -> Style:
        return self.get_component_rich_style(f"pair-table--{name}", partial=True)

    # Range

    @property
    def _places(self) -> range:
        """The places of the range, empty if there is none."""
        if self._anchor is None:
            return range(0)
        return range(min(self._anchor, self._cursor), max(self._anchor, self._cursor) + 1)

    @property
    def range(self) -> list[int]:
        """Positions in the ledger of the pairs in the range, empty if there is none."""
        return [int(self.session.order[place]) for place in self._places]

    def end_range(self) -> bool:
        """End the range; return whether there was one."""
        had_one, self._anchor = self._anchor is not None, None
        self.refresh()
        return had_one

    def action_range(self) -> None:
        """Begin a range of pairs at the cursor, or end it; moving extends it, K, D and S mark it."""
        if not self.end_range() and self.session.order.size:
            self._anchor = self._cursor
        self.post_message(self.Moved())

    def action_extend(self, step: int) -> None:
        """Begin a range if there is none, and move."""
        if self._anchor is None:
            self.action_range()
        self._move_to(self._cursor + step)

    # Moving

    def _move_to(self, place: int) -> None:
        """Move the cursor to a place in the order, or to the nearest valid place."""
        size = self.session.order.size
        if not size:
            return
        previous, self._cursor = self._cursor, min(max(place, 0), size - 1)
        self.session.move_to(self._cursor)
        self._keep_in_view()
        if previous != self._cursor and self._anchor is not None:
            self.refresh()
            self.post_message(self.Moved())
        elif previous != self._cursor:
            self.refresh_line(previous + HEADER)
            self.refresh_line(self._cursor + HEADER)
            self.post_message(self.Moved())

    def action_move(self, step: int) -> None:
        """Move the cursor by rows."""
        self._move_to(self._cursor + step)

    def action_page(self, pages: float) -> None:
        """Move the cursor by pages."""
        step = int(pages * self._rows_in_view) or 1
        self.scroll_to(y=round(self.scroll_y) + step, animate=False, force=True)
        self._move_to(self._cursor + step)

    def action_edge(self, edge: Literal["first", "last"]) -> None:
        """Move the cursor to the first or the last pair."""
        self._move_to(0 if edge == "first" else self.session.order.size - 1)

    def action_wrong(self, step: int) -> None:
        """Move the cursor to the next or the previous pair that is ranked wrong."""
        place = self.session.find_wrong(step)
        if place is None:
            self.app.notify("No more wrong pairs this way" if self.session.ledger.has_reference else NO_REFERENCE)
        else:
            self._move_to(place)

    def action_open(self) -> None:
        """Open the pair under the cursor."""
        if self.session.order.size:
            self.post_message(PairOpened())

    # Sorting

    def action_choose(self, step: int) -> None:
        """Select the column to sort by, to the left or to the right."""
        names = [column.name for column in pair_columns(self.session)]
        at = names.index(self._chosen) if self._chosen in names else 0
        self._chosen = names[(at + step) % len(names)]
        self._arrange()
        self.refresh()

    def action_sort(self) -> None:
        """Sort by the selected column, or reverse the order if already sorted by it."""
        current = self.session.sort
        columns = pair_columns(self.session)
        column = next((column for column in columns if column.name == self._chosen), columns[0])
        descending = not current.descending if current.column == column.name else column.descending
        self.session.set_sort(Sort(column.name, descending))
        self.post_message(SessionChanged())

    # Mouse

    def on_click(self, event: Click) -> None:
        """Sort by a clicked title, go to a clicked row, or open the row under the cursor."""
        place = event.y - HEADER + round(self.scroll_y)
        if event.y < HEADER:
            self._sort_at(event.x)
        elif place == self._cursor:
            self.action_open()
        elif place < self.session.order.size:
            self._move_to(place)

    def _sort_at(self, x: int) -> None:
        for placed in self._placed:
            if placed.left <= x <= placed.left + placed.width:
                self._chosen = placed.column.name
                self.action_sort()
                return


NO_REFERENCE = "Without a reference, no pair is ranked wrong"
