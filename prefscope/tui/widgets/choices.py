"""Radio buttons and check boxes that show their state by a glyph, not only by colour."""

from __future__ import annotations

from textual.content import Content
from textual.widgets import Checkbox, RadioButton


class Choice(RadioButton):
    """A radio button: (•) or ( )."""

    @property
    def _button(self) -> Content:  # Textual only changes the colour of the glyph here
        return Content("(•)" if self.value else "( )")


class Tick(Checkbox):
    """A check box: [x] or [ ]."""

    @property
    def _button(self) -> Content:
        return Content("[x]" if self.value else "[ ]")
