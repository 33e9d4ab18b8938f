"""The What-if pane: change loss parameters and see numbers and plots follow at once, without a model."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.widgets import Static

from prefscope.ledger.view import View
from prefscope.preference.registry import find_loss
from prefscope.report.cards import accuracy_of, mean_and_half, mean_of
from prefscope.report.plots import curve
from prefscope.report.summary import finite_pairs
from prefscope.settings import PreferenceSettings
from prefscope.tui.messages import PairsRequested, SessionChanged
from prefscope.tui.model.knobs import Knob, carried, knobs, mean_losses
from prefscope.tui.model.numbers import figure, signed
from prefscope.tui.model.session import Session, Sort
from prefscope.tui.panes.pane import Pane
from prefscope.tui.widgets.knob_list import KnobList
from prefscope.tui.widgets.plot import Plot

SHARES = 101
"""Points of the curve of gradient weights: one per percent."""


class WhatIfPane(Pane):
    """The knobs, a table of current and initial means, and two plots."""

    HELP = (
        "Log-probs do not depend on beta, gamma or the loss, so every change shows at once. [ ] move the picked knob, "
        "L shows another loss in the plots, enter lists the pairs by gradient weight."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("L", "next_loss", "Loss", id="what-if-loss"),
        Binding("backspace", "reset", "Reset all", id="what-if-reset"),
        Binding("enter", "open", "Pairs by weight", id="what-if-open"),
    ]
    SCOPED_CSS = False  # uses the screen's size classes
    DEFAULT_CSS = """
    WhatIfPane {
        #figures { height: auto; padding: 1 1 0 1; }
        #curves { height: 1fr; }
    }
    .-short WhatIfPane #figures { padding: 0 1; }
    """

    def __init__(self, session: Session, *, id: str) -> None:  # noqa: A002 (Textual's name)
        super().__init__(session, id=id)
        self._loss = 0
        self._curve: tuple[tuple[object, ...], NDArray[np.float64]] = ((), np.empty(0))
        """Cached mean losses over the span of the picked knob, after the inputs that they depend on."""

    def compose(self) -> ComposeResult:
        """Create the knobs, the figures and the plots."""
        yield KnobList(id="knobs")
        yield Static(id="figures", markup=False)
        yield Horizontal(Plot("", id="loss-curve"), Plot("", id="weight-curve"), id="curves")

    @property
    def loss(self) -> str | None:
        """Name of the loss that the plots show; None if no loss is usable."""
        choices = self.session.ledger.usable_losses(self.session.preferences)
        return choices[self._loss % len(choices)].name if choices else None

    def draw(self) -> None:
        """Draw the knobs, figures and plots."""
        view, found = self.session.scoped, self.query_one(KnobList)
        found.show_knobs([*knobs(view)], view.preferences, self.session.initial)
        self.query_one("#figures", Static).update(_figures(self.session, self.loss))
        if self.loss is not None and found.picked is not None:
            self._draw_loss(view, self.loss, found.picked)
            self._draw_weights(view, self.loss)

    def _draw_loss(self, view: View, loss: str, knob: Knob) -> None:
        """Plot the mean of a loss over the span of the picked knob."""
        plot = self.query_one("#loss-curve", Plot)
        plot.border_title = f"mean {loss} loss ↑ against {knob.name} →  │ now"
        depends = knob.loss in (None, loss)
        plot.border_subtitle = "" if depends else f"{loss} does not depend on {knob.name}"
        x, y, now = knob.values(), self._mean_losses(view, loss, knob), knob.value(view.preferences)
        log = knob.parameter.scale == "log"
        plot.show_drawing(lambda width, height: curve(x, y, now, width, height, log=log))

    def _mean_losses(self, view: View, loss: str, knob: Knob) -> NDArray[np.float64]:
        """Return `mean_losses`, cached: moving the knob itself does not change them."""
        scored, others = np.count_nonzero(finite_pairs(view.ledger)), knob.at(view.preferences, knob.span[0])
        known = (view.ledger, scored, loss, knob, others)
        if self._curve[0] != known:
            self._curve = known, mean_losses(view, loss, knob)
        return self._curve[1]

    def _draw_weights(self, view: View, loss: str) -> None:
        """Plot the share of the gradient weight that the heaviest pairs carry."""
        plot = self.query_one("#weight-curve", Plot)
        finite = finite_pairs(view.ledger)
        shares, half = carried(view.column(f"{loss}_weight")[finite])
        plot.border_title = f"% of {loss}'s gradient weight ↑ in the heaviest % of pairs →"
        plot.border_subtitle = f"{half:.0%} of pairs carry 50% of the gradient" if shares.size else ""
        x = np.linspace(0, 100, min(max(shares.size, 1), SHARES))
        y = 100 * shares[np.linspace(0, shares.size - 1, x.size).astype(np.int64)] if shares.size else np.empty(0)
        plot.show_drawing(lambda width, height: curve(x, y, None, width, height) if y.size else "")

    def action_next_loss(self) -> None:
        """Show the next loss in the plots."""
        self._loss += 1
        self.draw()

    @property
    def copied(self) -> tuple[str, str]:
        """What `y` copies: the current and initial figures."""
        return _figures(self.session, None).plain, "the figures"

    def show_loss(self, name: str) -> None:
        """Show a loss in the plots."""
        choices = self.session.ledger.usable_losses(self.session.preferences)
        self._loss = [choice.name for choice in choices].index(name)
        self.draw()

    def action_reset(self) -> None:
        """Reset all knobs."""
        self._set(self.session.initial)

    def action_open(self) -> None:
        """List the pairs by their gradient weight, the heaviest first."""
        if self.loss is not None:
            self.session.set_sort(Sort(f"{self.loss}_weight", descending=True))
            self.post_message(PairsRequested(""))

    @on(KnobList.Moved)
    def _move(self, moved: KnobList.Moved) -> None:
        self._set(moved.preferences)

    def _set(self, preferences: PreferenceSettings) -> None:
        if preferences == self.session.preferences:
            self.draw()  # another knob was picked
            return
        self.session.set_preferences(preferences)
        self.post_message(SessionChanged())


def _figures(session: Session, shown: str | None) -> Content:
    """Return a table of means with their 95% intervals, current and initial, and of the pairs outside the scope."""
    now, rest = session.scoped, session.rest
    rows = [("", "now (95%)", "initial", "" if rest is None else "rest", "change")]
    if now.ledger.has_reference:
        first = accuracy_of(now)
        others = "" if rest is None else accuracy_of(rest, with_interval=False)
        rows.append(("accuracy", first, first.partition(" ")[0], others, "no knob changes it"))
        rows.append(_row("mean margin", session, "margins"))
    for choice in now.ledger.usable_losses(now.preferences):
        mark = " ◀" if choice.name == shown else ""
        rows.append(_row(f"{find_loss(choice.name).name} loss{mark}", session, f"{choice.name}_loss"))
    width = 0 if rest is None else 12
    lines = [f"{name:<18}{now_:>19}{was:>12}{other:>{width}}   {change}" for name, now_, was, other, change in rows]
    return Content.assemble((lines[0] + "\n", "dim"), "\n".join(lines[1:]))


def _row(name: str, session: Session, column: str) -> tuple[str, str, str, str, str]:
    """Return a row of means of a column over pairs with finite log-probs, and the change."""
    mean, half = mean_and_half(session.scoped, column)
    first = session.first_mean(column)
    same = mean == first or not np.isfinite(first) or not first
    change = "" if same else f"{signed(100 * (mean / first - 1), 0)}%"
    now = figure(mean, ",.4f") + (f" ±{half:.4f}" if np.isfinite(half) else "")
    rest = "" if session.rest is None else figure(mean_of(session.rest, column), ",.4f")
    return name, now, figure(first, ",.4f"), rest, change
