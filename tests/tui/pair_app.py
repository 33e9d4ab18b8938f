"""An app with only the Pair pane, and ledgers with tokens for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from textual import on
from textual.app import App, ComposeResult

import prefscope.tui
from prefscope.ledger.columns import ALTERNATIVES, DIVERGENCES, TOKEN_DIVERGENCES, TOKENS
from prefscope.ledger.file import ExtraKind, build_schema, write_ledger
from prefscope.ledger.table import load_ledger
from prefscope.settings import PreferenceSettings
from prefscope.tui.app import PrefscopeApp
from prefscope.tui.messages import SessionChanged
from prefscope.tui.model.session import Session
from prefscope.tui.panes.pair import PairPane
from prefscope.tui.theme import DEFAULT_THEME, THEMES, VARIABLES
from tests.alternatives import COUNT, alternatives_of

Tokens = Sequence[tuple[str, float, float]]
"""Text, log π and log ref of each token."""
CHOSEN: Tokens = [("Use", -1.0, -1.5), (" None", -2.0, -0.25), (".\n", -0.5, -0.5), ("Done", -3.0, -5.0)]
REJECTED: Tokens = [("Use", -1.0, -1.0), (" []", -4.0, -0.5)]


class PairApp(App[None]):
    """Without the filters on rendered lines: hostile text must be safe without them."""

    CSS_PATH = Path(prefscope.tui.__file__).with_name("prefscope.tcss")
    HORIZONTAL_BREAKPOINTS = PrefscopeApp.HORIZONTAL_BREAKPOINTS
    VERTICAL_BREAKPOINTS = PrefscopeApp.VERTICAL_BREAKPOINTS

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.changes = 0
        for theme in THEMES:
            self.register_theme(theme)
        self.theme = DEFAULT_THEME

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return VARIABLES

    def compose(self) -> ComposeResult:
        yield PairPane(self.session)

    def on_mount(self) -> None:
        pane = self.query_one(PairPane)
        pane.show_session()
        pane.focus_first()

    @on(SessionChanged)
    def count(self) -> None:
        self.changes += 1


def write_session(
    path: Path,
    pairs: Sequence[Mapping[str, Any]],
    *,
    extra: Mapping[str, tuple[ExtraKind, list[Any]]] | None = None,
    has_reference: bool = True,
    has_tokens: bool = True,
    has_alternatives: bool = False,
    has_divergences: bool = False,
) -> Session:
    """Write a ledger of pairs, with defaults for missing values, and return a session on it.

    `chosen` and `rejected` of a pair are its tokens; sums and texts follow from them unless they are given.
    """
    rows = [_filled(row, pair, has_reference=has_reference) for row, pair in enumerate(pairs)]
    left_out = {column.name for column in TOKENS if not has_tokens}
    if has_alternatives:
        sizes = [(row["chosen_num_tokens"], row["rejected_num_tokens"]) for row in rows]
        rows = [{**alternatives_of(*size), **row} for row, size in zip(rows, sizes, strict=True)]
    more = (
        *(ALTERNATIVES if has_alternatives else ()),
        *((*DIVERGENCES, *TOKEN_DIVERGENCES) if has_divergences else ()),
    )
    if has_divergences:
        rows = [{**_diverging(row), **row} for row in rows]
    columns = {name: [row[name] for row in rows] for name in rows[0] if name not in left_out}
    columns |= {name: values for name, (_, values) in (extra or {}).items()}
    manifest: dict[str, Any] = {"has_reference": has_reference, "models": {}, "data": {}}
    manifest |= {"alternatives": COUNT} if has_alternatives else {}
    kinds = {name: kind for name, (kind, _) in (extra or {}).items()}
    schema = build_schema(kinds, manifest, tokens=has_tokens, more=more)
    write_ledger(path, schema, [columns])
    return Session(load_ledger(path), PreferenceSettings())


def _diverging(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return divergences of a pair: 0, 0.1, 0.2, … nats at its tokens."""
    columns: dict[str, Any] = {}
    for side, direction in product(("chosen", "rejected"), ("kl_policy_ref", "kl_ref_policy")):
        values = [at / 10 for at in range(row[f"{side}_num_tokens"])]
        columns |= {f"{side}_token_{direction}": values, f"{side}_{direction}": sum(values)}
    return columns


def _filled(row: int, pair: Mapping[str, Any], *, has_reference: bool) -> dict[str, Any]:
    filled: dict[str, Any] = {
        "row": row,
        "pair_id": f"{row:016x}",
        "line": row + 1,
        "flags": "",
        "prompt": f"prompt {row}",
        "source_json": "{}",
    }
    for side, tokens in (("chosen", pair.get("chosen", CHOSEN)), ("rejected", pair.get("rejected", REJECTED))):
        logps = {"policy": [one[1] for one in tokens], "ref": [one[2] for one in tokens] if has_reference else None}
        filled |= {side: "".join(one[0] for one in tokens), f"{side}_tokens": [one[0] for one in tokens]}
        filled[f"{side}_num_tokens"] = len(tokens)
        for role, values in logps.items():
            filled[f"{role}_{side}_token_logps"] = values
            filled[f"{role}_{side}_logps"] = None if values is None else sum(values)
    return filled | {name: value for name, value in pair.items() if name not in {"chosen", "rejected"}}
