"""The main screen: an identity line, numbered tabs, and the panes, which keep their state when switching."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.events import Click, Resize
from textual.geometry import Size
from textual.screen import Screen
from textual.widgets import ContentSwitcher, HelpPanel, Static

from prefscope.events import Failed, Finished
from prefscope.ledger.table import Ledger, load_ledger
from prefscope.report.visible import visible
from prefscope.tui.messages import OpenRequested, PairOpened, PairsRequested, SessionChanged
from prefscope.tui.model.cells import fit, one_line
from prefscope.tui.model.folder_news import FolderNews
from prefscope.tui.model.idle_timer import IdleTimer
from prefscope.tui.model.session import Session
from prefscope.tui.model.state import Opened, recall, remember
from prefscope.tui.model.watcher import Watcher
from prefscope.tui.model.worker_run import Scoring
from prefscope.tui.panes.health import HealthPane
from prefscope.tui.panes.overview import OverviewPane
from prefscope.tui.panes.pair import PairPane
from prefscope.tui.panes.pairs import PairsPane
from prefscope.tui.panes.pane import Pane
from prefscope.tui.panes.runs import RunsPane
from prefscope.tui.panes.training import TrainingPane
from prefscope.tui.panes.what_if import WhatIfPane
from prefscope.tui.screens.error import ErrorScreen
from prefscope.tui.widgets.footer import Footer
from prefscope.tui.widgets.scoring_strip import ScoringStrip, duration

TABS = {
    "overview": "Overview",
    "pairs": "Pairs",
    "pair": "Pair",
    "what-if": "What-if",
    "runs": "Runs",
    "health": "Health",
}
TRAINING = {"training": "Training"}
"""The pane of three or more runs, or of a training that is followed."""

LEAST = Size(60, 16)
SECONDS_BETWEEN_UPDATES = 0.5
SCOPE_SHARE = 3
"""The scope's expression takes at most one in so many cells of the identity line."""


