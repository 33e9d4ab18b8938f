"""The line for typing a filter expression; the pairs are filtered while the user types."""

from __future__ import annotations

import re
from typing import ClassVar

from rich.highlighter import Highlighter
from rich.style import Style
from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.message import Message
from textual.timer import Timer
from textual.widgets import Input, Static

from prefscope.ledger.filter_functions import CHOICES
from prefscope.ledger.filters import FilterError, Names
from prefscope.report.visible import visible
from prefscope.tui.messages import SessionChanged
from prefscope.tui.model.session import Session

DELAY = 0.08
"""Seconds to wait after the last key before the filter is applied."""
_WORD = re.compile(r"\w*\Z")
_PLAIN = re.compile(r"[^\W\d]\w*")
_CALL = re.compile(r"\b(\w+)\(\s*\w*\Z")


class FilterInput(Input):
    """The input field of the expression, with errors underlined, completion and history."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "complete", "Complete", id="filter-complete"),
        Binding("up", "recall(-1)", "Previous filter", show=False, id="filter-previous"),
        Binding("down", "recall(1)", "Next filter", show=False, id="filter-next"),
        Binding("escape", "leave", "Back to the pairs", id="filter-leave"),
    ]

    class Left(Message):
        """The user left the input field."""

    def __init__(self, names: Names) -> None:
        self.wrong: tuple[int, int] | None = None
        """Start and end of the characters that an error refers to."""
        super().__init__(
            placeholder='filter, for example margin < 0 and prompt ~ "python"',
            highlighter=_Pointer(self),
            select_on_focus=False,
            compact=True,
        )
        self.cursor_blink = False
        self.names = names
        self.history: list[str] = []
        self._recalled = 0
        self._completion: tuple[str, list[str]] = ("", [])
        """The text before the cursor after the last completion, and the next candidates in order."""

    def validate_value(self, value: str) -> str:
        """Return the value with control characters, which can come from pasted text, escaped."""
        return visible(value.replace("\t", " "))

    def remember(self) -> None:
        """Add the expression to the history."""
        if self.value.strip() and self.value not in self.history[-1:]:
            self.history.append(self.value)
        self._recalled = len(self.history)

    def action_recall(self, step: int) -> None:
        """Show an expression from the history; after the last comes an empty one."""
        if self.history:
            self._recalled = min(max(self._recalled + step, 0), len(self.history))
            self.value = (*self.history, "")[self._recalled]
            self.cursor_position = len(self.value)

    def action_leave(self) -> None:
        """Leave the filter."""
        self.post_message(self.Left())

    def action_complete(self) -> None:
        """Complete the word before the cursor; press again for the next candidate."""
        before, after = self.value[: self.cursor_position], self.value[self.cursor_position :]
        left, candidates = self._completion
        if before != left:
            word = _WORD.search(before)
            stem = word[0] if word else ""
            candidates = [before[: len(before) - len(stem)] + one for one in completions(before, self.names)]
        if candidates:
            chosen, *rest = candidates
            self._completion = (chosen, [*rest, chosen])
            self.value = chosen + after
            self.cursor_position = len(chosen)


class _Pointer(Highlighter):
    """Underlines errors in the input field."""

    def __init__(self, field: FilterInput) -> None:
        self.field = field

    def highlight(self, text: Text) -> None:
        """Underline the characters that the field's error refers to."""
        if self.field.wrong is not None:
            text.stylize(Style(underline=True, bold=True), *self.field.wrong)


def completions(before: str, names: Names) -> list[str]:
    """Return the completions of the last word of a text: columns, their aliases, functions, flags and marks."""
    word = _WORD.search(before)
    stem = word[0] if word else ""
    call = _CALL.search(before)
    if call and call[1] in CHOICES:
        return [f"{choice})" for choice in CHOICES[call[1]] if choice.startswith(stem)]
    if not stem:
        return []
    known = [name for name in (*names.usable_aliases, *names.kinds) if visible(name) == name and "`" not in name]
    found = [name for name in known if name.casefold().startswith(stem.casefold())]
    spelled = [name if _PLAIN.fullmatch(name) else f"`{name}`" for name in dict.fromkeys(found)]
    return spelled + [f"{function}(" for function in (*CHOICES, "abs") if function.startswith(stem)]


