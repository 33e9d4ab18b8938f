"""Colours, themes and remembered choices; terminals without colours or with ASCII only."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from rich.segment import Segment
from textual.color import Color

from prefscope.errors import UsageError
from prefscope.settings import Palette
from prefscope.tui.app import PrefscopeApp
from prefscope.tui.model.state import Opened, Remembered, recall, remember, remembered_file
from prefscope.tui.theme import DARK_SKY, ORANGE, PALETTES, SKY
from tests.tui.terminal import Terminal

pytestmark = pytest.mark.slow

Show = Callable[..., Terminal]
SCREENS = ["1", "2", "3", "4", "5", "6", "2 f", "2 c", "2 e", "3 t", "3 p", "2 m", "2 question_mark", "2 ctrl+p", "o"]
"""Keys to every screen and dialog."""


def painted(terminal: Terminal) -> list[list[Segment]]:
    """Return the lines as sent to the terminal."""
    lines = []
    for strip in terminal.strips:
        segments = list(strip)
        for line_filter in terminal.app.get_line_filters():
            segments = line_filter.apply(segments, Color(0, 0, 0))
        lines.append(segments)
    return lines


def strong_background(terminal: Terminal) -> str:
    """Return the colour of tokens that are much more likely under the policy."""
    style = terminal.app.screen.query_one("#chosen").get_component_rich_style("token--positive-strong")
    assert style.bgcolor is not None
    return style.bgcolor.get_truecolor().hex


@pytest.mark.parametrize("keys", SCREENS)
def test_ascii_mode_paints_only_ascii_on_every_screen_and_dialog(show_app: Show, keys: str) -> None:
    terminal = show_app(ascii_only=True)
    terminal.press(*keys.split())
    lines = ["".join(segment.text for segment in line) for line in painted(terminal)]
    assert all(line.isascii() for line in lines)
    assert {len(line) for line in lines} == {80}


@pytest.mark.parametrize("theme", ["prefscope-dark", "ansi-dark"])
@pytest.mark.parametrize("keys", SCREENS)
def test_no_color_paints_no_colours(show_app: Show, monkeypatch: pytest.MonkeyPatch, keys: str, theme: str) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    terminal = show_app(theme=theme)
    terminal.press(*keys.split())
    styles = [segment.style for line in painted(terminal) for segment in line if segment.style]
    colours = {
        colour for style in styles for colour in (style.color, style.bgcolor) if colour and not colour.is_default
    }
    greys = {colour for colour in colours if len(set(colour.get_truecolor())) == 1 and theme == "prefscope-dark"}
    assert colours - greys == set()


@pytest.mark.parametrize("palette", PALETTES)
def test_tokens_numbers_and_bars_use_the_palette(show_app: Show, palette: Palette) -> None:
    (positive, negative), _ = PALETTES[palette]
    terminal = show_app(palette=palette)
    assert terminal.colour_of("██") == positive
    terminal.press("2", "n")
    assert terminal.colour_of(" −") == negative
    terminal.press("3")
    assert strong_background(terminal) == positive


def test_signs_follow_tokens_without_colours(show_app: Show) -> None:
    terminal = show_app()
    terminal.press("3")
    app = terminal.app
    assert isinstance(app, PrefscopeApp)
    assert "⁻" not in terminal.text
    app.set_palette("mono")
    terminal.rest()
    assert "⁻" in terminal.text
    terminal.press("s")
    assert "⁻" not in terminal.text
    terminal.press("s")
    app.set_palette("blue-red")
    terminal.rest()
    assert "⁻" in terminal.text  # they were asked for


def test_sign_colours_are_darker_on_every_light_theme(show_app: Show) -> None:
    terminal = show_app()
    terminal.press("3")
    assert strong_background(terminal) == SKY
    terminal.app.theme = "solarized-light"
    terminal.rest()
    assert strong_background(terminal) == DARK_SKY


def test_theme_and_palette_are_remembered(show_app: Show) -> None:
    terminal = show_app()
    app = terminal.app
    assert isinstance(app, PrefscopeApp)
    app.theme = "prefscope-light"
    app.set_palette("blue-red")
    terminal.rest()
    again = show_app().app
    assert isinstance(again, PrefscopeApp)
    assert (again.theme, again.palette) == ("prefscope-light", "blue-red")


def test_options_override_the_remembered_state_and_are_not_stored(show_app: Show) -> None:
    remember(Remembered(theme="prefscope-light", palette="mono"))
    app = show_app(theme="nord", palette="sky-orange").app
    assert isinstance(app, PrefscopeApp)
    assert (app.theme, app.palette) == ("nord", "sky-orange")
    assert replace(recall(), opened=()) == Remembered(theme="prefscope-light", palette="mono")
    app.set_palette("blue-red")
    assert replace(recall(), opened=()) == Remembered(theme="prefscope-light", palette="blue-red")


def test_an_unknown_theme_is_reported_with_a_suggestion() -> None:
    with pytest.raises(UsageError, match=r"There is no theme 'prefscop-light'\. Did you mean 'prefscope-light'\?"):
        PrefscopeApp(None, theme="prefscop-light")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", Remembered()),
        ("[1]", Remembered()),
        ('{"theme": "nord"}', Remembered(theme="nord")),
        ('{"theme": 3, "palette": "mono", "columns": 1}', Remembered(palette="mono")),
        ('{"columns": ["margins", 2], "opened": [1, {"data": "x", "policy": 3}, {}]}', None),
    ],
    ids=["no JSON", "no object", "of an earlier version", "odd values", "odd lists"],
)
def test_valid_entries_of_a_damaged_state_file_are_used(text: str, expected: Remembered | None) -> None:
    remembered_file().parent.mkdir(parents=True)
    remembered_file().write_text(text)
    assert recall() == (expected or Remembered(columns=("margins",), opened=(Opened("x"),)))


def test_an_unknown_remembered_palette_is_ignored(show_app: Show) -> None:
    remembered_file().parent.mkdir(parents=True)
    remembered_file().write_text(json.dumps({"palette": "beige", "theme": "beige"}))
    assert show_app().colour_of("▒▒") == ORANGE
