"""The Overview pane: summary figures and four plots; a bin of the histogram opens its pairs."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Grid

from prefscope.ledger.columns import NUM_TOKENS
from prefscope.ledger.view import View
from prefscope.report.cards import cards, margin_expression, side_expressions, sides
from prefscope.report.plots import curve
from prefscope.report.scatter_plots import points, reward_points
from prefscope.tui.messages import PairsRequested
from prefscope.tui.model.knobs import knobs, mean_losses
from prefscope.tui.panes.pane import Pane
from prefscope.tui.widgets.card_box import CardBox
from prefscope.tui.widgets.histogram import Histogram
from prefscope.tui.widgets.plot import Plot
from prefscope.tui.widgets.scatter import Scatter, bin_expression, box_expression


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
            Scatter("margin ↑ against tokens of chosen − rejected →", id="lengths", classes="-first"),
            Plot("", id="losses", classes="-later"),
            Scatter("reward of rejected ↑ against chosen →, right below ···", id="rewards", classes="-later"),
        )
        yield Grid(*plots, id="plots")

    def draw(self) -> None:
        """Draw the cards and plots."""
        view, rest = self.session.scoped, self.session.rest
        for widget, card in zip(self.query(CardBox), cards(view, rest), strict=True):
            widget.show_card(card)
        histogram = self.query_one(Histogram)
        quantity = "margin (β · nats)" if view.ledger.has_reference else "log-prob, chosen − rejected (nats a token)"
        histogram.border_title = f"pairs ↑ by {quantity} →  ▒ wrong █ right"
        margins, chosen, rejected = sides(view)
        histogram.show_values(margins)
        longer = view.column(NUM_TOKENS[0]) - view.column(NUM_TOKENS[1])
        self.query_one("#lengths", Scatter).show_values(longer, margins, points)
        self.query_one("#rewards", Scatter).show_values(chosen, rejected, reward_points)
        self._draw_loss(view)

    def _draw_loss(self, view: View) -> None:
        """Draw the mean of the first loss against the first knob, which is usually beta."""
        plot = self.query_one("#losses", Plot)
        knob = next(knobs(view), None)
        choices = view.ledger.usable_losses(view.preferences)
        if knob is None:
            plot.show_drawing(lambda *_: "")
            return
        plot.border_title = f"mean {choices[0].name} loss ↑ against {knob.name} →  │ now"
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

    @property
    def _has_room(self) -> bool:
        """Whether all four plots are shown."""
        return not (self.screen.has_class("-narrow") or self.screen.has_class("-short"))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Disable `toggle_plots` where all plots are shown."""
        if action == "toggle_plots":
            return not self._has_room
        return super().check_action(action, parameters)

    def focus_first(self) -> None:
        """Focus the histogram if it is shown or will be after the next paint, else the pane."""
        is_turned = self.query_one("#plots").has_class("-turned")
        (self.query_one(Histogram) if self._has_room or not is_turned else self).focus()

    @on(CardBox.Opened)
    def _open_card(self, opened: CardBox.Opened) -> None:
        self.post_message(PairsRequested(opened.expression))

    @on(Histogram.BinOpened)
    def _open_bin(self, opened: Histogram.BinOpened) -> None:
        column = margin_expression(by_margin=self.session.ledger.has_reference)
        self.post_message(PairsRequested(bin_expression(column, opened.low, opened.high)))

    @on(Scatter.BoxOpened)
    def _open_box(self, opened: Scatter.BoxOpened) -> None:
        has_reference = self.session.ledger.has_reference
        columns = "chosen_num_tokens - rejected_num_tokens", margin_expression(by_margin=has_reference)
        if opened.scatter.id == "rewards":
            columns = side_expressions(by_margin=has_reference)
        self.post_message(PairsRequested(box_expression(opened, *columns)))
