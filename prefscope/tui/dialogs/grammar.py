"""The dialog with what can be typed in the filter."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from prefscope.tui.model.cells import fit, one_line
from prefscope.tui.model.grammar import Example, grammar
from prefscope.tui.model.session import Session
from prefscope.tui.widgets.footer import Footer

EXAMPLE_WIDTH = 34


class GrammarDialog(ModalScreen[str | None]):
    """Returns the chosen example, or None if cancelled."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark", "dismiss(None)", "Back", id="grammar-back"),
        Binding("j", "step('down')", "Down", show=False, id="grammar-down"),
        Binding("k", "step('up')", "Up", show=False, id="grammar-up"),
    ]
    DEFAULT_CSS = """
    GrammarDialog {
        align: center middle;
        & > OptionList { width: 96; max-width: 95%; height: auto; max-height: 90%; }
        & > OptionList { text-wrap: nowrap; text-overflow: ellipsis; }
        & > OptionList, & > OptionList:focus { border: round $primary; }
    }
    """

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

    def action_step(self, direction: str) -> None:
        """Move the highlight up or down."""
        options = self.query_one(OptionList)
        if direction == "down":
            options.action_cursor_down()
        else:
            options.action_cursor_up()


def _line(example: Example) -> Content:
    text = one_line(example.text)
    return Content(f"  {fit(text, max(EXAMPLE_WIDTH, len(text)))}  {one_line(example.meaning)}")
