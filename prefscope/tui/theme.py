"""Colours: the themes, and the two colours of a sign.

Sky is positive or chosen, orange negative or rejected: told apart with every kind of colour blindness. Their luma is
equal, so that greyscale shows no sign: a sign is always a glyph too.
"""

from __future__ import annotations

from collections.abc import Mapping

from textual.theme import Theme

from prefscope.settings import Palette

SKY, ORANGE = "#56b4e9", "#e69f00"
DARK_SKY, DARK_ORANGE = "#0072b2", "#a65e00"

THEMES = (
    Theme(
        name="prefscope-dark",
        primary="#7aa2c8",
        secondary="#8a8f98",
        accent="#c8b37a",
        foreground="#d6d8db",
        background="#16181c",
        surface="#1d2025",
        panel="#262a31",
        success=SKY,
        error=ORANGE,
        warning="#d7c25f",
        dark=True,
        variables={"positive": SKY, "negative": ORANGE, "quiet": "#868c96", "block-cursor-text-style": "none"},
    ),
    Theme(
        name="prefscope-light",
        primary="#315f8c",
        secondary="#6b7078",
        accent="#7a5c12",
        foreground="#1f2328",
        background="#fafafa",
        surface="#f1f2f4",
        panel="#e4e6ea",
        success=DARK_SKY,
        error=DARK_ORANGE,
        warning="#8a6d00",
        dark=False,
        variables={
            "positive": DARK_SKY,
            "negative": DARK_ORANGE,
            "quiet": "#686e77",
            "block-cursor-text-style": "none",
        },
    ),
)
DEFAULT_THEME = "prefscope-dark"
DEFAULT_PALETTE: Palette = "sky-orange"
PALETTES: Mapping[Palette, tuple[tuple[str, str], tuple[str, str]]] = {
    "sky-orange": ((SKY, ORANGE), (DARK_SKY, DARK_ORANGE)),
    "blue-red": (("#6aa9dc", "#e0745f"), ("#2166ac", "#b2182b")),
    "mono": (("#e4e6e8", "#8d9299"), ("#24282d", "#7d838b")),
}
"""Colours of positive and negative on dark themes, and on light ones."""
MONO_CLASS = "-mono"
"""Of the app: colours tell no sign."""
VARIABLES = {"positive": SKY, "negative": ORANGE, "quiet": "#868c96"}
"""What themes of others do not define."""


def sign_colours(palette: Palette, *, dark: bool) -> dict[str, str]:
    """Return the variables of a theme for what is positive and what is negative."""
    positive, negative = PALETTES[palette][not dark]
    return {"positive": positive, "negative": negative}
