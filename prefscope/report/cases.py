"""Pairs shown token by token, with the policy's change of every token's log-prob."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from prefscope.ledger.view import View
from prefscope.report.suspects import Suspect
from prefscope.report.token_steps import LOGRATIO_STEPS, SIDES, Steps, logratio_steps

MOST_TOKENS = 400
"""Limit of tokens shown per response."""
MOST_DISPLACED = 5


@dataclass(frozen=True, slots=True)
class Token:
    """A scored token; its text is untrusted."""

    text: str
    policy: float
    ref: float
    level: int
    """Strength of its colour, from −3 to 3; negative if the policy finds it less likely than the reference does."""

    @property
    def change(self) -> float:
        """Δ = log π − log ref, in nats."""
        return self.policy - self.ref


@dataclass(frozen=True, slots=True)
class Strip:
    """The first tokens of a response."""

    side: str
    reward: float
    tokens: tuple[Token, ...]
    total: int
    """Number of all its tokens."""
    text: str
    """The response, if the ledger has no tokens."""

    def strongest(self, count: int) -> list[Token]:
        """Return the tokens with the largest |Δ|, the largest first."""
        known = [one for one in self.tokens if math.isfinite(one.change)]
        return sorted(known, key=lambda one: -abs(one.change))[:count]


@dataclass(frozen=True, slots=True)
class Case:
    """A pair with both of its responses."""

    row: int
    line: int
    margin: float
    flags: str
    prompt: str
    strips: tuple[Strip, ...]
    remark: str = ""


@dataclass(frozen=True, slots=True)
class CaseList:
    """Pairs under a common title."""

    title: str
    note: str
    cases: tuple[Case, ...]


def case_lists(view: View, suspects: Sequence[Suspect]) -> tuple[tuple[CaseList, ...], Steps]:
    """Return the pairs to show token by token, and the thresholds of |Δ| for colours.

    Args:
        view: The ledger with beta and losses.
        suspects: The worst-ranked pairs, whose labels are the most suspicious.
    """
    if not view.ledger.has_reference:
        return (), LOGRATIO_STEPS
    steps = logratio_steps(view.ledger)
    worst = tuple(
        _case(view, one.position, steps, f"label flipped with probability {one.posterior:.1%}") for one in suspects
    )
    displaced = tuple(_case(view, position, steps, "") for position in _most_displaced(view))
    lists = (
        CaseList("Worst-ranked pairs, token by token", "The most probable label flips first.", worst),
        CaseList(
            "Won by lowering both, token by token",
            "Ranked right although the chosen response became less likely; the largest decreases first.",
            displaced,
        ),
    )
    return tuple(one for one in lists if one.cases), steps


def _most_displaced(view: View) -> list[int]:
    """Return the positions of pairs won by lowering both responses, the largest decrease of chosen first."""
    margins, chosen = view.column("margins"), view.column("chosen_logratios")
    found = np.flatnonzero((margins > 0) & (chosen < 0))
    ordered: list[int] = found[np.argsort(chosen[found], kind="stable")][:MOST_DISPLACED].tolist()
    return ordered


def _case(view: View, position: int, steps: Steps, remark: str) -> Case:
    pair = view.ledger.pair(position)
    rewards = {side: float(view.column(f"{side}_rewards")[position]) for side in SIDES}
    return Case(
        row=pair["row"],
        line=pair["line"],
        margin=float(view.column("margins")[position]),
        flags=str(view.column("flags")[position]),
        prompt=pair["prompt"],
        strips=tuple(_strip(pair, side, rewards[side], steps) for side in SIDES),
        remark=remark,
    )


def _strip(pair: Mapping[str, Any], side: str, reward: float, steps: Steps) -> Strip:
    texts = pair.get(f"{side}_tokens") or ()
    logps = [pair.get(f"{role}_{side}_token_logps") for role in ("policy", "ref")]
    if not texts or logps[0] is None or logps[1] is None:
        return Strip(side, reward, (), 0, pair[side])
    scored = zip(texts, logps[0], logps[1], strict=True)
    tokens = (Token(text, policy, ref, _level(policy - ref, steps)) for text, policy, ref in scored)
    return Strip(side, reward, tuple(tokens)[:MOST_TOKENS], len(texts), "")


def _level(change: float, steps: Steps) -> int:
    size = sum(abs(change) >= step for step in steps)
    return size if change > 0 else -size
