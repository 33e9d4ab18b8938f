"""An app with only the Pairs pane, and ledgers of a few pairs for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from textual import on
from textual.app import App, ComposeResult
from textual.screen import Screen

import prefscope.tui
from prefscope.ledger.file import ExtraKind, build_schema, write_ledger
from prefscope.ledger.table import load_ledger
from prefscope.settings import PreferenceSettings
from prefscope.tui.messages import PairOpened, SessionChanged
from prefscope.tui.model.session import Session
from prefscope.tui.panes.pairs import PairsPane
from prefscope.tui.theme import DEFAULT_THEME, THEMES, VARIABLES

TEXTS: Mapping[str, str] = {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"}


class PairsScreen(Screen[None]):
    """An app with only the Pairs pane."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.opened: list[int] = []

    def compose(self) -> ComposeResult:
        yield PairsPane(self.session, id="pairs")

    def on_mount(self) -> None:
        self.show()
        self.query_one(PairsPane).focus_first()

    @on(SessionChanged)
    def show(self) -> None:
        self.query_one(PairsPane).show_session()

    @on(PairOpened)
    def open(self) -> None:
        self.opened.append(self.session.position)


class PairsApp(App[None]):
    """Without the filters on rendered lines: hostile text must be safe without them."""

    CSS_PATH = Path(prefscope.tui.__file__).with_name("prefscope.tcss")
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide")]  # noqa: RUF012 (as Textual declares it)

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.pairs_screen = PairsScreen(session)
        for theme in THEMES:
            self.register_theme(theme)
        self.theme = DEFAULT_THEME

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return VARIABLES

    def on_mount(self) -> None:
        self.push_screen(self.pairs_screen)


def write_pairs(
    path: Path,
    pairs: Sequence[Mapping[str, Any]],
    *,
    extra: Mapping[str, tuple[ExtraKind, list[Any]]] | None = None,
    has_reference: bool = True,
    group: int = 500,
) -> Session:
    """Write a ledger of pairs, with defaults for missing values, and return a session on it."""
    rows = [_filled(row, pair, has_reference=has_reference) for row, pair in enumerate(pairs)]
    extra = extra or {}
    columns = {name: [row[name] for row in rows] for name in _filled(0, {}, has_reference=has_reference)}
    columns |= {name: values for name, (_, values) in extra.items()}
    manifest = {"has_reference": has_reference, "models": {}, "data": {}}
    schema = build_schema({name: kind for name, (kind, _) in extra.items()}, manifest, tokens=False)
    starts = range(0, max(len(rows), 1), group)
    write_ledger(path, schema, [{name: values[at : at + group] for name, values in columns.items()} for at in starts])
    return Session(load_ledger(path), PreferenceSettings())


def _filled(row: int, pair: Mapping[str, Any], *, has_reference: bool) -> dict[str, Any]:
    """Return a pair with the margin `margin` (default 0) at beta 0.1, or with the log-probs passed."""
    given = {name: value for name, value in pair.items() if name != "margin"}
    reference = {"ref_chosen_logps": -52.0, "ref_rejected_logps": -61.0} if has_reference else {}
    return {
        "row": row,
        "pair_id": f"{row:016x}",
        "line": row + 1,
        "policy_chosen_logps": -52.0 + 10 * float(pair.get("margin", 0.0)),
        "policy_rejected_logps": -61.0,
        "ref_chosen_logps": None,
        "ref_rejected_logps": None,
        **reference,
        "chosen_num_tokens": 20,
        "rejected_num_tokens": 30,
        "flags": "",
        **{name: f"{text} {row}" for name, text in TEXTS.items()},
        "source_json": "{}",
        **given,
    }
