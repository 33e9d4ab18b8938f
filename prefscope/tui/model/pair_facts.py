"""Text that describes one pair: short lines for the Pair screen, and full texts for reading."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.cells import cell_len

from prefscope.flags import flag_meaning, split_flags
from prefscope.ledger.columns import LOGPS
from prefscope.ledger.marks import Mark
from prefscope.ledger.pairing import OTHER_MARGINS
from prefscope.preference.explanation import SIDES, Side
from prefscope.report.visible import visible
from prefscope.tui.model.cells import ABSENT, fit, one_line
from prefscope.tui.model.numbers import figure, minus, signed
from prefscope.tui.model.session import Session

LONGEST_VALUE = 24
SIGNS: Mapping[Side, str] = {"chosen": "+", "rejected": "−"}
NOT_SCORED, NOT_YET = "not scored", "not scored yet"


def side_title(session: Session, side: Side) -> str:
    """Return the title of a response: its reward and sums of log-probs."""
    at, view = session.position, session.view
    policy = float(view.column(f"policy_{side}_logps")[at])
    if math.isnan(policy):
        return f"{SIGNS[side]} {side}  {NOT_SCORED if is_known(session) else NOT_YET}"
    parts = [f"{SIGNS[side]} {side}"]
    if session.ledger.has_reference:
        parts.append(f"r={signed(view.column(f'{side}_rewards')[at])}")
    parts.append(f"Σlogπ {minus(f'{policy:.1f}')}")
    if session.ledger.has_reference:
        parts.append(f"Σlogref {figure(view.column(f'ref_{side}_logps')[at], '.1f')}")
    return "  ".join(parts)


def numbers_line(session: Session) -> str:
    """Return a line with the pair's place in the order, outcome, margin, flags and losses."""
    at, view = session.position, session.view
    parts = [f"{session.place + 1:,}/{session.order.size:,}", f"row {session.ledger.stored['row'][at]}"]
    if is_scored(session):
        if session.ledger.has_reference:
            parts += [str(view.column("outcome")[at]), f"margin {signed(view.column('margins')[at])}{_other(session)}"]
        parts.append(_warning(session))
        parts += [f"{name} {figure(value, '.3f')}" for name, value in losses(session)]
        parts += [] if not session.ledger.has_divergences else [f"KL {_divergences(session)}"]
    else:
        parts += [f"{NOT_SCORED}: a log-prob is NaN or infinite" if is_known(session) else NOT_YET, _warning(session)]
    return "  ".join(part for part in parts if part)


def _divergences(session: Session) -> str:
    """Return Σ KL(policy‖reference) of chosen and rejected, in nats."""
    return " ".join(figure(session.view.column(f"{side}_kl_policy_ref")[session.position], ".2f") for side in SIDES)


def _other(session: Session) -> str:
    """Return the pair's margin in the compared run, empty if no run is compared."""
    if not session.runs.compares_margins:
        return ""
    margin = float(session.view.column(OTHER_MARGINS)[session.position])
    return f" (B {signed(margin)})" if math.isfinite(margin) else f" (B {ABSENT})"


def is_scored(session: Session) -> bool:
    """Return whether all log-prob sums of the pair are finite."""
    columns = LOGPS if session.ledger.has_reference else LOGPS[:2]
    return all(math.isfinite(session.ledger.stored[name][session.position]) for name in columns)


def is_known(session: Session) -> bool:
    """Return whether the run has scored the pair, even if its log-probs are nan."""
    return bool(session.ledger.is_known[session.position])


def losses(session: Session) -> Iterator[tuple[str, float]]:
    """Yield the name and the pair's value of each loss."""
    for choice in session.ledger.usable_losses(session.preferences):
        yield choice.name, float(session.view.column(f"{choice.name}_loss")[session.position])


def margin_caption(contributions: NDArray[np.float64]) -> str:
    """Describe a margin by the sum of what adds to it and the sum of what subtracts from it.

    Args:
        contributions: What each token adds to the margin; non-finite values are ignored.
    """
    finite = contributions[np.isfinite(contributions)]
    plus, minus_ = float(finite[finite > 0].sum()), float(finite[finite < 0].sum())
    return f"margin {signed(plus + minus_)}: gross {signed(plus)} {signed(minus_)}"


def mark_text(mark: Mark, longest: int | None = None) -> str:
    """Return a mark in brackets, empty if there is none; its note is truncated to `longest` cells."""
    note = one_line(mark.note)
    note = fit(note, longest) if longest is not None and cell_len(note) > longest else note
    parts = [mark.decision or "", f"“{note}”" if note else ""]
    return f"[{' '.join(filter(None, parts))}]" if any(parts) else ""


def origin_line(session: Session, pair: Mapping[str, Any]) -> str:
    """Return the pair's source line, id, short values of the data set's own columns, and the meaning of its flags."""
    own = [f"{visible(name)}={value}" for name, value in own_columns(session, pair) if len(value) <= LONGEST_VALUE]
    return "  ".join([f"line {pair['line']}", visible(pair["pair_id"]), *own, *_meanings(pair["flags"])])


def _warning(session: Session) -> str:
    """Return the names of the pair's flags, empty if it has none."""
    flags = str(session.ledger.stored["flags"][session.position]).replace(";", " ")
    return f"⚠ {visible(flags)}" if flags else ""


def _meanings(flags: str) -> list[str]:
    """Return each flag with its meaning."""
    return [f"{visible(flag)}: {flag_meaning(flag, 'unknown')}" for flag in split_flags(flags)]


def own_columns(session: Session, pair: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the name and escaped value of each of the data set's own columns that is not empty for the pair."""
    for name in session.ledger.extra_columns:
        if pair[name] not in {None, ""}:
            yield name, visible(str(pair[name]))


def whole_texts(session: Session, pair: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return all texts about a pair as (title, text)."""
    own = "\n".join(f"{name} = {value}" for name, value in own_columns(session, pair))
    facts = [numbers_line(session), mark_text(session.mark_of(session.position)), f"pair_id {pair['pair_id']}"]
    facts += [f"line {pair['line']} of the source"]
    facts += [side_title(session, side) for side in SIDES]
    facts += [f"{side}: {_count(pair[f'{side}_num_tokens'])} scored" for side in SIDES]
    facts += [f"⚠ {meaning}" for meaning in _meanings(pair["flags"])]
    return [
        ("prompt", pair["prompt"]),
        *((side, pair[side]) for side in SIDES),
        ("columns", own or "The data set has no other columns."),
        ("facts", "\n".join(filter(None, facts))),
        ("source row", pair["source_json"]),
    ]


def _count(tokens: int) -> str:
    """Return a number of tokens in words; −1 stands for unknown."""
    return f"{tokens:,} tokens" if tokens >= 0 else "an unknown number of tokens"
