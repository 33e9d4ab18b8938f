"""Themes, and the colours of positive and negative values.

Sky blue is positive or chosen, orange is negative or rejected: they can be distinguished with every kind of colour
blindness. Their luma is equal, so they look the same in greyscale: every sign is also shown by a glyph.
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
"""(positive, negative) colours on dark themes, then on light themes."""
MONO_CLASS = "-mono"
"""CSS class of the app when colours do not distinguish signs."""
VARIABLES = {"positive": SKY, "negative": ORANGE, "quiet": "#868c96"}
"""Variables that third-party themes do not define."""


def sign_colours(palette: Palette, *, dark: bool) -> dict[str, str]:
    """Return the theme variables `positive` and `negative` of a palette."""
    positive, negative = PALETTES[palette][not dark]
    return {"positive": positive, "negative": negative}
