"""A preview of the pair under the cursor, beside the table."""

from __future__ import annotations

from typing import Any

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.timer import Timer
from textual.widgets import Static

from prefscope.ledger.columns import NUM_TOKENS
from prefscope.ledger.search import hits
from prefscope.report.visible import visible, visible_lines
from prefscope.tui.highlighting import highlighted
from prefscope.tui.model.cells import number, steady
from prefscope.tui.model.session import Session
from prefscope.tui.widgets.pair_columns import TIED, WRONG, mark_glyph

DELAY = 0.05
"""Seconds to wait after the last cursor move before the texts of the pair are read."""
LENGTH = 3000
"""Maximum number of characters of each text, more than fits on a screen."""
NEAR, CONTEXT = 150, 40
"""Characters: a first hit up to `NEAR` is in view anyway; before a later one, `CONTEXT` are shown."""
OUTCOMES = {
    "win": ("+ ranked right", "positive"),
    "loss": (f"{WRONG} ranked wrong", "negative"),
    "tie": (f"{TIED} tied", ""),
}


class PairPreview(Vertical):
    """Shows the scores and texts of one pair."""

    DEFAULT_CSS = """
    PairPreview {
        width: 26%;
        min-width: 26;
        max-width: 60;
        border-left: solid $panel;
        padding: 0 1;
        & > Static { height: auto; }
        & > .title { margin-top: 1; }
        & > .chosen-title { color: $positive; }
        & > .rejected-title { color: $negative; }
        & > .prompt { max-height: 25%; }
        & > .chosen { max-height: 35%; }
        & > .rejected { height: 1fr; }
    }
    """

    def __init__(self, session: Session, *, id: str | None = None) -> None:  # noqa: A002 (Textual's name)
        super().__init__(id=id)
        self.session = session
        self._timer: Timer | None = None

    def compose(self) -> ComposeResult:
        """Create the heading, and a title and text for the prompt and each response."""
        yield Static(classes="head", markup=False)
        yield Static("prompt", classes="title", markup=False)
        yield Static(classes="prompt", markup=False)
        for side in ("chosen", "rejected"):
            yield Static(classes=f"title {side}-title", markup=False)
            yield Static(classes=side, markup=False)

    def show_session(self) -> None:
        """Draw the pair under the cursor after a short delay."""
        if self._timer is not None:
            self._timer.stop()
        self._timer = self.set_timer(DELAY, self._draw) if self.display else None

    def _draw(self) -> None:
        session = self.session
        if not session.order.size:
            for static in self.query(Static):
                static.update("")
            return
        texts = session.ledger.pair(session.position, ["prompt", "chosen", "rejected"])
        self._put("head", _head(session))
        self._put("title", Content("prompt"))
        self._put("prompt", self._text(texts["prompt"]))
        for sign, side in (("+", "chosen"), ("−", "rejected")):
            self._put(f"{side}-title", _side(session, sign, side))
            self._put(side, self._text(texts[side]))

    def _text(self, text: Any) -> Content:
        """Return a text with hits highlighted; it begins shortly before the first hit if that is far down."""
        needles, whole = self.session.needles, str(text or "")
        first = hits(whole, needles)[:1] if needles else []
        start = first[0][0] - CONTEXT if first and first[0][0] > NEAR else 0
        shown = visible_lines(steady(whole[start : start + LENGTH])).strip("\n")
        return highlighted(f"…{shown}" if start else shown, needles)

    def _put(self, name: str, content: Content) -> None:
        self.query(f".{name}").first(Static).update(content)


def _head(session: Session) -> Content:
    """Return the heading of the pair: row, mark, outcome, margin, first loss, flags and note."""
    position, view = session.position, session.view
    mark = session.mark_of(position)
    lines = [f"#{view.column('row')[position]}  {mark_glyph(mark)} {mark.decision or ''}".rstrip()]
    if session.ledger.has_reference:
        words, _ = OUTCOMES.get(str(view.column("outcome")[position]), ("not scored", ""))
        lines.append(f"{words}  {_figure(view.column('margins')[position], 2, signed=True)}")
    names = [choice.name for choice in session.ledger.usable_losses(session.preferences)]
    lines += [f"{name} {_figure(view.column(f'{name}_loss')[position], 3)}" for name in names[:1]]
    flags = str(view.column("flags")[position])
    lines += [visible(flags.replace(";", ", "))] if flags else []
    lines += [visible(mark.note)] if mark.note else []
    return Content("\n".join(lines))


def _side(session: Session, sign: str, side: str) -> Content:
    """Return the title of a response: its sign, score and length in tokens."""
    position, view = session.position, session.view
    count = view.column(NUM_TOKENS[side == "rejected"])[position]
    if session.ledger.has_reference:
        score = f"r {_figure(view.column(f'{side}_rewards')[position], 2, signed=True)}"
    else:
        score = f"logp {_figure(view.column(f'policy_{side}_logps')[position], 1, signed=True)}"
    return Content(f"{sign} {side}  {score}  {_figure(count, 0)} tok")


def _figure(value: Any, decimals: int, *, signed: bool = False) -> str:
    return number(float(value), 10, decimals, signed=signed).strip()
