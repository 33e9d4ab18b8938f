"""Marks and notes for the pair under the cursor or a range of pairs, shared by the panes that show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
        Binding("K", "decide('keep')", "Keep", show=False, id="pair-keep"),
        Binding("D", "decide('drop')", "Drop", show=False, id="pair-drop"),
        Binding("S", "decide('swap')", "Swap", show=False, id="pair-swap"),
        Binding("u", "undo", "Undo mark", show=False, id="pair-undo"),
        Binding("m", "note", "Note", show=False, id="pair-note"),
    ]

    @property
    def marked_positions(self) -> Sequence[int]:
        """Positions in the ledger of the pairs that keys mark: the pair under the cursor, or a range."""
        return [self.session.position] if self.session.ledger.num_pairs else []

    def action_mark(self) -> None:
        """Change the mark of the pair: keep, drop, swap, none."""
        if not self.session.ledger.num_pairs:
            return
        decision = self.session.mark_of(self.session.position).decision
        self.decide(self.marked_positions, NEXT_DECISION[decision])

    def action_decide(self, decision: Decision) -> None:
        """Mark the pair or the range keep, drop or swap; remove the mark if all have it already."""
        positions = self.marked_positions
        has_all = all(self.session.mark_of(position).decision == decision for position in positions)
        self.decide(positions, None if has_all else decision)

    def decide(self, positions: Sequence[int], decision: Decision | None) -> None:
        """Set the decision on some pairs, in one step that `u` undoes; notes stay."""
        marks = {position: replace(self.session.mark_of(position), decision=decision) for position in positions}
        if self._set_marks(marks) and len(marks) > 1:
            self.report(f"{len(marks):,} pairs: {decision or 'mark removed'} · u undoes it")

    def action_note(self) -> None:
        """Edit the note on the pair."""
        if not self.session.ledger.num_pairs:
            return
        position = self.session.position

        def keep(note: str | None) -> None:
            if note is not None:
                self._set_marks({position: replace(self.session.mark_of(position), note=note)})

        self.app.push_screen(NoteDialog(self.session.mark_of(position).note), keep)

    def _set_marks(self, marks: Mapping[int, Mark]) -> bool:
        """Change marks by position in the ledger; return whether they could be written."""
        try:
            self.session.set_marks(marks)
        except ResourceError as error:
            self.report(str(error), severity="error")
            return False
        self._changed()
        return True

    def action_undo(self) -> None:
        """Undo the last change of marks."""
        try:
            undone = self.session.undo_marks()
        except ResourceError as error:
            self.report(str(error), severity="error")
            return
        marks = "the last mark" if undone == 1 else f"the marks of {undone:,} pairs"
        self.report(f"Undid {marks}" if undone else "There is no mark to undo")
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
