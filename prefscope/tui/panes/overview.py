"""The Overview pane: summary figures and four plots; a bin of the histogram opens its pairs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Grid

from prefscope.ledger.columns import NUM_TOKENS
from prefscope.ledger.view import View
from prefscope.report.cards import cards, margin_expression, sides
from prefscope.report.plots import curve, reward_scatter, scatter
from prefscope.tui.messages import PairsRequested
from prefscope.tui.model.knobs import knobs, mean_losses
from prefscope.tui.panes.pane import Pane
from prefscope.tui.widgets.card_box import CardBox
from prefscope.tui.widgets.histogram import Histogram
from prefscope.tui.widgets.plot import Plot


class OverviewPane(Pane, can_focus=True):
    """A summary of the pairs in the scope: cards and plots."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("p", "toggle_plots", "Other plots", id="overview-plots")]
    HELP = Histogram.HELP
    SCOPED_CSS = False  # uses the screen's size classes
    DEFAULT_CSS = """
    OverviewPane {
        #cards { grid-size: 6 1; grid-columns: 1fr; height: 5; }
        #plots { grid-size: 2 2; grid-gutter: 0; height: 1fr; }
        CardBox { border: round $panel; padding: 0 0 0 1; }
        CardBox.-warns { border: round $warning; }
        CardBox:focus { border: round $primary; }
    }
    .-narrow OverviewPane {
        #cards { grid-size: 3 2; grid-rows: 2; height: 4; }
        CardBox { border: none; }
        CardBox.-warns { border: none; color: $warning; }
        CardBox:focus { border: none; text-style: reverse; }
        Plot { border: none; border-top: solid $panel; border-bottom: solid $panel; }
    }
    .-narrow OverviewPane #plots, .-short OverviewPane #plots {
        grid-size: 2 1;
        .-later { display: none; }
        &.-turned .-first { display: none; }
        &.-turned .-later { display: block; }
    }
    """

    def compose(self) -> ComposeResult:
        """Create the cards and plots."""
        yield Grid(*(CardBox() for _ in range(6)), id="cards")
        plots = (
            Histogram("", id="margins", classes="-first"),
            Plot("margin against len(chosen) − len(rejected)", id="lengths", classes="-first"),
            Plot("", id="losses", classes="-later"),
            Plot("rewards: chosen →, rejected ↑, right below ···", id="rewards", classes="-later"),
        )
        yield Grid(*plots, id="plots")

    def draw(self) -> None:
        """Draw the cards and plots."""
        view, rest = self.session.scoped, self.session.rest
        for widget, card in zip(self.query(CardBox), cards(view, rest), strict=True):
            widget.show_card(card)
        histogram = self.query_one(Histogram)
        quantity = "implicit margin" if view.ledger.has_reference else "log-prob per token, chosen − rejected"
        histogram.border_title = f"{quantity}  ▒ wrong █ right"
        histogram.show_values(sides(view)[0])
        # Drawings look up the view when they are painted, so that they do not keep a previous view in memory.
        self.query_one("#lengths", Plot).show_drawing(
            lambda width, height: _lengths(self.session.scoped, width, height)
        )
        self.query_one("#rewards", Plot).show_drawing(
            lambda width, height: reward_scatter(*sides(self.session.scoped)[1:], width, height)
        )
        self._draw_loss(view)

    def _draw_loss(self, view: View) -> None:
        """Draw the mean of the first loss against the first knob, which is usually beta."""
        plot = self.query_one("#losses", Plot)
        knob = next(knobs(view), None)
        choices = view.ledger.usable_losses(view.preferences)
        if knob is None:
            plot.show_drawing(lambda *_: "")
            return
        plot.border_title = f"mean {choices[0].name} loss against {knob.name}  │ now"
        x, y, now = knob.values(), mean_losses(view, choices[0].name, knob), knob.value(view.preferences)
        plot.show_drawing(lambda width, height: curve(x, y, now, width, height, log=knob.parameter.scale == "log"))

    @property
    def copied(self) -> tuple[str, str]:
        """What `y` copies: the cards."""
        found = cards(self.session.scoped, self.session.rest)
        return "\n".join(f"{one.title}: {one.value} ({one.detail})" for one in found), "the figures"

    def action_toggle_plots(self) -> None:
        """Show the other two plots if only two fit."""
        self.query_one("#plots").toggle_class("-turned")
        self.focus_first()

    def focus_first(self) -> None:
        """Focus the histogram if it is shown or will be after the next paint, else the pane."""
        has_room = not (self.screen.has_class("-narrow") or self.screen.has_class("-short"))
        is_turned = self.query_one("#plots").has_class("-turned")
        (self.query_one(Histogram) if has_room or not is_turned else self).focus()

    @on(CardBox.Opened)
    def _open_card(self, opened: CardBox.Opened) -> None:
        self.post_message(PairsRequested(opened.expression))

    @on(Histogram.BinOpened)
    def _open_bin(self, opened: Histogram.BinOpened) -> None:
        column = margin_expression(by_margin=self.session.ledger.has_reference)
        self.post_message(PairsRequested(" and ".join(_limits(column, opened.low, opened.high))))


def _lengths(view: View, width: int, height: int) -> str:
    """Plot margins against len(chosen) − len(rejected) in tokens."""
    longer = view.column(NUM_TOKENS[0]) - view.column(NUM_TOKENS[1])
    return scatter(longer, sides(view)[0], width, height)


def _limits(column: str, low: float | None, high: float | None) -> Iterator[str]:
    """Yield the filter conditions for the values in a bin."""
    if low is not None:
        yield f"{column} >= {low!r}"
    if high is not None:
        yield f"{column} < {high!r}"
    if low is None and high is None:
        yield f"{column} == {column}"
