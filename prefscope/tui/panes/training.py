"""The Training pane: the checkpoints of a training against the step, with alarms and a map of the pairs' courses."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Grid
from textual.content import Content
from textual.widgets import Static

from prefscope.ledger.courses import LEAST_RUNS
from prefscope.report.alarms import RULES, alarms
from prefscope.report.course_plots import ACCURACY, LOSS, MARGIN, PLOTS, REWARDS, SHARES, draw_lines, legend, lines_of
from prefscope.report.scatter_plots import points
from prefscope.report.training import Training, training
from prefscope.settings import PreferenceSettings
from prefscope.tui.dialogs.column_choice import ColumnChoice
from prefscope.tui.messages import PairsRequested
from prefscope.tui.model.session import Session
from prefscope.tui.panes.pane import Pane
from prefscope.tui.widgets.plot import Plot
from prefscope.tui.widgets.scatter import Scatter, box_expression

MAP = "map"
SPLIT = "split"
"""The column of a data set that says which pairs are held out."""
FEW = f"A training is followed from its checkpoint number {LEAST_RUNS} on; so far there are"
NO_REFERENCE = "A checkpoint has no reference, so there are no rewards to follow."
MAP_TITLE = "pairs: σ(margin), mean ↑ against spread →"
PAGES = ((ACCURACY, MAP), (MARGIN, REWARDS), (LOSS,))
"""What is shown together where not all plots fit."""


class TrainingPane(Pane, can_focus=True):
    """Figures against the step, alarms, and the map of the pairs' courses."""

    HELP = (
        "The checkpoints in the order of training, with 95% intervals as dotted lines. The map shows pairs that are "
        "learnt (high), fought over (right) and never learnt (low, left); enter lists those in the picked box. An "
        f"alarm is given if {'; if '.join(rule.words for rule in RULES)}. b groups the pairs by a column."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("p", "turn", "Other plots", id="training-plots"),
        Binding("b", "group", "Group by", id="training-group"),
        Binding("escape", "ungroup", "All pairs", id="training-leave"),
    ]
    SCOPED_CSS = False  # uses the screen's size classes
    DEFAULT_CSS = """
    TrainingPane {
        #alarms { height: auto; max-height: 5; padding: 0 1; color: $warning; }
        #alarms.-none { color: $quiet; }
        #courses { grid-size: 3 2; grid-gutter: 0; height: 1fr; }
        #map { column-span: 2; }
        &.-few #courses { display: none; }
    }
    .-narrow TrainingPane Plot { border: none; border-top: solid $panel; border-bottom: solid $panel; }
    .-narrow TrainingPane #courses, .-short TrainingPane #courses {
        grid-size: 2 1;
        #map { column-span: 1; }
        &.-single { grid-size: 1 1; }
        .-other { display: none; }
    }
    """

    def __init__(self, session: Session, *, id: str) -> None:  # noqa: A002 (Textual's name)
        super().__init__(session, id=id)
        self._by = ""
        self._page = 0
        self._known: dict[str, Training] = {}
        """The figures by the column that pairs are grouped by, for one state of the session."""
        self._known_for: tuple[PreferenceSettings, int, int] | None = None

    def compose(self) -> ComposeResult:
        """Create the alarms and the plots."""
        yield Static(id="alarms", markup=False)
        yield Grid(*(Plot("", id=name) for name in PLOTS), Scatter(MAP_TITLE, id=MAP), id="courses")

    def on_mount(self) -> None:
        """Begin with the first page."""
        self._turn_to(0)

    def draw(self) -> None:
        """Draw the figures of all checkpoints for the pairs in the scope."""
        why_not = self._why_not()
        self.set_class(bool(why_not), "-few")
        if why_not:
            self._say(why_not, [])
            return
        found = self._figures(self._by)
        self._say("", [f"⚠ {one}" for one in self._alarms])
        steps = self.session.runs.steps
        for name in PLOTS:
            plot, lines = self.query_one(f"#{name}", Plot), lines_of(found, name)
            percent = name in SHARES
            plot.border_title = Content(legend(name, lines, found))
            plot.show_drawing(
                lambda width, height, lines=lines, percent=percent: draw_lines(  # type: ignore[misc]
                    steps, lines, width, height, percent=percent
                )
            )
        confidence, variability = (self.session.scoped.column(name) for name in self._map_columns())
        self.query_one(f"#{MAP}", Scatter).show_values(variability, confidence, points)

    def _why_not(self) -> str:
        """Return why there is nothing to draw; empty if there is."""
        runs = self.session.runs
        if len(runs) < LEAST_RUNS:
            return f"{FEW} {len(runs)}."
        return "" if runs.courses is not None else NO_REFERENCE

    def _say(self, sentence: str, found: list[str]) -> None:
        """Show a sentence or the alarms above the plots."""
        words = self.query_one("#alarms", Static)
        words.set_class(not found, "-none")
        quiet = sentence or f"no alarm at step {self.session.runs.steps[-1]:,} ({len(RULES)} rules; ? lists them)"
        words.update(Content("\n".join(found) or quiet))

    def _figures(self, by: str) -> Training:
        """Return the figures, computed anew only if knobs, scope or runs have changed."""
        session = self.session
        state = session.preferences, session.scope_number, len(session.runs)
        if self._known_for != state:
            self._known_for, self._known = state, {}
        if session.view.names.full(by) is None:
            by = ""
        if by not in self._known:
            self._known[by] = training(session.views_of_runs(), session.runs.steps, by)
        return self._known[by]

    @property
    def _alarms(self) -> list[str]:
        """The alarms; those about held-out pairs need a column that says which they are."""
        return [one.sentence for one in alarms(self._figures(SPLIT))]

    def _map_columns(self) -> tuple[str, str]:
        """Return the names of confidence and variability in the view."""
        names = {column: name for name, column in self.session.scoped.course_names.items()}
        return names["confidence"], names["variability"]

    @property
    def copied(self) -> tuple[str, str] | None:
        """What `y` copies: accuracy and margin at every step, and the alarms."""
        if self._why_not():
            return None
        found = self._figures("")
        lines = [f"{one.step}: {one.accuracy.value:.1%} right, margin {one.margin.value:+.3f}" for one in found.figures]
        return "\n".join([*lines, *self._alarms]), "the figures of every step"

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Enable `ungroup` only if pairs are grouped, and `turn` only where not all plots are shown."""
        if action == "ungroup":
            return bool(self._by)
        if action == "turn":
            return not self._has_room
        return super().check_action(action, parameters)

    def action_turn(self) -> None:
        """Show other plots if not all fit."""
        self._turn_to((self._page + 1) % len(PAGES))
        self.focus_first()

    def _turn_to(self, page: int) -> None:
        self._page = page
        for plot in self.query(Plot):
            plot.set_class(plot.id not in PAGES[page], "-other")
        self.query_one("#courses").set_class(len(PAGES[page]) == 1, "-single")

    def action_group(self) -> None:
        """Choose a column to group the pairs by."""

        def show(column: str | None) -> None:
            if column is not None:
                self._by = column
                self.draw()

        self.app.push_screen(ColumnChoice(self.session.view), show)

    def action_ungroup(self) -> None:
        """Show all pairs together again."""
        self._by = ""
        self.draw()

    @property
    def _has_room(self) -> bool:
        """Whether all plots are shown."""
        return not (self.screen.has_class("-narrow") or self.screen.has_class("-short"))

    def focus_first(self) -> None:
        """Focus the map if it is shown, else the pane."""
        is_shown = not self._why_not() and (self._has_room or MAP in PAGES[self._page])
        (self.query_one(f"#{MAP}") if is_shown else self).focus()

    @on(Scatter.BoxOpened)
    def _open_box(self, opened: Scatter.BoxOpened) -> None:
        confidence, variability = self._map_columns()
        self.post_message(PairsRequested(box_expression(opened, variability, confidence)))
