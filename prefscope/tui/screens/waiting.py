"""The screen of a watch that has not scored a checkpoint yet."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.screen import Screen
from textual.widgets import Static

from prefscope.errors import PrefscopeError
from prefscope.ledger.run_folder import RunFolder
from prefscope.report.visible import visible, visible_lines
from prefscope.tui.model.watcher import Watcher
from prefscope.tui.widgets.footer import Footer

SECONDS_BETWEEN_LOOKS = 0.5


class WaitingScreen(Screen[None]):
    """Shows what the watch is waiting for, until there is a ledger to show."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("q", "app.quit", "Quit", id="waiting-quit")]
    DEFAULT_CSS = """
    WaitingScreen {
        align: center middle;
        & > Vertical { width: 76; max-width: 100%; height: auto; border: round $panel; padding: 1 2; }
        #waiting-notes { color: $quiet; padding: 1 0 0 0; max-height: 12; }
    }
    """

    class Scored(Message):
        """The first checkpoint is scored."""

    def __init__(self, folder: RunFolder, watcher: Watcher) -> None:
        super().__init__()
        self._folder = folder
        self._watcher = watcher

    def compose(self) -> ComposeResult:
        """Create the sentence and the notes below it."""
        with Vertical() as box:
            box.border_title = "prefscope watch"
            yield Static(id="waiting-for", markup=False)
            yield Static(id="waiting-notes", markup=False)
        yield Footer()

    def on_mount(self) -> None:
        """Look for a ledger again and again."""
        self.set_interval(SECONDS_BETWEEN_LOOKS, self.look)
        self.look()

    def look(self) -> None:
        """Show what the watch says, and leave once a checkpoint is scored."""
        try:
            if self._folder.ledgers():
                self.post_message(self.Scored())
                return
            notes = [f"{one.checkpoint}: {one.problem}" for one in self._folder.steps() if one.problem]
        except PrefscopeError as error:
            notes = [str(error)]
        self.query_one("#waiting-for", Static).update(Content(self._sentence()))
        words = "\n".join([*notes, self._watcher.log])
        self.query_one("#waiting-notes", Static).update(Content(visible_lines(words).strip()))

    def _sentence(self) -> str:
        folder = visible(str(self._watcher.checkpoints))
        if (failure := self._watcher.failure) is not None:
            return f"The watch has ended: {visible(failure)}"
        if not self._watcher.checkpoints.is_dir():
            return f"Waiting for {folder} to appear."
        return f"Waiting for the first complete checkpoint in {folder}, or for its scoring."
