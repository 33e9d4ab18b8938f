"""Dialogs of the Pair pane: full texts, top tokens, and the note."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import DataTable, Input

from prefscope.ledger.search import Needle
from prefscope.preference.explanation import Side
from prefscope.report.visible import visible
from prefscope.tui.copying import copy
from prefscope.tui.model.numbers import signed
from prefscope.tui.model.response import Response
from prefscope.tui.model.token_lines import named, words
from prefscope.tui.pager import open_text
from prefscope.tui.widgets.footer import Footer
from prefscope.tui.widgets.token_view import TokenView

MOST_TOKENS = 100

TokenPlace = tuple[Side, int]
"""A side, and the index of a token in its response."""


class TextsDialog(ModalScreen[None]):
    """Shows the full texts of the pair, one at a time."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "cycle(1)", "Next text", priority=True, id="texts-next"),
        Binding("shift+tab", "cycle(-1)", "Previous text", show=False, priority=True, id="texts-previous"),
        Binding("y", "copy", "Copy text", id="texts-copy"),
        Binding("o", "pager", "Open in pager", id="texts-open"),
        Binding("escape,q,p", "dismiss", "Back", id="texts-back"),
    ]
    DEFAULT_CSS = """
    TextsDialog { align: center middle; }
    TextsDialog TokenView { width: 100%; height: 1fr; background: $surface; padding: 0 1; }
    """

    def __init__(self, texts: Sequence[tuple[str, str]], needles: tuple[Needle, ...] = ()) -> None:
        """Set up the dialog.

        Args:
            texts: Titles and texts.
            needles: What to highlight.
        """
        super().__init__()
        self._texts = texts
        self._needles = needles
        self._at = 0

    def compose(self) -> ComposeResult:
        """Create the text view and the footer."""
        yield TokenView(line_break="")
        yield Footer()

    def on_mount(self) -> None:
        """Show the first text."""
        self.action_cycle(0)

    def action_cycle(self, step: int) -> None:
        """Show the next (1) or the previous (−1) text."""
        self._at = (self._at + step) % len(self._texts)
        view = self.query_one(TokenView)
        _, text = self._texts[self._at]
        view.show(Response("chosen", words(text)), note="tab: next text")
        view.show_hits(self._needles)
        names = [(f" {name} ", "reverse" if at == self._at else "") for at, (name, _) in enumerate(self._texts)]
        view.border_title = Content.assemble(*names)

    def action_copy(self) -> None:
        """Copy the whole text."""
        name, text = self._texts[self._at]
        copy(self.app, text, name)

    def action_pager(self) -> None:
        """Show the text in the user's pager."""
        name, text = self._texts[self._at]
        open_text(self.app, text, name.replace(" ", "-"))


class TopTokensDialog(ModalScreen[TokenPlace | None]):
    """A table of the tokens with the largest |Δ| or, without a reference, the most surprising ones.

    Returns the token to go to, or None if cancelled.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j", "down", "Down", show=False, id="top-down"),
        Binding("k", "up", "Up", show=False, id="top-up"),
        Binding("escape,q,t", "dismiss(None)", "Back", id="top-back"),
    ]
    DEFAULT_CSS = """
    TopTokensDialog { align: center middle; }
    TopTokensDialog DataTable {
        border: round $primary;
        border-subtitle-color: $quiet;
        background: $surface;
        width: auto;
        max-width: 100%;
        height: auto;
        max-height: 100%;
    }
    """

    def __init__(self, responses: Sequence[Response], beta: float) -> None:
        super().__init__()
        self._responses = responses
        self._beta = beta
        self._places: list[TokenPlace] = []

    def compose(self) -> ComposeResult:
        """Create the table."""
        yield DataTable[Text](cursor_type="row", zebra_stripes=True)
        yield Footer()

    def on_mount(self) -> None:
        """Fill the table with the top tokens of both responses, the strongest first."""
        table = self.query_one(DataTable)
        has_reference = self._responses[0].ref_logps is not None
        columns = ("token", "side", "at", *(("Δ", "to margin") if has_reference else ()), "log π")
        names = (*columns, *(("log ref",) if has_reference else ()))
        table.add_columns(*(Text(name, justify="left" if name in {"token", "side"} else "right") for name in names))
        every = [(response, at) for response in self._responses for at in range(len(response.policy_logps))]
        sizes = np.concatenate([np.nan_to_num(np.abs(one.strengths), nan=-1.0) for one in self._responses])
        for index in np.argsort(-sizes, kind="stable")[:MOST_TOKENS].tolist():
            response, at = every[index]
            self._places.append((response.side, at))
            token, side, *numbers = self._row(response, at)
            table.add_row(Text(token), Text(side), *(Text(number, justify="right") for number in numbers))
        table.border_title = Content("top tokens by |Δ|" if has_reference else "most surprising tokens")
        table.border_subtitle = Content("enter goes to it")

    def _row(self, response: Response, at: int) -> list[str]:
        """Return the cells of a token's row."""
        sign = "+" if response.side == "chosen" else "−"
        cells = [named(response.tokens[at]), f"{sign} {response.side}", f"{at + 1:,}"]
        if response.logratios is None or response.ref_logps is None:
            return [*cells, signed(response.policy_logps[at])]
        ratio = response.logratios[at]
        to_margin = self._beta * ratio * (1 if response.side == "chosen" else -1)
        return [
            *cells,
            *(signed(value) for value in (ratio, to_margin, response.policy_logps[at], response.ref_logps[at])),
        ]

    @on(DataTable.RowSelected)
    def _go(self, selected: DataTable.RowSelected) -> None:
        self.dismiss(self._places[selected.cursor_row])

    def action_down(self) -> None:
        """Go to the next token."""
        self.query_one(DataTable).action_cursor_down()

    def action_up(self) -> None:
        """Go to the previous token."""
        self.query_one(DataTable).action_cursor_up()


class NoteDialog(ModalScreen[str | None]):
    """Edits the note on a pair; an empty note removes it. Returns the note, or None if cancelled."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(None)", "Back", id="note-back")]
    DEFAULT_CSS = """
    NoteDialog { align: center middle; }
    NoteDialog Input, NoteDialog Input:focus { width: 70%; border: round $primary; background: $surface; }
    """

    def __init__(self, note: str) -> None:
        super().__init__()
        self._note = note

    def compose(self) -> ComposeResult:
        """Create the input field."""
        yield Input(visible(self._note), placeholder="a note about this pair")
        yield Footer()

    def on_mount(self) -> None:
        """Label the field."""
        field = self.query_one(Input)
        field.border_title = Content("note")
        field.border_subtitle = Content("enter saves it")

    @on(Input.Submitted)
    def _keep(self, submitted: Input.Submitted) -> None:
        self.dismiss(submitted.value.strip())
