"""User-defined keys for bindings, by binding id: `[keys]` of prefscope.toml."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence

from textual.binding import Binding
from textual.dom import DOMNode
from textual.keys import _normalize_key_list as normalised  # `?` becomes `question_mark`, as in App.set_keymap

from prefscope.errors import UsageError
from prefscope.tui.app import PrefscopeApp
from prefscope.tui.dialogs.column_choice import ColumnChoice
from prefscope.tui.dialogs.columns import ColumnsDialog
from prefscope.tui.dialogs.export import ExportDialog
from prefscope.tui.dialogs.grammar import GrammarDialog
from prefscope.tui.dialogs.mark_scope import MarkScope
from prefscope.tui.dialogs.pair import NoteDialog, TextsDialog, TopTokensDialog
from prefscope.tui.dialogs.quick_filters import QuickFilters
from prefscope.tui.panes.health import HealthPane
from prefscope.tui.panes.overview import OverviewPane
from prefscope.tui.panes.pair import PairPane
from prefscope.tui.panes.pairs import PairsPane
from prefscope.tui.panes.runs import RunsPane
from prefscope.tui.panes.what_if import WhatIfPane
from prefscope.tui.screens.error import ErrorScreen
from prefscope.tui.screens.load import LoadScreen
from prefscope.tui.screens.main import MainScreen
from prefscope.tui.widgets.filter_input import FilterInput
from prefscope.tui.widgets.histogram import Histogram
from prefscope.tui.widgets.knob_list import KnobList
from prefscope.tui.widgets.pair_table import PairTable
from prefscope.tui.widgets.quadrants import Quadrants
from prefscope.tui.widgets.run_table import RunTable
from prefscope.tui.widgets.token_view import TokenView

EVERYWHERE = (PrefscopeApp, MainScreen)
WHERE = "prefscope.toml [keys]"
DIALOGS = (
    *(ErrorScreen, ExportDialog, QuickFilters, GrammarDialog, MarkScope, ColumnsDialog, ColumnChoice),
    *(TextsDialog, TopTokensDialog, NoteDialog),
)
TOGETHER: Sequence[Sequence[type[DOMNode]]] = (
    (*EVERYWHERE, OverviewPane, Histogram),
    (*EVERYWHERE, PairsPane, PairTable),
    (*EVERYWHERE, PairsPane, FilterInput),
    (*EVERYWHERE, PairPane, TokenView),
    (*EVERYWHERE, WhatIfPane, KnobList),
    (*EVERYWHERE, RunsPane, RunTable),
    (*EVERYWHERE, RunsPane, Quadrants),
    (*EVERYWHERE, HealthPane),
    (PrefscopeApp, LoadScreen),
    *((dialog,) for dialog in DIALOGS),
)
"""Groups of nodes that receive keys at the same time: within a group, two bindings must not share a key."""


def checked_keys(keys: Mapping[str, object]) -> dict[str, str]:
    """Validate user-defined keys and return them in the form of Textual's keymap: binding id to comma-separated keys.

    Raises:
        UsageError: If a binding is unknown, its keys are not strings, or another binding has the same key.
    """
    keymap: dict[str, str] = {}
    known = {one.id for nodes in TOGETHER for one in _bindings(nodes) if one.id}
    for given, value in keys.items():
        name = given if given in known else given.replace("-former", "-previous")  # their names in earlier releases
        if name not in known:
            near = difflib.get_close_matches(given, known, n=3, cutoff=0.4)
            hint = f"Similar ids: {', '.join(map(repr, near))}." if near else ""
            raise UsageError(f"No binding has the id {given!r}", where=WHERE, hint=hint)
        if name in keymap:
            raise UsageError(f"{name} is set twice, once by its old name", where=WHERE, hint="Remove one of the two.")
        texts = [text for text in (value if isinstance(value, list) else [value]) if isinstance(text, str) and text]
        if not texts:
            raise UsageError(f"{name} needs a key or a list of keys", where=WHERE, hint=f'For example: {name} = "f5".')
        keymap[name] = normalised(",".join(texts))
    for nodes in TOGETHER:
        _refuse_clashes(list(_bindings(nodes)), keymap)
    return keymap


def _bindings(nodes: Sequence[type[DOMNode]]) -> Iterator[Binding]:
    """Yield prefscope's own bindings of some node classes, without those inherited from Textual."""
    for node in nodes:
        for one in node.__mro__:
            if one.__module__.startswith("prefscope."):
                yield from Binding.make_bindings(one.__dict__.get("BINDINGS", ()))


def _refuse_clashes(bindings: list[Binding], keymap: Mapping[str, str]) -> None:
    """Raise UsageError if a user-defined key is also the key of another binding."""
    keys_of = {one.id: set[str]() for one in bindings if one.id}
    for one in bindings:
        if one.id:
            keys_of[one.id] |= set(keymap[one.id].split(",")) if one.id in keymap else {one.key}
    for name in keymap:
        for other, keys in keys_of.items():
            if other != name and (shared := keys & keys_of.get(name, set())):
                raise UsageError(
                    f"{name} and {other} would have the same key {min(shared)!r}",
                    where=WHERE,
                    hint=f"Choose another key, or change that of {other}, too.",
                )