class MainScreen(Screen[None]):
    """Shows the panes of a session, and follows a run if there is one."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *(
            Binding(str(number), f"show('{name}')", title, show=False, id=f"show-{name}")
            for number, (name, title) in enumerate((TABS | TRAINING).items(), start=1)
        ),
        Binding("o", "open", "Open", show=False, id="open"),
        Binding("z", "zoom", "Maximise or restore", show=False, id="zoom"),
        Binding("escape", "widen", "Widen the scope", show=False, id="widen"),
        Binding("e", "export", "Export", id="export"),
        Binding("x", "toggle_run", "Stop or resume", show=False, id="scoring-turn"),
        Binding("question_mark,f1", "help", "Help", id="help"),
    ]

    def __init__(
        self, session: Session, scoring: Scoring | None, idle_timer: IdleTimer, watcher: Watcher | None = None
    ) -> None:
        """Set up the screen.

        Args:
            session: The session to show.
            scoring: The run that is filling its ledger, if there is one.
            idle_timer: Delays updates from the run until the user is idle.
            watcher: The process that adds ledgers to the session's run folder, if this program has started one.
        """
        super().__init__()
        self.session = session
        self.scoring = scoring
        self._news = None if session.folder is None else FolderNews(session.folder, watcher)
        self._idle_timer = idle_timer
        self._shown: tuple[Ledger, int] | None = None
        """The live ledger that is shown, and the generation of the run."""
        self._last_update = 0.0
        self._reported: Failed | None = None
        self._saved: Path | None = None
        """The partial ledger, once it is among the recently opened ones."""
        self._panes: dict[str, Pane] = {
            "overview": OverviewPane(session, id="overview"),
            "pairs": PairsPane(session, id="pairs"),
            "pair": PairPane(session, id="pair"),
            "what-if": WhatIfPane(session, id="what-if"),
            "runs": RunsPane(session, id="runs"),
            "health": HealthPane(session, id="health"),
        }
        self.tabs = TABS
        """Titles of the panes, by name."""
        if session.runs.is_training:
            self.tabs = TABS | TRAINING
            self._panes["training"] = TrainingPane(session, id="training")

    def compose(self) -> ComposeResult:
        """Create the identity line, tabs, progress strip, panes and footer."""
        yield Static(id="identity", markup=False)
        yield Tabs(self.tabs, id="tabs")
        yield ScoringStrip(id="scoring", markup=False)
        yield ContentSwitcher(*self._panes.values(), initial="overview", id="panes")
        yield Footer()
        yield Static(f"Make the window larger: at least {LEAST.width} × {LEAST.height}.", id="too-small", markup=False)

    def on_mount(self) -> None:
        """Draw the identity line and the first pane."""
        self._refresh()
        self.call_after_refresh(self.action_show, "overview")  # paint the frame before computing anything
        if self.scoring is not None:
            self.set_interval(SECONDS_BETWEEN_UPDATES, self._follow_run)
        if self._news is not None:
            self.set_interval(SECONDS_BETWEEN_UPDATES, self._follow_folder)

    def on_resize(self, event: Resize) -> None:
        """Show a message if the window is too small; the panes are kept."""
        self.set_class(event.size.width < LEAST.width or event.size.height < LEAST.height, "-too-small")
        self.call_after_refresh(self._refresh)

    async def on_unmount(self) -> None:
        """End the run when the screen closes; committed results are kept."""
        if self.scoring is not None:
            await self.scoring.finish()

    def action_open(self) -> None:
        """Open another ledger or data set."""
        self.post_message(OpenRequested())

    def action_widen(self) -> None:
        """Restore what is maximised; else go back to the wider scope, or to all pairs."""
        if self.maximized is not None:
            self.minimize()
        elif self.session.widen():
            self._redraw()

    def action_zoom(self) -> None:
        """Let the widget with the focus fill the screen, or restore it."""
        if self.maximized is not None:
            self.minimize()
        elif self.focused is not None:
            self.maximize(self.focused, container=False)

    def action_help(self) -> None:
        """Show or hide the keys and the help of the focused widget."""
        if self.query(HelpPanel):
            self.app.action_hide_help_panel()
        else:
            self.app.action_show_help_panel()

    def action_export(self) -> None:
        """Write pairs to a file; those of a run come from its partial ledger, which is written first."""
        if self.scoring is None:
            self._show_export()
        else:
            self.run_worker(self._export_from(self.scoring), group="export", exclusive=True)

    async def _export_from(self, run: Scoring) -> None:
        await run.save()
        if run.saved is None and not isinstance(run.ended, Finished):
            self.notify("Nothing can be exported yet: no pair is scored.", severity="warning")
        else:
            self._show_export()

    def _show_export(self) -> None:
        from prefscope.tui.dialogs.export import ExportDialog  # imports the readers and writers of data sets

        self.app.push_screen(ExportDialog(self.session))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Disable the keys of panes that are not there."""
        if action == "show":
            return parameters[0] in self._panes
        return super().check_action(action, parameters)

    def action_show(self, name: str) -> None:
        """Switch to a pane, and redraw it if needed."""
        if self.session.is_stale and not {self.query_one(ContentSwitcher).current, name} <= {"pairs", "pair"}:
            self.session.arrange()  # the order does not stay visible, so it may change
            self._refresh()
        self.minimize()
        self.query_one("#panes", ContentSwitcher).current = name
        self.query_one(Tabs).active = name
        self._panes[name].show_session()
        self._panes[name].focus_first()

    def _follow_folder(self) -> None:
        """Add the checkpoints that have been scored since; what the user looks at stays."""
        if self._news is None or not self._idle_timer.allows(0.0):
            return
        for news in self._news.of(self.session):
            self.notify(visible(news.sentence), severity=news.severity, markup=False)
            if news.is_scored:
                self._redraw()

    def _follow_run(self) -> None:
        """Show the progress of the run."""
        if self.scoring is not None:
            self._update_from(self.scoring)
        self.query_one(ScoringStrip).show_run(self.scoring)

    def _update_from(self, scoring: Scoring) -> None:
        if self._saved is None and scoring.saved is not None:
            self._remember(scoring.saved.path)
        if isinstance(scoring.ended, Finished):
            self._finish(scoring, scoring.ended)
        elif scoring.live is not None and self._has_news(scoring):
            self._shown = scoring.live, scoring.generation
            self._last_update = time.monotonic()
            scoring.live.catch_up()
            self._show_ledger(scoring.live)
        if isinstance(scoring.ended, Failed) and self._reported is not scoring.ended:
            self._reported = scoring.ended
            advice = "What was scored is kept: x tries to continue."
            self.app.push_screen(
                ErrorScreen("Scoring stopped", scoring.ended.message, advice=advice, log=scoring.last_words)
            )

    def _remember(self, ledger: Path) -> None:
        """List a ledger among the recently opened ones."""
        self._saved = ledger
        remember(recall().with_opened(Opened(str(ledger))))

    def _has_news(self, scoring: Scoring) -> bool:
        """Return whether there are updates to show and the user is idle or has waited long enough."""
        is_new = self._shown != (scoring.live, scoring.generation)
        return is_new and self._idle_timer.allows(time.monotonic() - self._last_update)

    def _finish(self, scoring: Scoring, finished: Finished) -> None:
        """Switch from the live ledger to the file that the run has written."""
        self.scoring = None
        self._show_ledger(load_ledger(finished.ledger))
        self._remember(Path(finished.ledger))
        scoring.close()
        summary = f"Scored {finished.pairs:,} pairs in {duration(finished.scoring_seconds)}"
        self.notify(f"{summary}. Ledger: {visible(finished.ledger)}", markup=False)

    def _show_ledger(self, ledger: Ledger) -> None:
        self.session.replace_ledger(ledger)
        self._redraw()

    def action_toggle_run(self) -> None:
        """Stop the run, or resume one that was stopped or failed."""
        current = self.scoring
        if current is None:
            return
        if current.is_running:
            current.stop()
        else:
            self.scoring = current.again()
            current.close()
            self.app.run_worker(self.scoring.run(), group="scoring", exit_on_error=False)
        self.query_one(ScoringStrip).show_run(self.scoring)

    @on(SessionChanged)
    def _redraw(self) -> None:
        """Redraw the visible pane; the others are redrawn when they are shown."""
        self._refresh()
        self._panes[self.query_one(ContentSwitcher).current or "overview"].show_session()

    @on(PairOpened)
    def _open_pair(self) -> None:
        self.action_show("pair")

    @on(PairsRequested)
    def _show_pairs(self, request: PairsRequested) -> None:
        """Narrow the scope, and show its pairs."""
        self.session.narrow(request.expression)
        self._refresh()
        self.action_show("pairs")

    def _refresh(self) -> None:
        self.query_one("#identity", Static).update(identity(self.session, self.size.width), layout=False)


