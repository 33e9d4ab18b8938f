"""Every key has an id and a description, appears in the help panel where it works, and has one meaning there."""

from __future__ import annotations

import inspect
import pkgutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib import import_module
from io import StringIO

import pytest
from rich.console import Console
from textual.binding import Binding
from textual.dom import DOMNode
from textual.widgets import HelpPanel
from textual.widgets._key_panel import BindingsTable

import prefscope.tui
from prefscope.tui.app import PrefscopeApp
from prefscope.tui.model.session import Session
from tests.tui.terminal import Terminal

pytestmark = pytest.mark.slow

TEXTUALS_OWN = {"ctrl+q", "ctrl+c", "ctrl+p", "super+c"}


def own_classes() -> Iterator[type[DOMNode]]:
    """Yield every prefscope class that can have bindings."""
    for found in pkgutil.walk_packages(prefscope.tui.__path__, "prefscope.tui."):
        module = import_module(found.name)
        for _, one in inspect.getmembers(module, inspect.isclass):
            if issubclass(one, DOMNode) and one.__module__ == found.name:
                yield one


def own_bindings() -> list[tuple[str, Binding]]:
    """Return the bindings declared by prefscope's classes, with the name of the class."""
    classes = [one for one in own_classes() if "BINDINGS" in vars(one)]
    return [(one.__name__, binding) for one in classes for binding in Binding.make_bindings(vars(one)["BINDINGS"])]


def test_every_binding_has_a_unique_id_so_that_its_key_can_be_changed() -> None:
    ids = Counter({(name, binding.id, binding.action) for name, binding in own_bindings()})
    assert [(name, action) for name, found, action in ids if not found] == []
    shared = Counter(found for _, found, _ in ids)
    assert [found for found, count in shared.items() if count > 1] == []


def test_every_binding_has_a_description() -> None:
    assert [(name, binding.key) for name, binding in own_bindings() if not binding.description] == []


def test_no_action_has_only_a_control_chord() -> None:
    keys: dict[tuple[str, str], set[str]] = {}
    for name, binding in own_bindings():
        keys.setdefault((name, binding.action), set()).add(binding.key)
    chords = {place: found for place, found in keys.items() if all(key.startswith("ctrl+") for key in found)}
    assert {place: found - TEXTUALS_OWN for place, found in chords.items() if found - TEXTUALS_OWN} == {}


PLACES: dict[str, list[str]] = {
    "overview": ["1"],
    "pairs": ["2"],
    "filter": ["2", "slash"],
    "pair": ["3"],
    "what-if": ["4"],
    "runs": ["5"],
    "health": ["6"],
    "group by": ["6", "b"],
    "quick filters": ["2", "f"],
    "note": ["2", "m"],
    "texts": ["3", "p"],
    "top tokens": ["3", "t"],
    "export": ["e"],
    "load": ["o"],
}
SHADOWED = {"filter": {"escape"}, "pairs": {"escape"}, "health": {"escape"}, "pair": {"o"}}
"""Esc leaves what is innermost: the input field, the subsets, and at last the scope. On a pair, o opens its texts."""


@pytest.fixture(name="show")
def _show(demo: Session) -> Iterator[Callable[[str], Terminal]]:
    with ExitStack() as stack:

        def show(place: str) -> Terminal:
            terminal = stack.enter_context(Terminal(PrefscopeApp(demo), (160, 80)))
            terminal.press(*PLACES[place])
            return terminal

        yield show


@pytest.mark.parametrize("place", PLACES)
def test_the_help_panel_lists_every_active_key(show: Callable[[str], Terminal], place: str) -> None:
    """Textual's panel lists all active bindings from the focus upwards, also those that the footer leaves out."""
    terminal = show(place)
    active = terminal.app.screen.active_bindings.values()
    told = {one.binding.description for one in active if one.enabled and not one.binding.system}
    terminal.app.call_later(terminal.app.action_show_help_panel)  # as the palette does, also in dialogs
    terminal.sleep(0.1)
    panel = terminal.app.screen.query_one(HelpPanel)
    shown = Console(width=200, file=StringIO(), record=True)
    shown.print(panel.query_one(BindingsTable).render_bindings_table())
    text = shown.export_text()
    assert told
    assert [words for words in told if words not in text] == []


@pytest.mark.parametrize("place", PLACES)
def test_keys_that_are_active_together_do_not_clash(show: Callable[[str], Terminal], place: str) -> None:
    chain = show(place).app.screen._modal_binding_chain
    ours = {name for name, _ in own_bindings()}
    keys = Counter(
        binding.key
        for node, bindings in chain
        if type(node).__name__ in ours
        for binding in {one.key: one for found in bindings.key_to_bindings.values() for one in found}.values()
        if binding.key in {one.key for name, one in own_bindings() if name in {c.__name__ for c in type(node).__mro__}}
    )
    assert {key for key, count in keys.items() if count > 1} == SHADOWED.get(place, set())
