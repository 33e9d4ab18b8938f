"""The dialog with what can be typed in the filter."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.content import Content
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from prefscope.tui.dialogs.list_dialog import ListDialog, list_bindings
from prefscope.tui.model.cells import fit, one_line
from prefscope.tui.model.grammar import Example, grammar
from prefscope.tui.model.session import Session
from prefscope.tui.widgets.footer import Footer

EXAMPLE_WIDTH = 34


class GrammarDialog(ListDialog[str]):
    """Returns the chosen example, or None if cancelled."""

    BINDINGS: ClassVar[list[BindingType]] = list_bindings("grammar", "escape,q,question_mark")
    DEFAULT_CSS = "GrammarDialog > OptionList { width: 96; }"

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._topics = grammar(session)
        self._examples: list[Example | None] = []

    def compose(self) -> ComposeResult:
        """Create the list of examples by topic."""
        options = []
        for topic, examples in self._topics.items():
            if examples:
                options.append(Option(Content.styled(topic, "bold"), disabled=True))
                options += [Option(_line(one)) for one in examples]
                self._examples += [None, *examples]
        shown = OptionList(*options, markup=False)
        shown.border_title = "what can be typed"
        shown.border_subtitle = "enter takes the example · tab completes columns, functions and values"
        yield shown
        yield Footer()

    @on(OptionList.OptionSelected)
    def _choose(self, event: OptionList.OptionSelected) -> None:
        chosen = self._examples[event.option_index]
        self.dismiss(chosen.text if chosen else None)


def _line(example: Example) -> Content:
    text = one_line(example.text)
    return Content(f"  {fit(text, max(EXAMPLE_WIDTH, len(text)))}  {one_line(example.meaning)}")