class FilterBar(Vertical):
    """The filter expression, the number of matching pairs, and an error message if it is invalid."""

    DEFAULT_CSS = """
    FilterBar {
        height: auto;
        & > Horizontal { height: 1; background: $surface; }
        & .sign { width: 3; padding: 0 1; color: $quiet; }
        & FilterInput { width: 1fr; background: $surface; }
        & FilterInput:focus { background-tint: $foreground 5%; }
        & .count { width: auto; min-width: 4; padding: 0 1; color: $quiet; }
        & > .message { height: auto; max-height: 2; padding: 0 1 0 3; color: $negative; display: none; }
        &.-wrong > .message { display: block; }
        &.-wrong .count { color: $negative; }
    }
    """

    class Done(Message):
        """The user has finished editing the filter: focus the pairs again."""

    def __init__(self, session: Session, *, id: str | None = None) -> None:  # noqa: A002 (Textual's name)
        super().__init__(id=id)
        self.session = session
        self._applied = session.expression
        self._timer: Timer | None = None

    def compose(self) -> ComposeResult:
        """Create the input field, the count and the error message."""
        with Horizontal():
            yield Static("/", classes="sign")
            yield FilterInput(self.session.view.names)
            yield Static(classes="count", markup=False)
        yield Static(classes="message", markup=False)

    @property
    def input(self) -> FilterInput:
        """The input field."""
        return self.query_one(FilterInput)

    def show_session(self) -> None:
        """Update the input field if the session's filter was changed elsewhere, and the number of matching pairs."""
        self.input.names = self.session.view.names
        if self._applied != self.session.expression:
            self._cancel()
            self._applied = self.session.expression
            with self.input.prevent(Input.Changed):
                self.input.value = visible(self.session.expression)
            self._show_error(None)
        if not self.has_class("-wrong"):
            self._show_error(None)

    @on(Input.Changed)
    def _wait(self, event: Input.Changed) -> None:
        """Apply the expression once the user stops typing."""
        event.stop()
        self._cancel()
        self._timer = self.set_timer(DELAY, self.apply)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer = None

    def apply(self) -> None:
        """Filter the pairs by the expression; if it is invalid, show the error and leave the filter unchanged."""
        self._cancel()
        expression = self.input.value.strip()
        try:
            if expression != self.session.expression:
                self.session.set_filter(expression)
                self.post_message(SessionChanged())
        except FilterError as error:
            self._show_error(error)
        else:
            self._applied = expression
            self._show_error(None)

    def clear(self) -> None:
        """Clear the filter and show every pair."""
        self.input.value = ""
        self.apply()

    def _show_error(self, error: FilterError | None) -> None:
        """Show an error or, if None, the number of matching pairs."""
        self.set_class(error is not None, "-wrong")
        self.input.wrong = (error.start, error.stop) if error else None
        self.input.refresh()
        count = "✗" if error else f"✓ {self.session.order.size:,}"
        self.query_one(".count", Static).update(Content(count))
        message = f"{error.what}. {error.hint}".strip() if error else ""
        self.query_one(".message", Static).update(Content(visible(message)))

    @on(FilterInput.Left)
    def _leave(self) -> None:
        """Apply the expression, add it to the history if it is valid, and return the focus to the pairs."""
        self.apply()
        if not self.has_class("-wrong"):
            self.input.remember()
        self.post_message(self.Done())

    @on(Input.Submitted)
    def _submit(self, event: Input.Submitted) -> None:
        """Leave the input field if the expression is valid; otherwise stay, so that the user can fix it."""
        event.stop()
        self.apply()
        if not self.has_class("-wrong"):
            self._leave()