def identity(session: Session, width: int) -> Content:
    """Return the identity line: ledger, scope, beta, compared run and models, most important first.

    Args:
        session: The session.
        width: Of the line, in cells.
    """
    models = session.ledger.manifest.get("models", {})
    known, total = np.count_nonzero(session.ledger.is_known), session.ledger.num_pairs
    pairs = f"{total:,} pairs" if known == total else f"{known:,} of {total:,} pairs"
    if session.expression:
        scope = fit(one_line(session.expression), max(width // SCOPE_SHARE, 1)).rstrip()
        pairs = f"scope: {scope} · {len(session.order):,} of {total:,}"
    parts = [session.ledger.path.name, pairs, f"β={session.preferences.beta:g}"]
    _, other = session.runs.both
    parts += [f"B {other}"] if other else []
    signs = {"policy": "π", "ref": "ref"}
    names = {sign: models[role].get("name", "unknown") for role, sign in signs.items() if role in models}
    parts += [f"{sign} {Path(name).name}" for sign, name in names.items()]
    return Content(" prefscope  " + "   ".join(map(one_line, parts)))


class Tabs(Static):
    """The tab bar: the numbered names of the panes."""

    def __init__(self, titles: Mapping[str, str], *, id: str) -> None:  # noqa: A002 (Textual's name)
        super().__init__(id=id, markup=False)
        self._titles = titles
        self.active = "overview"

    @property
    def active(self) -> str:
        """Name of the pane that is shown."""
        return self._active

    @active.setter
    def active(self, name: str) -> None:
        self._active = name
        self.update(
            Content(" ").join(self._tab(number, *tab) for number, tab in enumerate(self._titles.items(), start=1))
        )

    def _tab(self, number: int, name: str, title: str) -> Content:
        style = "bold reverse" if name == self._active else ""
        return Content.styled(f" {number} {title} ", style)

    def on_click(self, event: Click) -> None:
        """Show the pane whose name was clicked."""
        left = 0
        for number, (name, title) in enumerate(self._titles.items(), start=1):
            width = len(f" {number} {title} ") + 1
            if left <= event.x - self.content_offset.x < left + width:
                self.screen.action_show(name)  # type: ignore[attr-defined]
            left += width
