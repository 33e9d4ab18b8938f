"""The sections that `prefscope parity` prints."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from prefscope.ledger.columns import LOGPS, NUM_TOKENS
from prefscope.ledger.table import Ledger
from prefscope.report.compare_sections import comparison_sections
from prefscope.report.compared import Compared, compare_runs
from prefscope.report.sections import Section, Table, number
from prefscope.report.visible import visible
from prefscope.scoring.token_parity import Difference, TokenParity
from prefscope.settings import PreferenceSettings

DIFFERENCES_SHOWN = 8
CHARACTERS = 32


@dataclass(frozen=True, slots=True)
class Parity:
    """The same pairs under two profiles, A and B."""

    profiles: tuple[str, str]
    ledgers: tuple[Ledger, Ledger]
    tokens: TokenParity


def parity_headline(parity: Parity) -> list[str]:
    """Return the names of the profiles and the number of pairs with equal tokens."""
    a, b = parity.profiles
    same = f"{parity.tokens.equal:,} of {parity.tokens.shared:,} pairs have the same tokens under both"
    lost = [f"{name} refuses {count:,}" for name, count in zip(parity.profiles, refused(parity), strict=True) if count]
    return [f"A {a}", f"B {b}", f"   {'; '.join([same, *lost])}"]


def refused(parity: Parity) -> tuple[int, int]:
    """Return for each profile how many pairs it refuses that the other accepts."""
    a, b = (ledger.num_pairs - parity.tokens.shared for ledger in parity.ledgers)
    return b, a


def parity_sections(parity: Parity, preferences: PreferenceSettings) -> list[Section]:
    """Return which tokens differ, in how many pairs, and the effect on log-probs, margins and losses."""
    compared = compare_runs(parity.ledgers, preferences)
    rows = [_row(one, parity.tokens.shared) for one in parity.tokens.differences[:DIFFERENCES_SHOWN]]
    more = len(parity.tokens.differences) - len(rows)
    note = f"and {more:,} rarer differences" if more > 0 else ""
    sections: list[Section] = [_moved(parity, compared)]
    if rows:
        header = ("where", "pairs", "share", "A has", "B has")
        sections.insert(0, Table("Tokens that differ", header, tuple(rows), (1, 2), note))
    return [*sections, *comparison_sections(compared.view, compared.comparison)]


def _row(one: Difference, shared: int) -> tuple[str, ...]:
    return one.place, f"{one.pairs:,}", f"{one.pairs / shared:.0%}", _short(one.a), _short(one.b)


def _short(text: str) -> str:
    """Return tokens as one safe line, with long text shortened in the middle."""
    shown = visible(text).replace("\n", "⏎") or "·"
    half = CHARACTERS // 2
    return shown if len(shown) <= CHARACTERS else f"{shown[:half]}…{shown[1 - half :]}"


def _moved(parity: Parity, compared: Compared) -> Table:
    """Return how much token counts and log-probs of a pair change."""
    first, second = compared.view.pairing.positions
    a, b = (ledger.stored for ledger in parity.ledgers)
    rows = []
    for name in (*NUM_TOKENS, *(name for name in LOGPS if parity.ledgers[0].has_reference or name[:3] != "ref")):
        one, other = a[name][first].astype(np.float64), b[name][second].astype(np.float64)
        known = np.isfinite(one) & np.isfinite(other)
        moved = np.abs(other - one)[known]
        if moved.size:
            means = (float(one[known].mean()), float(other[known].mean()), float(moved.mean()), float(moved.max()))
            rows.append((name, *map(number, means)))
    header = ("mean per pair", "A", "B", "mean change", "largest")
    return Table("Effect on token counts and log-probs, in tokens and nats", header, tuple(rows), (1, 2, 3, 4))


def parity_json(parity: Parity, preferences: PreferenceSettings) -> dict[str, Any]:
    """Return JSON values: the figures of a comparison, and which tokens differ."""
    found = compare_runs(parity.ledgers, preferences).to_json()
    del found["runs"], found["courses"]
    return found | {
        "profiles": list(parity.profiles),
        "pairs_with_the_same_tokens": parity.tokens.equal,
        "refused": dict(zip(parity.profiles, refused(parity), strict=True)),
        "differences_of_tokens": [asdict(one) for one in parity.tokens.differences],
    }
