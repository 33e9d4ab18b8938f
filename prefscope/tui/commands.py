"""The command palette: all commands of the current screen, named `noun: verb`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast, get_args

from textual.binding import ActiveBinding
from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.content import Content
from textual.markup import escape

from prefscope.errors import PrefscopeError
from prefscope.ledger.scopes import scope_name
from prefscope.report.visible import visible
from prefscope.settings import Palette
from prefscope.tui.dialogs.columns import Choice, chosen_columns, with_chosen
from prefscope.tui.dialogs.line import LineDialog
from prefscope.tui.dialogs.quick_filters import quick_filters
from prefscope.tui.messages import Chosen, PairsRequested
from prefscope.tui.model.cells import one_line
from prefscope.tui.model.session import Sort
from prefscope.tui.model.state import Opened, recall
from prefscope.tui.panes.pairs import PairsPane
from prefscope.tui.panes.pane import Pane
from prefscope.tui.panes.what_if import WhatIfPane
from prefscope.tui.screens.main import MainScreen
from prefscope.tui.widgets.pair_columns import PairColumn, offered, pair_columns, short_name

if TYPE_CHECKING:
    from prefscope.tui.app import PrefscopeApp


@dataclass(frozen=True, slots=True)
class Command:
    """An entry of the command palette."""

    name: str
    help: str
    run: Callable[[], object]


class Commands(Provider):
    """Provides the commands of the current screen, with fuzzy search over their names."""

    async def startup(self) -> None:
        """Collect the commands once; they do not change while the user types."""
        screen, app = self.screen, cast("PrefscopeApp", self.app)
        active = screen.active_bindings.values()
        found = [*_keys((one for one in active if one.binding.show), app)]
        if isinstance(screen, MainScreen):
            found += [*_screens(screen), *_filters(screen), *_scopes(app, screen), *_sorts(screen), *_losses(screen)]
            found += [*_columns(screen), *_ledgers(app, screen.session.ledger.path)]
        found.append(Command("screenshot: save", "an SVG of the screen, in the working folder", app.save_picture))
        self._commands = [*found, *_themes(app), *_keys((one for one in active if not one.binding.show), app)]

    async def discover(self) -> Hits:
        """Yield every command."""
        for one in self._commands:
            yield DiscoveryHit(Content(one.name), one.run, one.name, escape(one.help))

    async def search(self, query: str) -> Hits:
        """Yield the commands whose names match the query."""
        matcher = self.matcher(query)
        for one in self._commands:
            score, offsets = matcher.fuzzy_search.match(query, one.name)
            if score > 0:
                shown = Content(one.name)
                for at in offsets:
                    shown = shown.stylize(matcher.match_style, at, at + 1)
                yield Hit(score, shown, one.run, one.name, escape(one.help))


def _keys(active: Iterable[ActiveBinding], app: PrefscopeApp) -> Iterator[Command]:
    """Yield the commands of the active key bindings, except those of Textual's own widgets and of the tabs."""
    known: set[str] = set()
    for node, binding, enabled, _ in active:
        if not binding.id or not enabled or binding.action in known or binding.id.startswith("show-"):
            continue
        known.add(binding.action)
        pane = next((one.id for one in node.ancestors_with_self if isinstance(one, Pane)), None)
        noun = pane or ("dialog" if node.is_modal else "prefscope")
        action = getattr(node, f"action_{binding.action.partition('(')[0]}", None)
        summary = action.__doc__.partition("\n")[0] if action and _is_ours(action) and action.__doc__ else ""
        yield Command(
            f"{noun}: {binding.description}",
            f"{app.get_key_display(binding)}   {summary}",
            partial(app.run_action, binding.action, node),
        )


def _is_ours(function: Callable[..., object]) -> bool:
    return function.__module__.startswith("prefscope.")


def _screens(screen: MainScreen) -> Iterator[Command]:
    for number, (name, title) in enumerate(screen.tabs.items(), start=1):
        yield Command(f"screen: {title}", str(number), partial(screen.action_show, name))


def _filters(screen: MainScreen) -> Iterator[Command]:
    def show(expression: str) -> None:
        screen.session.set_filter(expression)
        screen.post_message(PairsRequested(""))

    for one in quick_filters(screen.session):
        yield Command(f"filter: {one.title}", f"{one.count:,}   {one.expression}", partial(show, one.expression))


def _scopes(app: PrefscopeApp, screen: MainScreen) -> Iterator[Command]:
    """Yield commands that name the current scope and forget named ones."""
    session = screen.session

    def change(name: str | None, expression: str) -> None:
        try:
            if name is not None:
                session.name_scope(name, expression)
        except PrefscopeError as error:
            screen.notify(visible(str(error)), severity="error", markup=False)

    if session.expression:
        expression = session.expression
        dialog = LineDialog(
            f"name of the scope {expression}", "one word; in filters and --where it is @name", scope_name
        )
        naming = partial(app.push_screen, dialog, lambda name: change(name, expression))
        yield Command("scope: name this one", visible(expression), naming)
    for name, expression in session.scopes.items():
        yield Command(f"scope: forget @{name}", visible(expression), partial(change, name, ""))


def _sorts(screen: MainScreen) -> Iterator[Command]:
    def sort(by: Sort) -> None:
        screen.session.set_sort(by)
        screen.post_message(PairsRequested(""))

    for column in pair_columns(screen.session):
        title = _title(screen, column)
        for arrow, end, descending in (("▼", "highest", True), ("▲", "lowest", False)):
            by = partial(sort, Sort(column.name, descending))
            yield Command(f"sort: {title} {end} first", f"{arrow}   {column.name}", by)


def _losses(screen: MainScreen) -> Iterator[Command]:
    def show(name: str) -> None:
        screen.action_show("what-if")
        screen.query_one(WhatIfPane).show_loss(name)

    for choice in screen.session.ledger.usable_losses(screen.session.preferences):
        yield Command(f"loss: {choice.name}", "show in the What-if plots", partial(show, choice.name))


def _columns(screen: MainScreen) -> Iterator[Command]:
    pane, session = screen.query_one(PairsPane), screen.session
    chosen = chosen_columns(session)
    for column in offered(session):
        verb = "hide" if column.name in chosen else "show"
        choice = with_chosen(session, chosen ^ {column.name})
        yield Command(f"columns: {verb} {_title(screen, column)}", column.name, partial(pane.set_columns, choice))
    if session.columns is not None:
        yield Command("columns: choose automatically", "", partial(pane.set_columns, Choice(None)))


def _ledgers(app: PrefscopeApp, shown: Path) -> Iterator[Command]:
    """Yield commands that open the recently used ledgers."""
    here = Opened(str(shown)).absolute()
    for opened in recall().still_there:
        path = Path(opened.data)
        if path.suffix == ".parquet" and opened != here and path.is_file():
            open_it = partial(app.post_message, Chosen(opened, None))
            yield Command(f"open: {visible(path.name)}", visible(str(path)), open_it)


def _themes(app: PrefscopeApp) -> Iterator[Command]:
    for name, theme in app.available_themes.items():
        if name != app.theme and not (theme.ansi and app.no_color):  # ansi themes would be black on black
            yield Command(f"theme: {name}", "dark" if theme.dark else "light", partial(setattr, app, "theme", name))
    for palette in get_args(Palette):
        if palette != app.palette:
            yield Command(
                f"palette: {palette}", "colours of positive and negative values", partial(app.set_palette, palette)
            )


def _title(screen: MainScreen, column: PairColumn) -> str:
    return one_line(short_name(screen.session.view.names, column.name))
