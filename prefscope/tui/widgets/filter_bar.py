"""The line for typing words to search for or a filter expression; the pairs are filtered while the user types."""

from __future__ import annotations

from functools import partial

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.events import DescendantBlur
from textual.message import Message
from textual.timer import Timer
from textual.widgets import Input, Static
from textual.worker import get_current_worker

from prefscope.errors import PrefscopeError
from prefscope.ledger.column_values import never
from prefscope.ledger.filters import Filter, FilterError
from prefscope.ledger.plain_search import read_filter
from prefscope.ledger.source_pairs import is_linted, lint_of
from prefscope.ledger.table import Ledger
from prefscope.report.visible import visible
from prefscope.tui.dialogs.grammar import GrammarDialog
from prefscope.tui.messages import SessionChanged
from prefscope.tui.model.session import Session
from prefscope.tui.widgets.completion_list import CompletionList
from prefscope.tui.widgets.filter_input import FilterInput

DELAY = 0.08
"""Seconds to wait after the last key before the filter is applied."""
SEARCH_DELAYS = 3
"""A search of the texts waits for several delays: the beginning of an expression looks like a word."""
FEW_PAIRS = 2000
"""Texts of so many pairs are searched at once, those of more pairs in a thread."""


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
        &.-wrong > .message, &.-noted > .message { display: block; }
        &.-noted > .message { color: $foreground; }
        &.-wrong .count { color: $negative; }
    }
    """

    class Done(Message):
        """The user has finished editing the filter: focus the pairs again."""

    def __init__(self, session: Session, *, id: str | None = None) -> None:  # noqa: A002 (Textual's name)
        super().__init__(id=id)
        self.session = session
        self._applied = session.expression
        self._before_search: str | None = None
        """The scope before the words in the input field were searched for; None if they were not."""
        self._position: int | None = None
        """Position of the pair that the cursor was on when the user began to type: it returns there if it can."""
        self._timer: Timer | None = None

    def compose(self) -> ComposeResult:
        """Create the input field, the count and the error message."""
        yield CompletionList()
        with Horizontal():
            yield Static("/", classes="sign")
            yield FilterInput(self.session)
            yield Static(classes="count", markup=False)
        yield Static(classes="message", markup=False)

    @property
    def input(self) -> FilterInput:
        """The input field."""
        return self.query_one(FilterInput)

    def show_session(self) -> None:
        """Update the input field if the session's filter was changed elsewhere, and the number of matching pairs."""
        if self._applied != self.session.expression:
            self._cancel()
            self.workers.cancel_group(self, "search")
            self._applied = self.session.expression
            self._before_search = None
            with self.input.prevent(Input.Changed):
                self.input.value = visible(self.session.expression)
            self._show_error(None)
        self._show_count()

    @on(Input.Changed)
    def _wait(self, event: Input.Changed) -> None:
        """Apply the expression once the user stops typing."""
        event.stop()
        self._cancel()
        self.input.update_completions()
        self._timer = self.set_timer(DELAY * (SEARCH_DELAYS if self._is_search else 1), self.apply)

    @property
    def _is_search(self) -> bool:
        """Whether the input field has words to search for, not an expression."""
        try:
            return self._read() != self.input.value.strip()
        except FilterError:
            return False

    def _read(self) -> str:
        """Return the expression for what was typed.

        Raises:
            FilterError: If it was meant as an expression, but is not one.
        """
        typed = self.input.value.strip()
        if typed == visible(self.session.expression):
            return self.session.expression
        return read_filter(typed, self.session.view.parse)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer = None

    def apply(self) -> None:
        """Filter the pairs by what was typed; if it is invalid, show the error and leave the filter unchanged."""
        self._cancel()
        self.workers.cancel_group(self, "search")
        try:
            expression = self._read()
            parsed = self.session.view.parse(expression)
        except FilterError as error:
            if self._before_search is not None:  # the beginning of this was taken for words to search for
                self._set(self._before_search)
                self._before_search = None
            self._show_error(error)
            return
        if self._is_slow(parsed):
            self.query_one(".count", Static).update(Content("searching…"))
            search = partial(self._search, self.session.ledger, parsed)
            self.run_worker(search, thread=True, group="search", exclusive=True, exit_on_error=False)
            return
        if self._is_search and self._before_search is None:
            self._before_search = self.session.expression
        self._set(expression)
        self._before_search = self._before_search if self._is_search else None
        self._show_error(None)
        self._show_notes(never(self.session.view, parsed))

    def _set(self, expression: str) -> None:
        self._applied = expression
        if expression != self.session.expression:
            self._position = self.session.position if self._position is None else self._position
            self.session.position = self._position
            self.session.set_filter(expression)
            self.post_message(SessionChanged())

    def _is_slow(self, parsed: Filter) -> bool:
        """Return whether the texts of many pairs must be read."""
        ledger, uses = self.session.ledger, parsed.uses
        is_known = all(map(ledger.text_search.is_known, uses.needles)) and (
            "lint" not in uses.functions or is_linted(ledger)
        )
        return ledger.num_pairs > FEW_PAIRS and not is_known

    def _search(self, ledger: Ledger, parsed: Filter) -> None:
        """Search the texts in a thread, then filter; results of an outdated search are not shown."""
        worker = get_current_worker()
        try:
            for needle in parsed.uses.needles:
                ledger.text_search.prepare(needle, lambda: worker.is_cancelled)
            if "lint" in parsed.uses.functions and not worker.is_cancelled:
                lint_of(ledger)
        except PrefscopeError as error:
            self.app.call_from_thread(self.notify, visible(str(error)), severity="error", markup=False)
            return
        if not worker.is_cancelled:
            self.app.call_from_thread(self.apply)

    def clear(self) -> None:
        """Clear the filter and show every pair."""
        self.input.value = ""
        self.apply()

    def _show_error(self, error: FilterError | None) -> None:
        """Show an error or, if None, the number of matching pairs."""
        self.set_class(error is not None, "-wrong")
        self.remove_class("-noted")
        self.input.wrong = (error.start, error.stop) if error else None
        self.input.refresh()
        self._show_count()
        message = f"{error.what}. {error.hint}".strip() if error else ""
        self.query_one(".message", Static).update(Content(visible(message)))

    def _show_count(self) -> None:
        """Show the number of matching pairs, or that the expression is invalid."""
        kind = "search " if self._before_search is not None else ""
        count = "✗" if self.has_class("-wrong") else f"{kind}✓ {self.session.order.size:,}"
        self.query_one(".count", Static).update(Content(count))

    def _show_notes(self, notes: list[str]) -> None:
        self.set_class(bool(notes), "-noted")
        if notes:
            self.query_one(".message", Static).update(Content(visible(" ".join(notes))))

    @on(FilterInput.Completing)
    def _list_completions(self) -> None:
        self.query_one(CompletionList).show(self.input.found, self.input.chosen)

    @on(CompletionList.Clicked)
    def _choose_completion(self, event: CompletionList.Clicked) -> None:
        self.input.choose(event.index)

    @on(FilterInput.GrammarRequested)
    def _show_grammar(self) -> None:
        self.app.push_screen(GrammarDialog(self.session), self._use_example)

    def _use_example(self, example: str | None) -> None:
        if example is not None:
            self.input.value = example
            self.input.cursor_position = len(example)

    def on_descendant_blur(self, _: DescendantBlur) -> None:
        """Close the list of completions; from here on, the cursor stays where it is."""
        self.input.close_list()
        self._position = None

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
