"""A card of the Overview: a figure with its interval; some list the pairs that it is about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.events import Click
from textual.message import Message
from textual.widgets import Static

from prefscope.report.cards import Card


class CardBox(Static, can_focus=True):
    """Shows a card; enter or a click lists its pairs."""

    HELP = "enter lists the pairs that the figure is about, tab goes to the next card."
    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "open", "Pairs of the card", id="card-open")]

    @dataclass
    class Opened(Message):
        """A request to list the pairs of a card."""

        expression: str

    def __init__(self) -> None:
        super().__init__(classes="card", markup=False)
        self._expression = ""

    def show_card(self, card: Card) -> None:
        """Show a figure; cards without pairs of their own cannot have the focus."""
        warning = " ⚠" if card.warns else ""
        self.update(Content.assemble((f"{card.title}\n", "dim"), (f"{card.value}{warning}\n", "bold"), card.detail))
        self.set_class(card.warns, "-warns")
        self._expression = card.expression
        self.can_focus = bool(card.expression)

    def action_open(self) -> None:
        """List the pairs."""
        if self._expression:
            self.post_message(self.Opened(self._expression))

    def on_click(self, event: Click) -> None:
        """List the pairs."""
        event.stop()
        self.action_open()
