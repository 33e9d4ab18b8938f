"""Pairs shown token by token, with the policy's change of every token's log-prob."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count, islice
from typing import Any

import numpy as np

from prefscope.ledger.alternatives import Alternatives
from prefscope.ledger.view import View
from prefscope.preference.explanation import SIDES, Side
from prefscope.report.explained import explain_pair, similar_pairs
from prefscope.report.explanation_words import in_words
from prefscope.report.nearest import PromptIndex
from prefscope.report.suspects import Suspect
from prefscope.report.token_choices import choices_at, exact_text, instead
from prefscope.report.token_steps import effect_levels

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
    """Strength of its colour, from −3 to 3; negative if it lowers the margin."""
    instead: str = ""
    """What the models would have said and their divergence, safe to show; empty if neither is kept."""

    @property
    def change(self) -> float:
        """Δ = log π − log ref, in nats."""
        return self.policy - self.ref


@dataclass(frozen=True, slots=True)
class Strip:
    """The first tokens of a response."""

    side: Side
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
    explanation: tuple[str, ...] = ()
    """What the margin is made of, as lines of safe text."""
    remark: str = ""


@dataclass(frozen=True, slots=True)
class CaseList:
    """Pairs under a common title."""

    title: str
    note: str
    cases: tuple[Case, ...]


def case_lists(view: View, suspects: Sequence[Suspect]) -> tuple[CaseList, ...]:
    """Return the pairs to show token by token; none without a reference.

    Args:
        view: The ledger with beta and losses.
        suspects: The worst-ranked pairs, whose labels are the most suspicious.
    """
    if not view.ledger.has_reference:
        return ()
    moved = _most_displaced(view)
    index = PromptIndex(view.ledger) if suspects or moved else None
    worst = tuple(
        _case(view, one.position, index, f"label flipped with probability {one.posterior:.1%}") for one in suspects
    )
    displaced = tuple(_case(view, position, index, "") for position in moved)
    lists = (
        CaseList("Worst-ranked pairs, token by token", "The most probable label flips first.", worst),
        CaseList(
            "Won by lowering both, token by token",
            "Ranked right although the chosen response became less likely; the largest decreases first.",
            displaced,
        ),
    )
    return tuple(one for one in lists if one.cases)


def _most_displaced(view: View) -> list[int]:
    """Return the positions of pairs won by lowering both responses, the largest decrease of chosen first."""
    margins, chosen = view.column("margins"), view.column("chosen_logratios")
    found = np.flatnonzero((margins > 0) & (chosen < 0))
    ordered: list[int] = found[np.argsort(chosen[found], kind="stable")][:MOST_DISPLACED].tolist()
    return ordered


def _case(view: View, position: int, index: PromptIndex | None, remark: str) -> Case:
    pair = view.ledger.pair(position)
    similar = None if index is None else similar_pairs(view, index, position)
    explained = replace(explain_pair(view, position), similar=similar)
    alternatives = view.ledger.alternatives_of(position)
    rewards = {side: float(view.column(f"{side}_rewards")[position]) for side in SIDES}
    return Case(
        row=pair["row"],
        line=pair["line"],
        margin=float(view.column("margins")[position]),
        flags=str(view.column("flags")[position]),
        prompt=pair["prompt"],
        strips=tuple(_strip(pair, side, rewards[side], alternatives) for side in SIDES),
        explanation=tuple(line.text for line in in_words(explained, brief=True)),
        remark=remark,
    )


def _strip(
    pair: Mapping[str, Any], side: Side, reward: float, alternatives: Mapping[tuple[str, str], Alternatives]
) -> Strip:
    texts = pair.get(f"{side}_tokens") or ()
    policy, ref = (pair.get(f"{role}_{side}_token_logps") for role in ("policy", "ref"))
    if not texts or policy is None or ref is None:
        return Strip(side, reward, (), 0, pair[side])
    with np.errstate(invalid="ignore"):
        levels = effect_levels(side, np.subtract(policy, ref)).tolist()
    shown = islice(zip(texts, policy, ref, levels, strict=True), MOST_TOKENS)
    said: Iterator[str] = (instead(choices_at(alternatives, side, at)) for at in count())
    if not alternatives and (divergences := pair.get(f"{side}_token_kl_policy_ref")) is not None:
        said = map(exact_text, divergences)
    tokens = (Token(*one, text) for one, text in zip(shown, said, strict=False))
    return Strip(side, reward, tuple(tokens), len(texts), "")
