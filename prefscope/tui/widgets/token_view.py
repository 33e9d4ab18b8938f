"""A response as a heat map of its tokens, with a cursor that shows a token's numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.events import Blur, Click, Focus, Resize
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from prefscope.ledger.search import Needle, hits
from prefscope.tui.model.numbers import figure, signed
from prefscope.tui.model.response import STRONG, Response, Shown
from prefscope.tui.model.token_lines import Piece, named, wrap_tokens

SIGNS = {1: "⁺", -1: "⁻"}
"""Appended to tokens of a clear or strong level, if signs are shown."""
SIGNED_FROM = 2
LEVELS = {1: "weak", 2: "clear", 3: "strong"}
NAMES = {1: "positive", -1: "negative"}


class TokenView(ScrollView):
    """Shows the wrapped tokens of one response; only visible lines are rendered."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        f"token--{name}-{size}" for name in NAMES.values() for size in LEVELS.values()
    } | {"token--message", "token--marked"}
    DEFAULT_CSS = """
    TokenView {
        border: round $panel;
        border-title-color: $foreground;
        border-subtitle-color: $quiet;
        scrollbar-size-vertical: 1;
        scrollbar-gutter: stable;
        overflow-x: hidden;
        height: 1fr;
        width: 1fr;
        &:focus { border: round $primary; border-subtitle-color: $foreground; }
        & > .token--positive-weak { background: $positive 22%; color: auto; }
        & > .token--positive-clear { background: $positive 50%; color: auto; }
        & > .token--positive-strong { background: $positive; color: auto; }
        & > .token--negative-weak { background: $negative 22%; color: auto; }
        & > .token--negative-clear { background: $negative 50%; color: auto; }
        & > .token--negative-strong { background: $negative; color: auto; }
        & > .token--marked { text-style: bold underline; }
        & > .token--message { color: $quiet; text-style: italic; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right,l", "move(1)", "Token", key_display="h/l", id="token-next"),
        Binding("left,h", "move(-1)", "Previous token", show=False, id="token-previous"),
        Binding("w", "extreme(1)", "Extreme", key_display="w/b", id="token-extreme"),
        Binding("b", "extreme(-1)", "Previous extreme token", show=False, id="token-previous-extreme"),
        Binding("down,j", "line(1)", "Line down", show=False, id="token-down"),
        Binding("up,k", "line(-1)", "Line up", show=False, id="token-up"),
        Binding("pagedown,ctrl+d", "page(1)", "Page down", show=False, id="token-page-down"),
        Binding("pageup,ctrl+u", "page(-1)", "Page up", show=False, id="token-page-up"),
        Binding("home,g", "edge(0)", "First token", show=False, id="token-first"),
        Binding("end,G", "edge(-1)", "Last token", show=False, id="token-last"),
    ]
    HELP = "A response, token by token. Colours show what raises and lowers the margin; s shows signs."

    @dataclass
    class CursorMoved(Message):
        """The cursor has moved to another token."""

        view: TokenView

    def __init__(self, *, line_break: str = "⏎", id: str | None = None) -> None:  # noqa: A002 (Textual's name)
        super().__init__(id=id)
        self.response = Response("chosen", [])
        self.cursor = 0
        self.note = ""
        """Text for the border, such as why there is no heat map; replaces the numbers of the token."""
        self._goal: int | None = None
        """The column to keep when moving by lines."""
        self._line_break = line_break
        self._shown: Shown = "Δ"
        self._signs = False
        self._differing: NDArray[np.bool_] | None = None
        self._marked: tuple[int, int] = (0, 0)
        """The first marked token and the one after the last."""
        self._hits: NDArray[np.bool_] = np.zeros(0, dtype=np.bool_)
        """Whether each token overlaps with what is searched for."""
        self._levels: NDArray[np.int8] = np.zeros(0, dtype=np.int8)
        self._lines: list[list[Piece]] = [[]]
        self._lines_of: list[tuple[int, int]] = []
        """First and last line of each token."""

    def show(self, response: Response, *, title: str = "", note: str = "") -> None:
        """Show a response from its beginning."""
        if response.has_values != self.response.has_values:
            self.refresh_bindings()
        self.response, self.note, self.cursor, self._differing = response, note, 0, None
        self._marked = (0, 0)
        self._hits = np.zeros(len(response.tokens), dtype=np.bool_)
        self.border_title = Content(title)
        self.scroll_to(y=0, animate=False, force=True)
        self._colour()
        self._wrap()
        self._show_cursor()

    def show_hits(self, needles: tuple[Needle, ...]) -> None:
        """Highlight the tokens that overlap with what is searched for."""
        tokens = self.response.tokens
        ends = np.cumsum([len(token) for token in tokens])
        self._hits = np.zeros(len(tokens), dtype=np.bool_)
        for start, stop in hits("".join(tokens), needles):
            first, last = np.searchsorted(ends, (start, stop - 1), side="right")
            self._hits[first : last + 1] = True
        self.refresh()

    def show_signs(self, *, signs: bool) -> None:
        """Choose whether signs follow the tokens."""
        if signs != self._signs:
            self._signs = signs
            self._wrap()

    def mark(self, start: int, stop: int) -> None:
        """Mark tokens from `start` to before `stop`, and go to the first of them; none if they are equal."""
        self._marked = start, stop
        if start < stop:
            self.move_to(start)
        self.refresh()

    def show_values(self, values: Shown) -> None:
        """Choose the values that colours show."""
        if values != self._shown:
            self._shown = values
            self._show_cursor()
            self._colour()
            if self._signs:
                self._wrap()

    def _colour(self) -> None:
        """Update the colour level of each token."""
        if self.response.has_values:
            choices = self.response.choices
            shown = self._shown if self._shown in choices else choices[0]
            self._levels = self.response.levels(shown)
            if self.app.console.color_system == "standard":  # weak levels of both signs would be the same grey
                self._levels = np.where(np.abs(self._levels) < SIGNED_FROM, 0, STRONG * np.sign(self._levels))
        self.refresh()

    def show_differing(self, differing: NDArray[np.bool_] | None) -> None:
        """Mark the tokens that are not in the other response; None: mark none."""
        self._differing = differing
        self.refresh()

    @property
    def line(self) -> int:
        """The line that the cursor is on."""
        return self._lines_of[self.cursor][0] if self._lines_of else 0

    def _wrap(self) -> None:
        """Wrap the tokens at the current width."""
        width = self.scrollable_content_region.width
        if width <= 0:  # hidden: nothing is wrapped until the view has a size, and lines of an earlier response must go
            self._lines, self._lines_of = [[]], []
            return
        signs = None
        if self._signs and self.response.has_values:
            marked = np.flatnonzero(np.abs(self._levels) >= SIGNED_FROM)
            signs = {int(index): SIGNS[int(np.sign(self._levels[index]))] for index in marked}
        self._lines = wrap_tokens(self.response.tokens, width, signs=signs, line_break=self._line_break)
        self._lines_of = [(0, 0)] * len(self.response.tokens)
        for at, line in enumerate(self._lines):
            for piece in line:
                first, _ = self._lines_of[piece.token]
                self._lines_of[piece.token] = (first or at, at)
        self.virtual_size = Size(width, len(self._lines))
        self.refresh()

    def on_resize(self, _: Resize) -> None:
        """Wrap the tokens at the new width, and keep the cursor in view."""
        self._wrap()
        self._scroll_to_cursor()

    def on_focus(self, _: Focus) -> None:
        """Redraw the cursor as active."""
        self.refresh()

    def on_blur(self, _: Blur) -> None:
        """Redraw the cursor dimmed, since keys no longer move it."""
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """Render a visible line."""
        width = self.scrollable_content_region.width
        base = self.rich_style
        at = y + round(self.scroll_y)
        if not self.response.tokens:
            message = "no scored tokens" if y == 0 else ""
            return Strip([Segment(message, self._style_of("message"))]).adjust_cell_length(width, base)
        pieces = self._lines[at] if at < len(self._lines) else []
        segments = [Segment(piece.text, self._style(piece.token, base)) for piece in pieces]
        return Strip(segments).adjust_cell_length(width, base)

    def _style(self, token: int, base: Style) -> Style:
        """Return the style of a token."""
        hit = Style(reverse=True) if self._hits[token] else Style()
        if not self.response.has_values:
            return base + hit
        level = int(self._levels[token])
        style = self._style_of(f"{NAMES[1 if level > 0 else -1]}-{LEVELS[abs(level)]}") if level else base
        if self.response.is_strong[token]:
            style += Style(underline=True)
        if self._differing is not None and self._differing[token]:
            style += Style(bold=True, italic=True)
        first, stop = self._marked
        if first <= token < stop:
            style += self._style_of("marked")
        style += hit
        if token == self.cursor:
            style = base + Style(reverse=True, bold=True, dim=not self.has_focus)
        return style

    def _style_of(self, name: str) -> Style:
        return self.get_component_rich_style(f"token--{name}")

    def move_to(self, token: int) -> None:
        """Move the cursor to a token, or to the nearest valid one."""
        if not self.response.has_values:
            return
        self._goal = None
        previous, self.cursor = self.cursor, min(max(token, 0), len(self.response.tokens) - 1)
        for first, last in [self._lines_of[token] for token in (previous, self.cursor) if self._lines_of]:
            self.refresh_lines(first, last - first + 1)
        self._scroll_to_cursor()
        self._show_cursor()
        self.post_message(self.CursorMoved(self))

    def _scroll_to_cursor(self) -> None:
        height = self.scrollable_content_region.height
        top = round(self.scroll_target_y)
        wanted = min(max(top, self.line - height + 1), self.line)
        if self.response.has_values and height > 0 and wanted != top:
            self.scroll_to(y=wanted, animate=False, force=True)

    def _show_cursor(self) -> None:
        self.border_subtitle = Content(self.note or self.describe_cursor())

    def describe_cursor(self) -> str:
        """Return the numbers of the token under the cursor; empty if there are none."""
        response, at = self.response, self.cursor
        if not response.has_values:
            return ""
        name = named(response.tokens[at])
        parts = [f"tok {at + 1}/{len(response.tokens)} {name} logπ {signed(response.policy_logps[at])}"]
        if response.ref_logps is not None and response.logratios is not None:
            parts.append(f"ref {signed(response.ref_logps[at])} Δ {signed(response.logratios[at])}")
        if self._shown == "KL" and response.divergences is not None:
            return " ".join([*parts, f"KL {figure(response.divergences[at], '.2f')}"])
        return " ".join([*parts, f"#{response.ranks[at]}"])

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Disable the keys that move between tokens if the response has no values."""
        del parameters
        return self.response.has_values or action not in {"move", "extreme"}

    def action_move(self, step: int) -> None:
        """Go to the next or the previous token."""
        self.move_to(self.cursor + step)

    def action_extreme(self, step: int) -> None:
        """Go to the next or the previous extreme token."""
        extremes = self.response.extremes
        candidates = extremes[extremes > self.cursor] if step > 0 else extremes[extremes < self.cursor][::-1]
        if candidates.size:
            self.move_to(int(candidates[0]))

    def action_line(self, step: int) -> None:
        """Go down or up by lines; without tokens, scroll."""
        if not self.response.has_values:
            self.scroll_relative(y=step, animate=False, force=True)
            return
        if not self._lines_of:  # hidden: there are no lines yet
            return
        column = self._column(self.cursor) if self._goal is None else self._goal
        line = min(max(self.line + step, 0), len(self._lines) - 1)
        while self._token_at(line, column) in {None, self.cursor} and 0 < line < len(self._lines) - 1:
            line += 1 if step > 0 else -1
        token = self._token_at(line, column)
        if token is not None:
            self.move_to(token)
            self._goal = column

    def action_page(self, step: int) -> None:
        """Go down or up by a page."""
        self.action_line(step * max(self.scrollable_content_region.height - 1, 1))

    def action_edge(self, token: int) -> None:
        """Go to the first (0) or the last token (−1)."""
        if self.response.has_values:
            self.move_to(token % len(self.response.tokens))
        else:
            self.scroll_to(y=0 if token == 0 else len(self._lines), animate=False, force=True)

    def on_click(self, event: Click) -> None:
        """Move the cursor to the clicked token."""
        offset = event.get_content_offset(self)
        if offset is not None:
            line = min(offset.y + round(self.scroll_y), len(self._lines) - 1)
            token = self._token_at(line, offset.x)
            if token is not None:
                self.move_to(token)

    def _column(self, token: int) -> int:
        """Return the column where a token starts in the cursor's line."""
        pieces = self._lines[self.line]
        return sum(piece.width for piece in pieces[: [piece.token for piece in pieces].index(token)])

    def _token_at(self, line: int, column: int) -> int | None:
        """Return the token at a column of a line, or the last token of a shorter line; None if the line is empty."""
        right = 0
        for piece in self._lines[line]:
            right += piece.width
            if column < right:
                return piece.token
        return self._lines[line][-1].token if self._lines[line] else None
