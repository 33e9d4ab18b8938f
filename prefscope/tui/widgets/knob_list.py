"""The list of knobs, one per line: up and down pick a knob, brackets or the mouse move it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.events import Click, MouseScrollDown, MouseScrollUp
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from prefscope.settings import PreferenceSettings
from prefscope.tui.dialogs.line import LineDialog
from prefscope.tui.model.knobs import Knob

NAME_CELLS, VALUE_CELLS, END_CELLS = 20, 8, 7


class KnobList(Widget, can_focus=True):
    """Shows every knob with its span and its value."""

    HELP = "↑ ↓ pick a knob, [ ] move it a little, { } a lot, = types a value, \\ resets it, backspace resets all."
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "pick(-1)", "Knob", key_display="↑↓", id="knob-previous"),
        Binding("down,j", "pick(1)", "Next knob", show=False, id="knob-next"),
        Binding("left_square_bracket,left,h", "turn(-1)", "Move", key_display="[ ]", id="knob-down"),
        Binding("right_square_bracket,right,l", "turn(1)", "Move up", show=False, id="knob-up"),
        Binding("left_curly_bracket", "turn(-5)", "Far down", show=False, id="knob-far-down"),
        Binding("right_curly_bracket", "turn(5)", "Far up", show=False, id="knob-far-up"),
        Binding("equals_sign", "type", "Type a value", key_display="=", id="knob-type"),
        Binding("backslash", "reset", "Reset", key_display="\\", id="knob-reset"),
    ]
    COMPONENT_CLASSES: ClassVar[set[str]] = {"knobs--line", "knobs--picked", "knobs--quiet"}
    DEFAULT_CSS = """
    KnobList {
        height: auto;
        & > .knobs--picked { text-style: bold; color: $accent; }
        & > .knobs--quiet { color: $quiet; }
    }
    KnobList:focus > .knobs--picked { background: $panel; }
    """

    @dataclass
    class Moved(Message):
        """A knob was moved, or another knob was picked."""

        preferences: PreferenceSettings

    def __init__(self, *, id: str) -> None:  # noqa: A002 (Textual's name)
        super().__init__(id=id)
        self._knobs: list[Knob] = []
        self._preferences = self._initial = PreferenceSettings()
        self._picked = 0

    @property
    def picked(self) -> Knob | None:
        """The picked knob; None if there are no knobs."""
        return self._knobs[self._picked] if self._knobs else None

    def show_knobs(self, knobs: list[Knob], preferences: PreferenceSettings, initial: PreferenceSettings) -> None:
        """Show the knobs with their current values; `initial` has the values that a reset restores."""
        grown = len(knobs) != len(self._knobs)
        self._knobs, self._preferences, self._initial = knobs, preferences, initial
        self._picked = min(self._picked, max(len(knobs) - 1, 0))
        self.refresh(layout=grown)

    def get_content_height(self, *_: object) -> int:
        """Return the height: one line per knob, at least one."""
        return max(len(self._knobs), 1)

    def action_pick(self, step: int) -> None:
        """Pick another knob."""
        if self._knobs:
            self._picked = (self._picked + step) % len(self._knobs)
            self.post_message(self.Moved(self._preferences))

    def action_turn(self, steps: int) -> None:
        """Move the picked knob."""
        if self.picked is not None:
            self._move(self.picked.moved(self._preferences, steps))

    def action_type(self) -> None:
        """Ask for the value of the picked knob."""
        knob = self.picked
        if knob is None:
            return

        def move(value: float | None) -> None:
            if value is not None:
                self._move(knob.at(self._preferences, value))

        one, value = knob.parameter, knob.value(self._preferences)
        hint = f"{one.low:g} to {one.high:g}: {one.meaning}"
        self.app.push_screen(LineDialog(knob.name, hint, knob.parsed, value=f"{value:g}"), move)

    def action_reset(self) -> None:
        """Reset the picked knob to its initial value."""
        if self.picked is not None:
            first = self.picked.value(self._initial)
            self._move(self.picked.at(self._preferences, first))

    def on_click(self, event: Click) -> None:
        """Pick the clicked knob; a click on its track also moves it there."""
        offset = event.get_content_offset(self)
        if offset is None or not 0 <= offset.y < len(self._knobs):
            return
        self._picked = offset.y
        knob = self._knobs[offset.y]
        at = (offset.x - NAME_CELLS - END_CELLS - 1) / max(self._track - 1, 1)
        near = int(min(max(at, 0.0), 1.0) * (len(knob.values()) - 1) + 0.5)
        value = float(f"{knob.values()[near]:.2g}") if 0 <= at <= 1 else knob.value(self._preferences)
        self._move(knob.at(self._preferences, value))

    def _move(self, preferences: PreferenceSettings) -> None:
        """Post the new values; they are stored at once, so that keys pressed before the next redraw build on them."""
        self._preferences = preferences
        self.post_message(self.Moved(preferences))

    def on_mouse_scroll_up(self, event: MouseScrollUp) -> None:
        """Move the picked knob up by a step."""
        event.stop()
        self.action_turn(1)

    def on_mouse_scroll_down(self, event: MouseScrollDown) -> None:
        """Move the picked knob down by a step."""
        event.stop()
        self.action_turn(-1)

    @property
    def _track(self) -> int:
        """Width of a knob's track in cells."""
        return max(self.content_size.width - NAME_CELLS - 2 * END_CELLS - VALUE_CELLS - 2, 5)

    def render_line(self, y: int) -> Strip:
        """Render the line of a knob."""
        width = self.content_size.width
        if y >= len(self._knobs):
            text = "" if self._knobs else " none of the losses has a knob"
            return Strip([Segment(text, self.rich_style)]).adjust_cell_length(width, self.rich_style)
        knob, track = self._knobs[y], self._track
        low, high = knob.span
        value = knob.value(self._preferences)
        at = round(knob.share(value) * (track - 1))
        main = self.get_component_rich_style("knobs--picked" if y == self._picked else "knobs--line", partial=True)
        quiet = self.get_component_rich_style("knobs--quiet", partial=True)
        moved = " *" if value != knob.value(self._initial) else ""
        parts: list[tuple[str, Style]] = [
            (f" {'▶' if y == self._picked else ' '} {knob.name}".ljust(NAME_CELLS), main),
            (f"{low:>{END_CELLS}.3g} ", quiet),
            ("─" * at, quiet),
            ("●", main),
            ("─" * (track - 1 - at), quiet),
            (f" {high:<{END_CELLS}.3g}", quiet),
            (f"{value:g}{moved}".ljust(VALUE_CELLS), main),
        ]
        base = self.rich_style + (main if y == self._picked else Style())
        return Strip([Segment(text, base + style) for text, style in parts]).adjust_cell_length(width, base)
