"""The dialog for exporting pairs: the file, the pairs, the format, and the equivalent command line."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from textual import on
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button, Checkbox, Input, RadioSet, Static

from prefscope.errors import UsageError
from prefscope.report.visible import visible
from prefscope.tui.copying import copy
from prefscope.tui.model.export_request import ExportRequest
from prefscope.tui.model.session import Session
from prefscope.tui.widgets.choices import Choice, Tick
from prefscope.tui.widgets.footer import Footer

MARKED = "mark(any)"
STARTED_SECONDS, FAILED_SECONDS = 2.0, 15.0
"""Seconds for which the start and the failure of an export are shown; errors take longer to read."""


class ExportDialog(ModalScreen[None]):
    """Chooses which pairs to write, and where, and starts the export in the background."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "enter", "Export", priority=True, id="export-write"),
        Binding("escape", "dismiss(None)", "Back", id="export-back"),
        Binding("y", "copy", "Copy command", id="export-copy"),
    ]
    DEFAULT_CSS = """
    ExportDialog {
        align: center middle;
        #export {
            width: 100; max-width: 100%; height: auto; max-height: 100%;
            border: round $primary; border-subtitle-color: $quiet; background: $surface; padding: 0 1;
        }
        Horizontal { height: auto; }
        .label { width: 7; color: $quiet; }
        Input, RadioSet { width: 1fr; }
        #verdict, #facts, #command { padding-left: 7; }
        #verdict.-wrong { color: $negative; }
        #verdict.-warns { color: $warning; }
        #ticks { padding-left: 11; }
        Tick { margin-right: 3; }
        #facts { color: $quiet; }
        #buttons { align-horizontal: right; }
        Button { margin-left: 2; }
    }
    ExportDialog.-tall {
        #verdict, #rows, #ticks, #command { margin-bottom: 1; }
    }
    """

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self._wheres = {"view": session.expression, "marked": MARKED, "all": ""}
        self._masks = {name: session.view.filter(where) for name, where in self._wheres.items()}
        self._dropped, self._swapped = (session.view.marked(mark) for mark in ("drop", "swap"))
        self._suggested = self._path_beside_ledger("view.csv")
        """The path suggested in the field: it follows the choices until the user changes it."""
        self._confirmed: Path | None = None
        """The existing file that the user was warned about; exporting again replaces it."""

    def compose(self) -> ComposeResult:
        """Create the fields and the buttons."""
        counts = {name: f"{np.count_nonzero(mask):,}" for name, mask in self._masks.items()}
        view = f"the view {counts['view']}   {visible(self.session.expression) or 'no filter'}"
        with VerticalScroll(id="export", can_focus=False) as box:
            box.border_title = Content("export")
            box.border_subtitle = Content("tab next · space selects")
            yield Horizontal(_label("to"), Input(self._suggested, compact=True))
            yield Static(id="verdict", markup=False)
            rows = (
                Choice(Content(view), value=True, id="view"),
                Choice(Content(f"marked {counts['marked']}"), id="marked"),
                Choice(Content(f"all {counts['all']}"), id="all"),
            )
            yield Horizontal(_label("pairs"), RadioSet(*rows, compact=True), id="rows")
            forms = (
                Choice("flat table: log-probs, rewards, losses", value=True, id="table"),
                Choice("curated data set: marks applied, in its original layout", id="curated"),
            )
            yield Horizontal(_label("as"), RadioSet(*forms, compact=True))
            ticks = (Tick("texts", compact=True, id="texts"), Tick("gradient weights", compact=True, id="weights"))
            yield Horizontal(*ticks, id="ticks")
            yield Static(id="facts", markup=False)
            yield Static(id="command", markup=False)
            with Horizontal(id="buttons"):
                yield Button("Copy command", compact=True, id="copy")
                yield Button("Cancel", compact=True, id="cancel")
                yield Button("Export", variant="primary", compact=True, id="write")
        yield Footer()

    def on_mount(self) -> None:
        """Show the result of the initial choices."""
        self._draw()

    def _is_picked(self, name: str) -> bool:
        return self.query_one(f"#{name}", Choice).value

    @property
    def rows(self) -> str:
        """Which pairs are selected: `view`, `marked` or `all`."""
        return next(name for name in self._wheres if self._is_picked(name))

    @property
    def request(self) -> ExportRequest:
        """The export described by the fields."""
        return ExportRequest(
            ledger=self.session.ledger,
            preferences=self.session.preferences,
            output=_path(self.query_one(Input).value),
            where=self._wheres[self.rows],
            curated=self._is_picked("curated"),
            texts=self.query_one("#texts", Tick).value,
            weights=self.query_one("#weights", Tick).value,
        )

    @on(Input.Changed)
    @on(RadioSet.Changed)
    @on(Checkbox.Changed)
    def _follow(self) -> None:
        self._confirmed = None
        self._draw()

    def _draw(self) -> None:
        """Show the number of pairs, the command line, and any problem with the choices."""
        self._suggest_path()
        request = self.request
        self.query_one("#ticks").visible = not request.curated
        written, dropped, swapped = self._counts(request)
        how = f", {dropped:,} dropped, {swapped:,} swapped" if request.curated else " in ledger order"
        self.query_one("#facts", Static).update(Content(f"{written:,} pairs{how}. As a command:"))
        self.query_one("#command", Static).update(Content(visible(request.command)))
        kind, text = self._verdict(request)
        verdict, button = self.query_one("#verdict", Static), self.query_one("#write", Button)
        verdict.set_classes(kind).update(Content(visible(text)))
        button.disabled = kind == "-wrong"
        button.label = "Replace" if self._confirmed else "Export"

    def _suggest_path(self) -> None:
        """Update the suggested path, unless the user has changed it."""
        field = self.query_one(Input)
        if field.value == self._suggested:
            self._suggested = self._path_beside_ledger(
                "curated.jsonl" if self._is_picked("curated") else f"{self.rows}.csv"
            )
            with self.prevent(Input.Changed):
                field.value = self._suggested

    def _path_beside_ledger(self, ending: str) -> str:
        """Return a path next to the ledger, or in the working folder if the ledger's folder is not writable."""
        ledger = self.session.ledger.path
        folder = ledger.parent if os.access(ledger.parent, os.W_OK) else Path()
        return visible(str(folder / f"{ledger.stem}-{ending}"))

    def _counts(self, request: ExportRequest) -> tuple[int, int, int]:
        """Return how many of the selected pairs will be written, dropped and swapped."""
        picked = self._masks[self.rows]
        pairs = int(np.count_nonzero(picked))
        if not request.curated:
            return pairs, 0, 0
        dropped, swapped = (int(np.count_nonzero(picked & mark)) for mark in (self._dropped, self._swapped))
        return pairs - dropped, dropped, swapped

    def _verdict(self, request: ExportRequest) -> tuple[str, str]:
        """Return the CSS class (`-wrong`, `-warns` or empty) and the text of the message below the path."""
        try:
            request.check()
        except UsageError as error:
            return "-wrong", f"✗ {error}"
        written, _, _ = self._counts(request)
        if request.curated and not written:
            return "-wrong", "✗ No pair is left to write."
        if not request.output.exists():
            return "", "✓ new file"
        what_next = "press enter again to replace it" if self._confirmed else "you will be asked before it is replaced"
        return "-warns", f"⚠ This file exists: {what_next}."

    def action_enter(self) -> None:
        """Write the file, or press the focused button."""
        if isinstance(self.focused, Button):
            self.focused.press()
        elif self.focused is not None:
            self.focused.call_later(self._write)  # after the field has processed pending keys

    @on(Button.Pressed, "#write")
    def _write(self) -> None:
        """Write the file; an existing file is replaced only when confirmed by a second press."""
        request = self.request
        kind, _ = self._verdict(request)
        if kind == "-warns" and self._confirmed != request.output:
            self._confirmed = request.output
            self._draw()
        elif kind != "-wrong":
            start_export(self.app, request, self._counts(request)[0])
            self.dismiss(None)

    @on(Button.Pressed, "#copy")
    def action_copy(self) -> None:
        """Copy the command line."""
        copy(self.app, self.request.command, "the command line")

    @on(Button.Pressed, "#cancel")
    def _leave(self) -> None:
        self.dismiss(None)


def start_export(app: App[Any], request: ExportRequest, pairs: int) -> None:
    """Start an export in a background thread; notifications report its start and its end or failure."""
    app.notify(visible(f"Writing {request.output}"), timeout=STARTED_SECONDS, markup=False)
    write = partial(_export, app, request, pairs)
    app.run_worker(write, group="export", thread=True, exit_on_error=False)


def _export(app: App[Any], request: ExportRequest, pairs: int) -> None:
    if problem := request.write():
        app.notify(visible(problem), severity="error", timeout=FAILED_SECONDS, markup=False)
    else:
        unscored = request.ledger.num_unscored
        yet = f" ({unscored:,} pairs of the ledger are not scored yet)" if unscored else ""
        app.notify(visible(f"{pairs:,} pairs → {request.output}{yet}"), markup=False)


def _path(text: str) -> Path:
    try:
        return Path(text.strip()).expanduser()
    except RuntimeError:  # `~user` of an unknown user
        return Path(text.strip())


def _label(text: str) -> Static:
    return Static(text, classes="label", markup=False)
