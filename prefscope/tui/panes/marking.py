"""Marks and notes for the pair under the cursor, shared by the panes that show it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.notifications import SeverityLevel

from prefscope.errors import ResourceError
from prefscope.ledger.marks import Decision, Mark
from prefscope.report.visible import visible
from prefscope.tui.dialogs.pair import NoteDialog
from prefscope.tui.messages import SessionChanged
from prefscope.tui.panes.pane import Pane

NEXT_DECISION: Mapping[Decision | None, Decision | None] = {None: "keep", "keep": "drop", "drop": "swap", "swap": None}


class MarkingPane(Pane):
    """A pane in which the pair under the cursor can be marked."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "mark", "Mark", id="pair-mark"),
        Binding("u", "undo", "Undo mark", show=False, id="pair-undo"),
        Binding("m", "note", "Note", show=False, id="pair-note"),
    ]

    def action_mark(self) -> None:
        """Change the mark of the pair: keep, drop, swap, none."""
        if not self.session.ledger.num_pairs:
            return
        position = self.session.position
        mark = self.session.mark_of(position)
        self._set_mark(position, replace(mark, decision=NEXT_DECISION[mark.decision]))

    def action_note(self) -> None:
        """Edit the note on the pair."""
        if not self.session.ledger.num_pairs:
            return
        position = self.session.position

        def keep(note: str | None) -> None:
            if note is not None:
                self._set_mark(position, replace(self.session.mark_of(position), note=note))

        self.app.push_screen(NoteDialog(self.session.mark_of(position).note), keep)

    def _set_mark(self, position: int, mark: Mark) -> None:
        try:
            self.session.set_mark(position, mark)
        except ResourceError as error:
            self.report(str(error), severity="error")
            return
        self._changed()

    def action_undo(self) -> None:
        """Undo the last mark."""
        try:
            undone = self.session.undo_mark()
        except ResourceError as error:
            self.report(str(error), severity="error")
            return
        self.report("Undid the last mark" if undone else "There is no mark to undo")
        self._changed()

    def _changed(self) -> None:
        self.show_session()
        self.post_message(SessionChanged())

    @property
    def copied(self) -> tuple[str, str] | None:
        """What `y` copies: the pair_id."""
        if not self.session.ledger.num_pairs:
            return None
        pair_id, _ = self.session.key(self.session.position)
        return pair_id, pair_id

    def report(self, text: str, severity: SeverityLevel = "information") -> None:
        """Show a notification; unsafe characters are escaped."""
        self.notify(visible(text), severity=severity, markup=False)
