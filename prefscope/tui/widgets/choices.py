"""Radio buttons and check boxes that tell by a glyph, not by a colour alone, whether they are on."""

from __future__ import annotations

from textual.content import Content
from textual.widgets import Checkbox, RadioButton


class Choice(RadioButton):
    """One of several: (•) or ( )."""

    @property
    def _button(self) -> Content:  # Textual paints the same glyph in two colours here
        return Content("(•)" if self.value else "( )")


class Tick(Checkbox):
    """On or off: [x] or [ ]."""

    @property
    def _button(self) -> Content:
        return Content("[x]" if self.value else "[ ]")
