"""What dialogs with a list have in common: their frame, and keys that move the highlight."""

from __future__ import annotations

from typing import TypeVar

from textual.binding import Binding, BindingType
from textual.screen import ModalScreen
from textual.widgets import OptionList

Result = TypeVar("Result")


def list_bindings(name: str, closing: str) -> list[BindingType]:
    """Return the bindings of a dialog with a list.

    Args:
        name: What the ids of the bindings begin with.
        closing: The keys that close the dialog without a choice.
    """
    return [
        Binding(closing, "dismiss(None)", "Back", id=f"{name}-back"),
        Binding("j", "step('down')", "Down", show=False, id=f"{name}-down"),
        Binding("k", "step('up')", "Up", show=False, id=f"{name}-up"),
    ]


class ListDialog(ModalScreen[Result | None]):
    """Shows a list in the middle of the screen, and returns a choice, or None if cancelled."""

    DEFAULT_CSS = """
    ListDialog {
        align: center middle;
        & > OptionList { width: 76; max-width: 95%; height: auto; max-height: 90%; }
        & > OptionList { text-wrap: nowrap; text-overflow: ellipsis; }
        & > OptionList, & > OptionList:focus { border: round $primary; }
    }
    """

    def action_step(self, direction: str) -> None:
        """Move the highlight up or down."""
        options = self.query_one(OptionList)
        if direction == "down":
            options.action_cursor_down()
        else:
            options.action_cursor_up()
