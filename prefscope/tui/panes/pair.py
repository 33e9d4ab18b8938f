"""The Pair pane: one pair, token by token. Shows where policy and reference differ and how that affects the margin."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.content import Content
from textual.events import DescendantFocus
from textual.widgets import Static

from prefscope.ledger.alternatives import Alternatives
from prefscope.ledger.search import Needle
from prefscope.ledger.table import Ledger
from prefscope.preference.explanation import SIDES, Side
from prefscope.report.nearest import PromptIndex
from prefscope.report.token_choices import choices_at
from prefscope.report.visible import visible
from prefscope.tui.copying import copy
from prefscope.tui.dialogs.pair import TextsDialog, TokenPlace, TopTokensDialog
from prefscope.tui.highlighting import highlighted
from prefscope.tui.model.alternatives import alternative_lines
from prefscope.tui.model.explainer import Explainer, legend
from prefscope.tui.model.pair_facts import (
    LONGEST_VALUE,
    NOT_YET,
    is_known,
    margin_caption,
    mark_text,
    numbers_line,
    origin_line,
    side_title,
    whole_texts,
)
from prefscope.tui.model.response import Response, Shown, differing, read_response
from prefscope.tui.model.session import Session
from prefscope.tui.pager import open_text
from prefscope.tui.panes.marking import MarkingPane
from prefscope.tui.theme import MONO_CLASS
from prefscope.tui.widgets.running_sums import RunningSums
from prefscope.tui.widgets.token_view import TokenView
from prefscope.tui.widgets.why import Why

PROMPT_CHARACTERS = 2000
"""Characters of the prompt to draw, more than fit; the texts dialog has the whole prompt."""


class PairPane(MarkingPane):
    """The pair under the cursor: its numbers, prompt, responses and running sums."""

    HELP = (
        "One pair, token by token, and what its margin is made of. Colours show what raises and lowers the margin. "
        "After score --alternatives: what both models would have said at the cursor, with the token's rank, entropy H "
        "in nats, and a lower bound of KL(policy‖ref) from the tokens kept."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(">,J", "pair(1)", "Pair", key_display="</>", id="pair-next"),
        Binding("<", "pair(-1)", "Previous pair", show=False, id="pair-previous"),
        Binding("n", "wrong(1)", "Wrong", key_display="n/N", id="pair-next-wrong"),
        Binding("N", "wrong(-1)", "Previous wrong pair", show=False, id="pair-previous-wrong"),
        Binding("tab,shift+tab", "switch", "Side", key_display="tab", id="pair-side"),
        Binding("v", "values", "Value", id="pair-values"),
        Binding("d", "differing", "Diff", id="pair-differing"),
        Binding("s", "signs", "Signs", show=False, id="pair-signs"),
        Binding("t", "top", "Top", id="pair-top"),
        Binding("i", "why", "Why", id="pair-why"),
        Binding("o", "pager('response')", "Open response", show=False, id="pair-open-response"),
        Binding("O", "pager('prompt')", "Open prompt", show=False, id="pair-open-prompt"),
        Binding("p", "texts", "Texts", id="pair-texts"),
        Binding("c", "zoom", "Zoom", id="pair-zoom"),
        Binding("Y", "copy_token", "Copy token", show=False, id="pair-copy-token"),
    ]
    SCOPED_CSS = False  # uses the screen's size classes
    DEFAULT_CSS = """
    PairPane {
        #facts { height: 1; text-wrap: nowrap; text-overflow: ellipsis; padding: 0 1; }
        #prompt { height: 2; padding: 0 1; border-title-color: $foreground; border-subtitle-color: $quiet; }
        #responses { height: 1fr; layout: vertical; }
        #responses.-zoomed TokenView { display: none; }
        #responses.-zoomed TokenView.-current { display: block; }
        #instead { height: 2; padding: 0 1; text-wrap: nowrap; text-overflow: ellipsis; display: none; }
        &.-instead #instead { display: block; }
        #below { height: 6; layout: horizontal; }
        &.-instead #below { height: 5; }
        #below.-sums Why { display: none; }
        Why, RunningSums { width: 1fr; height: 100%; border: none; border-top: solid $panel; }
        Why:focus { border: none; border-top: solid $primary; }
        RunningSums { display: none; }
        #below.-sums RunningSums { display: block; }
        &.-empty #below { display: none; }
    }
    .-wide PairPane #responses { layout: horizontal; }
    .-tall PairPane {
        #facts { height: 2; }
        #prompt { height: 5; border: round $panel; }
        #below { height: 9; }
        Why, RunningSums { border: round $panel; }
        Why:focus { border: round $primary; }
    }
    .-wide PairPane {
        Why, RunningSums { width: 1fr; display: block; }
        Why { width: 3fr; }
        RunningSums { width: 2fr; }
        &.-plain RunningSums { display: none; }
    }
    """

    def __init__(self, session: Session, *, id: str = "pair") -> None:  # noqa: A002 (Textual's name)
        super().__init__(session, id=id)
        self._pair: dict[str, Any] = {}
        self._read_from: tuple[Ledger, int, bool, tuple[Needle, ...]] | None = None
        self._responses: dict[Side, Response] = {}
        self._alternatives: Mapping[tuple[str, str], Alternatives] = {}
        self._side: Side = "chosen"
        self._values: Shown = "Δ"
        self._chosen_signs: bool | None = None
        self._explainer = Explainer(session)
        self._differs = False

    def compose(self) -> ComposeResult:
        """Create the facts, the prompt, both responses and the running sums."""
        yield Static(id="facts", markup=False)
        yield Static(id="prompt", markup=False)
        with Container(id="responses"):
            for side in SIDES:
                view = TokenView(id=side)
                view.set_class(side == self._side, "-current")
                yield view
        yield Static(id="instead", markup=False)
        with Container(id="below"):
            yield Why(id="why")
            yield RunningSums(id="sums")

    def on_mount(self) -> None:
        """Redraw signs when the theme changes: by default, they are shown if colours do not show them."""
        self.app.theme_changed_signal.subscribe(self, lambda _: self._show_signs())
        prompt = self.query_one("#prompt", Static)
        prompt.border_title, prompt.border_subtitle = Content("prompt"), Content("p: all texts")

    @property
    def state(self) -> tuple[int, ...]:
        """Redrawn if this changes: the session's generation and the pair under its cursor."""
        return (self.session.generation, self.session.position)

    def focus_first(self) -> None:
        """Focus the response that was last focused."""
        self._view(self._side).focus()

    def _view(self, side: Side) -> TokenView:
        return self.query_one(f"#{side}", TokenView)

    def draw(self) -> None:
        """Draw the pair under the session's cursor."""
        if not self.session.ledger.num_pairs:
            self.query_one("#facts", Static).update(Content("This ledger has no pairs."))
            self.set_class(True, "-empty")  # noqa: FBT003 (Textual's own)
            return
        self.set_class(False, "-empty")  # noqa: FBT003 (the same)
        shown = (self.session.ledger, self.session.position, is_known(self.session), self.session.needles)
        if self._read_from != shown:
            self._read_from = shown
            self._read()
        for side in SIDES:
            self._view(side).border_title = Content(side_title(self.session, side))
        self._draw_facts()
        self._draw_sums()
        self._explain()

    def _read(self) -> None:
        """Read the pair and show its texts and tokens."""
        self._show_signs()
        self._pair = self.session.ledger.pair(self.session.position)
        self._responses = {side: read_response(self._pair, side) for side in SIDES}
        self._alternatives = self.session.ledger.alternatives_of(self.session.position)
        self.set_class(bool(self._alternatives), "-instead")
        prompt = visible(self._pair["prompt"][:PROMPT_CHARACTERS])
        self.query_one("#prompt", Static).update(
            highlighted(prompt, self.session.needles) if prompt else Content("no prompt"), layout=False
        )
        for side, response in self._responses.items():
            self._view(side).show(response, note=self._why_plain(side))
            self._view(side).show_hits(self.session.needles)
        self._show_values()
        self._show_differing()
        self.set_class(not any(response.has_values for response in self._responses.values()), "-plain")

    def _why_plain(self, side: Side) -> str:
        """Return why a response has no heat map, empty if it has one."""
        if self._responses[side].has_values:
            return ""
        if not is_known(self.session):
            return f"no heat map: {NOT_YET}"
        if not self.session.ledger.has_tokens:
            return "no heat map: the ledger has no tokens (scored with --no-tokens, or from existing log-probs)"
        return "no heat map: no token was scored"

    def _draw_facts(self) -> None:
        mark = mark_text(self.session.mark_of(self.session.position), longest=LONGEST_VALUE)
        marked = Content.assemble((mark, "bold"), "  ") if mark else Content("")
        first = Content.assemble(marked, numbers_line(self.session))
        self.query_one("#facts", Static).update(
            Content("\n").join([first, Content(origin_line(self.session, self._pair))]), layout=False
        )

    def _draw_sums(self) -> None:
        """Plot the running sums of the rewards or, without a reference, of the log-probs."""
        plot = self.query_one(RunningSums)
        with_reference = self.session.ledger.has_reference
        chosen, rejected = self._added()
        plot.show_sums(chosen, rejected)
        what = "running Σ β·Δ" if with_reference else "running Σ log π"
        plot.border_title = Content(f"{what}  ⠤ chosen ·· rejected  ┃ cursor")
        plot.border_subtitle = Content(margin_caption(np.append(chosen, -rejected)) if with_reference else "")
        self._show_cursor()

    def _explain(self) -> None:
        """Show what the margin is made of; the prompts of a large ledger are indexed in a background thread."""
        self._explainer.explain()
        if (ledger := self._explainer.unindexed()) is not None:
            self.run_worker(
                partial(self._index_prompts, ledger), thread=True, group="prompts", exclusive=True, exit_on_error=False
            )
        self._show_explanation()

    def _index_prompts(self, ledger: Ledger) -> None:
        self._explainer.keep(ledger, PromptIndex(ledger))
        self.app.call_from_thread(self._show_explanation)

    def _show_explanation(self) -> None:
        why = self.query_one(Why)
        why.show_lines(self._explainer.lines())
        why.border_title = Content.assemble("why  ", *legend(self._values))

    @on(Why.Pointed)
    def _mark_tokens(self, pointed: Why.Pointed) -> None:
        """Mark the tokens that a statement is about."""
        self._unmark()
        for side in SIDES:
            spans = [one for one in pointed.spans if one.side == side and one.start < one.stop]
            if spans and self._view(side).response.has_values:
                self._view(side).mark(spans[0].start, spans[0].stop)

    def _unmark(self) -> None:
        for side in SIDES:
            self._view(side).mark(0, 0)

    def action_why(self) -> None:
        """Go to the explanation; from there, on a small screen, show the running sums instead."""
        why, below = self.query_one(Why), self.query_one("#below")
        if why.has_focus:
            below.add_class("-sums")
            self._unmark()
            self._view(self._side).focus()
        else:
            below.remove_class("-sums")
            why.focus()

    def action_pager(self, what: str) -> None:
        """Show the current response or the prompt in the user's pager."""
        if self._pair:
            name = self._side if what == "response" else "prompt"
            open_text(self.app, self._pair[name], f"row-{self._pair['row']}-{name}")

    def _added(self) -> list[NDArray[np.float64]]:
        """Return what each token adds to its response's reward (without a reference: log-prob), chosen first."""
        beta = self.session.preferences.beta if self.session.ledger.has_reference else 1.0
        return [beta * self._responses[side].strengths for side in SIDES]

    @on(TokenView.CursorMoved)
    def _show_cursor(self) -> None:
        view = self._view(self._side)
        self.query_one(RunningSums).show_cursor(view.cursor if view.response.has_values else None)
        if self._alternatives:
            self.query_one("#instead", Static).update(self._instead(), layout=False)

    def _instead(self) -> Content:
        """Return what the models would have said instead of the token under the cursor."""
        view = self._view(self._side)
        if not view.response.has_values:
            return Content("")
        choices = choices_at(self._alternatives, self._side, view.cursor)
        lines = alternative_lines(choices, view.response.tokens[view.cursor])
        return Content("\n").join(Content.assemble(*line) for line in lines)

    @on(DescendantFocus)
    def _follow_focus(self, event: DescendantFocus) -> None:
        if isinstance(event.widget, TokenView):
            self._set_side(event.widget.response.side)
            self._show_cursor()

    def _set_side(self, side: Side) -> None:
        self._side = side
        for one in SIDES:
            self._view(one).set_class(one == side, "-current")

    def action_switch(self) -> None:
        """Go to the other response, or from the explanation back to the response."""
        if not self.query_one(Why).has_focus:
            self._set_side("rejected" if self._side == "chosen" else "chosen")
        self._view(self._side).focus()

    def action_zoom(self) -> None:
        """Show only the current response, or both again."""
        self.query_one("#responses").toggle_class("-zoomed")

    def action_pair(self, step: int) -> None:
        """Go to the next (1) or the previous (−1) pair in the order."""
        self.session.move_to(self.session.place + step)
        self.show_session()

    def action_wrong(self, step: int) -> None:
        """Go to the next or the previous pair that is ranked wrong."""
        place = self.session.find_wrong(step)
        if place is None:
            self.report("No more wrong pairs this way" if self.session.ledger.has_reference else "No reference")
            return
        self.session.move_to(place)
        self.show_session()

    def action_values(self) -> None:
        """Colour the tokens by the next value."""
        if not self._responses:
            return
        choices = self._responses["chosen"].choices
        at = choices.index(self._values) if self._values in choices else 0
        self._values = choices[(at + 1) % len(choices)]
        self._show_values()
        self._show_explanation()

    def _show_values(self) -> None:
        choices = self._responses["chosen"].choices
        self._values = self._values if self._values in choices else choices[0]
        for side in SIDES:
            self._view(side).show_values(self._values)

    @property
    def _signs(self) -> bool:
        """Whether + and − follow coloured tokens: the user's choice, or by default if colours do not show signs."""
        default = self.app.no_color or self.app.has_class(MONO_CLASS)
        return default if self._chosen_signs is None else self._chosen_signs

    def action_signs(self) -> None:
        """Show or hide + and − after coloured tokens."""
        self._chosen_signs = not self._signs
        self._show_signs()

    def _show_signs(self) -> None:
        for view in self.query(TokenView):  # none while the pane is being composed
            view.show_signs(signs=self._signs)

    def action_differing(self) -> None:
        """Mark or unmark the tokens that are not in the other response."""
        self._differs = not self._differs
        self._show_differing()

    def _show_differing(self) -> None:
        if not self._responses:
            return
        tokens = {side: response.tokens for side, response in self._responses.items()}
        for side, other in (SIDES, SIDES[::-1]):
            self._view(side).show_differing(differing(tokens[side], tokens[other]) if self._differs else None)

    def action_top(self) -> None:
        """List the most extreme tokens of both responses."""
        with_values = [response for response in self._responses.values() if response.has_values]
        if with_values:
            self.app.push_screen(TopTokensDialog(with_values, self.session.preferences.beta), self._go_to_token)

    def _go_to_token(self, place: TokenPlace | None) -> None:
        if place is not None:
            side, token = place
            self._set_side(side)
            self._view(side).focus()
            self._view(side).move_to(token)

    def action_texts(self) -> None:
        """Show the whole prompt, the responses, and the data set's own columns."""
        if self._pair:
            self.app.push_screen(TextsDialog(whole_texts(self.session, self._pair), self.session.needles))

    def action_copy_token(self) -> None:
        """Copy the token under the cursor."""
        view = self._view(self._side)
        if view.response.has_values:
            token = view.response.tokens[view.cursor]
            copy(self.app, token, token)
