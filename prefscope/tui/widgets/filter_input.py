"""The input field of the filter: errors are underlined, completions are listed, and earlier filters recalled."""

from __future__ import annotations

from typing import ClassVar

from rich.highlighter import Highlighter
from rich.style import Style
from rich.text import Text
from textual.binding import Binding, BindingType
from textual.events import Key
from textual.message import Message
from textual.widgets import Input

from prefscope.report.visible import visible
from prefscope.tui.model.completion import Candidate, candidates, is_finished, replaced
from prefscope.tui.model.session import Session


class FilterInput(Input):
    """The input field of the expression or the words to search for."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "complete(1)", "Complete", id="filter-complete"),
        Binding("shift+tab", "complete(-1)", "Previous completion", show=False, id="filter-complete-previous"),
        Binding("up", "step(-1)", "Previous filter", show=False, id="filter-previous"),
        Binding("down", "step(1)", "Next filter", show=False, id="filter-next"),
        Binding("escape", "leave", "Back to the pairs", id="filter-leave"),
    ]

    HELP = (
        'Words and `"phrases"` are searched for in prompt, chosen and rejected, `re:` begins a regular expression. '
        "Expressions such as `margin < 0 and not flag(truncated)` select pairs by their columns. `?` shows examples."
    )

    class Left(Message):
        """The user left the input field."""

    class GrammarRequested(Message):
        """The user asks what can be typed."""

    class Completing(Message):
        """The listed completions have changed."""

    def __init__(self, session: Session) -> None:
        self.wrong: tuple[int, int] | None = None
        """Start and end of the characters that an error refers to."""
        super().__init__(
            placeholder="words to find, or an expression like margin < 0 · ? shows how",
            highlighter=_Pointer(self),
            select_on_focus=False,
            compact=True,
        )
        self.cursor_blink = False
        self.session = session
        self.history: list[str] = []
        self.found: list[Candidate] = []
        """The listed completions."""
        self.chosen: int | None = None
        """Index of the completion that has been inserted."""
        self._recalled = 0
        self._before = ""
        """What was typed before the cursor when the completions were found."""
        self._inserted: str | None = None
        """The last value that a completion or the history has set."""

    def validate_value(self, value: str) -> str:
        """Return the value with control characters, which can come from pasted text, escaped."""
        return visible(value.replace("\t", " "))

    def remember(self) -> None:
        """Add the expression to the history."""
        if self.value.strip() and self.value not in self.history[-1:]:
            self.history.append(self.value)
        self._recalled = len(self.history)

    def on_key(self, event: Key) -> None:
        """Show the grammar if ? is the first key; later it is part of a text."""
        if event.key == "question_mark" and not self.value:
            event.prevent_default()
            event.stop()
            self.post_message(self.GrammarRequested())

    def update_completions(self) -> None:
        """List the completions of what was typed; nothing changes if the text comes from a completion."""
        if self.value != self._inserted:
            self._find()
            self._show(None)

    def _find(self) -> None:
        self._before = self.value[: self.cursor_position]
        found = candidates(self._before, self.session)
        self.found = [] if is_finished(self._before, found) else found

    def _show(self, chosen: int | None) -> None:
        self.chosen = chosen
        self.post_message(self.Completing())

    def close_list(self) -> None:
        """Close the list of completions."""
        self.found = []
        self._show(None)

    def action_complete(self, step: int) -> None:
        """Insert the next or the previous completion of the word before the cursor."""
        before = self.value[: self.cursor_position]
        current = self._before if self.chosen is None else replaced(self._before, self.found[self.chosen])
        if before != current or not self.found:
            self._find()
            self.chosen = None
        if self.found:
            first = 0 if step > 0 else len(self.found) - 1
            self.choose(first if self.chosen is None else (self.chosen + step) % len(self.found))

    def choose(self, index: int) -> None:
        """Insert a listed completion in place of what was typed."""
        after = self.value[self.cursor_position :]
        text = replaced(self._before, self.found[index])
        self._insert(text, after)
        self._show(index)

    def _insert(self, before: str, after: str) -> None:
        self._inserted = before + after
        self.value = self._inserted
        self.cursor_position = len(before)

    def action_step(self, step: int) -> None:
        """Choose from the list of completions; if it is closed, recall an earlier filter."""
        if self.found:
            self.action_complete(step)
        elif self.history:
            self._recalled = min(max(self._recalled + step, 0), len(self.history))
            self._insert((*self.history, "")[self._recalled], "")

    async def action_submit(self) -> None:
        """Take the chosen completion; if there is none, finish."""
        if self.chosen is None:
            self.close_list()
            await super().action_submit()
            return
        self._inserted = None
        self.update_completions()

    def action_leave(self) -> None:
        """Close the list of completions, without the one that was inserted; if it is closed, leave the filter."""
        if not self.found:
            self.post_message(self.Left())
            return
        if self.chosen is not None:
            self._insert(self._before, self.value[self.cursor_position :])
        self.close_list()


class _Pointer(Highlighter):
    """Underlines errors in the input field."""

    def __init__(self, field: FilterInput) -> None:
        self.field = field

    def highlight(self, text: Text) -> None:
        """Underline the characters that the field's error refers to."""
        if self.field.wrong is not None:
            text.stylize(Style(underline=True, bold=True), *self.field.wrong)
