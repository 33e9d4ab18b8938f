"""The explanation of one pair of a ledger, beside the compared run, the noise floor and similar prompts."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from prefscope.ledger.alternatives import Choices
from prefscope.ledger.pairing import PairedView
from prefscope.ledger.table import Ledger
from prefscope.ledger.view import View
from prefscope.preference.explanation import (
    SIDES,
    Explanation,
    RewardRule,
    ScoredResponse,
    Sentence,
    Side,
    explain_sums,
    explain_tokens,
)
from prefscope.preference.registry import resolve_parameters
from prefscope.report.nearest import PromptIndex
from prefscope.report.token_choices import choices_at
from prefscope.settings import LossChoice

UNSCORED = "This pair is unscored: a log-prob is NaN or infinite, or not known yet."
NO_TOKENS = "There are no token log-probs in this ledger, so nothing is known of sentences and regions."
MOST_CHOICES = 6
MOST_MOVED, LEAST_MOVE = 3, 5e-4
"""How many tokens are named that moved, and the least difference, which is that shown as 0.001."""
CONTRADICTION = 1e-3
"""Margins further apart than this, relative to the size of their terms, are reported as a contradiction."""


@dataclass(frozen=True, slots=True)
class OtherRun:
    """The same pair in run B."""

    name: str
    margin: float
    """nan if B has no margin of this pair."""
    why_not: str = ""
    """Why it has none, as a sentence; empty if it has one."""
    changes: tuple[float, ...] = ()
    """For each sentence, its effect in this run minus that in B; empty if tokens differ or are unknown."""
    moved: tuple[MovedToken, ...] = ()
    """The tokens whose effects differ most, the largest difference first; empty for the same reasons."""


@dataclass(frozen=True, slots=True)
class MovedToken:
    """A token whose effect on the margin is another than in run B."""

    side: Side
    number: int
    """Its place in the response, from 0 on."""
    text: str
    """Not escaped."""
    change: float
    """Its effect in this run minus that in B."""


@dataclass(frozen=True, slots=True)
class TokenChoices:
    """A token, and what each model would have said there."""

    side: Side
    number: int
    """Its place in the response, from 0 on."""
    text: str
    """Not escaped."""
    effect: float
    """What it adds to the margin."""
    choices: Mapping[str, Choices]
    """By role."""


@dataclass(frozen=True, slots=True)
class PairCourse:
    """The margins of a pair over the checkpoints of a training."""

    steps: tuple[int, ...]
    margins: tuple[float, ...]

    @property
    def flips(self) -> int:
        """How often the ranking changes from one checkpoint to the next."""
        return sum((one > 0) != (other > 0) for one, other in itertools.pairwise(self.margins))

    @property
    def since(self) -> int:
        """The step from which on the pair is ranked as at the last one."""
        at = len(self.margins) - 1
        while at and (self.margins[at - 1] > 0) == (self.margins[-1] > 0):
            at -= 1
        return self.steps[at]


@dataclass(frozen=True, slots=True)
class Similar:
    """A pair with a similar prompt."""

    row: int
    similarity: float
    margin: float
    """nan if it is unscored."""
    prompt: str


@dataclass(frozen=True, slots=True)
class ExplainedPair:
    """What can be said about the margin of a pair."""

    row: int
    line: int
    pair_id: str
    rule: RewardRule
    has_reference: bool
    explanation: Explanation | None
    """None if the pair is unscored."""
    remarks: tuple[str, ...] = ()
    """What is missing, as sentences."""
    floor: float | None = None
    """The noise floor in units of the margin; None if it was not measured."""
    other: OtherRun | None = None
    course: PairCourse | None = None
    """None unless three or more runs have the pair."""
    similar: tuple[Similar, ...] | None = None
    """Pairs with similar prompts; None if they were not looked for."""
    divergences: tuple[float, float] | None = None
    """Σ KL(policy‖reference) over each response's tokens, in nats; None if it was not measured."""
    tokens: tuple[TokenChoices, ...] = ()
    """The tokens that moved since run B and those with the largest effects; empty if no alternatives are kept."""


def reward_rule(view: View) -> RewardRule:
    """Return the reward of a view: beta × log-ratio or, without a reference, SimPO's mean log-prob."""
    if view.ledger.has_reference:
        return RewardRule(view.preferences.beta)
    simpo = next((one for one in view.preferences.losses if one.name == "simpo"), LossChoice("simpo"))
    return RewardRule(resolve_parameters(simpo, view.preferences)["beta"], per_token=True)


def explain_pair(view: View, position: int, name_of_b: str = "B") -> ExplainedPair:
    """Explain the pair at a position of a ledger.

    Args:
        view: The ledger with beta; if it is a `PairedView`, the pair is compared with the other run.
        position: Position in the ledger.
        name_of_b: Name of the other run.
    """
    pair = view.ledger.pair(position)
    explanation, remarks = _explain(view, position, pair)
    return ExplainedPair(
        row=int(pair["row"]),
        line=int(pair["line"]),
        pair_id=str(pair["pair_id"]),
        rule=reward_rule(view),
        has_reference=view.ledger.has_reference,
        explanation=explanation,
        remarks=remarks,
        floor=_floor(view),
        other=_other(view, position, explanation, pair, name_of_b) if isinstance(view, PairedView) else None,
        course=_course(view, position),
        divergences=_divergences(view, position),
    )


def _course(view: View, position: int) -> PairCourse | None:
    courses = view.courses
    if courses is None or not np.isfinite(gaps := courses.gaps[:, position]).all():
        return None
    return PairCourse(courses.steps, tuple((view.preferences.beta * gaps).tolist()))


def _divergences(view: View, position: int) -> tuple[float, float] | None:
    if not view.ledger.has_divergences:
        return None
    chosen, rejected = (float(view.column(f"{side}_kl_policy_ref")[position]) for side in SIDES)
    return chosen, rejected


def similar_pairs(view: View, index: PromptIndex, position: int) -> tuple[Similar, ...]:
    """Return the pairs with the prompts most similar to a pair's, with their margins."""
    found = []
    for one in index.nearest(position):
        pair = view.ledger.pair(one.position, ["row", "prompt"])
        found.append(Similar(int(pair["row"]), one.similarity, margin_of(view, one.position), pair["prompt"]))
    return tuple(found)


def choices_of(view: View, position: int, moved: Sequence[MovedToken] = ()) -> tuple[TokenChoices, ...]:
    """Return what the models would have said at the tokens of a pair with the largest effects on its margin.

    Args:
        view: The ledger with beta.
        position: Position in the ledger.
        moved: Tokens that come first, whatever their effects.

    Returns:
        Empty if the ledger has no alternatives.
    """
    alternatives = view.ledger.alternatives_of(position)
    if not alternatives:
        return ()
    pair, rule = view.ledger.pair(position), reward_rule(view)
    found: dict[tuple[Side, int], TokenChoices] = {}
    for side, sign in zip(SIDES, (1, -1), strict=True):
        response = _response(pair, side, has_reference=view.ledger.has_reference)
        for at, effect in enumerate(() if response is None else (sign * response.terms(rule)).tolist()):
            if response is not None and math.isfinite(effect):
                found[side, at] = TokenChoices(side, at, response.tokens[at], effect, {})
    first = [found[one.side, one.number] for one in moved]
    others = sorted((one for one in found.values() if one not in first), key=lambda one: -abs(one.effect))
    return tuple(
        replace(one, choices=choices_at(alternatives, one.side, one.number)) for one in [*first, *others[:MOST_CHOICES]]
    )


def margin_of(view: View, position: int) -> float:
    """Return the margin of a pair by the view's rule; nan if it is unscored."""
    rewards = _rewards(view, position)
    return rewards[0] - rewards[1]


def position_of(ledger: Ledger, row: int) -> int | None:
    """Return the position of a row of the data set, None if the ledger does not have it."""
    found = np.flatnonzero(ledger.stored["row"] == row)
    return int(found[0]) if found.size else None


def _rewards(view: View, position: int) -> tuple[float, float]:
    """Return both rewards, from the sums of log-probs."""
    rule, stored = reward_rule(view), view.ledger.stored
    found = []
    for side in SIDES:
        value = float(stored[f"policy_{side}_logps"][position])
        if view.ledger.has_reference:
            value -= float(stored[f"ref_{side}_logps"][position])
        count = int(stored[f"{side}_num_tokens"][position])
        found.append(rule.beta * value / (count if count > 0 else math.nan) if rule.per_token else rule.beta * value)
    return found[0], found[1]


def _explain(view: View, position: int, pair: Mapping[str, Any]) -> tuple[Explanation | None, tuple[str, ...]]:
    """Return the explanation of a pair, and what is missing in it."""
    rule, rewards = reward_rule(view), _rewards(view, position)
    if not all(map(math.isfinite, rewards)):
        return None, (UNSCORED,)
    responses = [_response(pair, side, has_reference=view.ledger.has_reference) for side in SIDES]
    if responses[0] is None or responses[1] is None:
        counts = pair["chosen_num_tokens"], pair["rejected_num_tokens"]
        known = counts if min(counts) >= 0 else None
        return explain_sums(rewards, known, rule, has_reference=view.ledger.has_reference), (NO_TOKENS,)
    found = explain_tokens(responses[0], responses[1], rule)
    if found is None:
        return None, (UNSCORED,)
    margin = rewards[0] - rewards[1]
    size = 1.0 if found.parts is None else max(found.parts.plus - found.parts.minus, 1e-6)
    if abs(found.margin - margin) > CONTRADICTION * size:
        tokens, sums = (f"{value:+.3f}".replace("-", "−") for value in (found.margin, margin))
        return found, (f"The token log-probs add up to {tokens}, but the ledger's sums to {sums}.",)
    return found, ()


def _response(pair: Mapping[str, Any], side: Side, *, has_reference: bool) -> ScoredResponse | None:
    """Return a response with its tokens; None if their log-probs are unknown."""
    tokens, policy = pair.get(f"{side}_tokens"), pair.get(f"policy_{side}_token_logps")
    ref = pair.get(f"ref_{side}_token_logps")
    if tokens is None or policy is None or (has_reference and ref is None):
        return None
    ref_logps = np.asarray(ref, dtype=np.float64) if has_reference else None
    return ScoredResponse(pair[side], tokens, np.asarray(policy, dtype=np.float64), ref_logps)


def _floor(view: View) -> float | None:
    """Return the noise floor of margins, None if there is none or margins have no reference."""
    measured = view.ledger.manifest.get("noise")
    if not measured or not view.ledger.has_reference or not math.isfinite(measured["floor"]):
        return None
    return float(view.preferences.beta * measured["floor"])


def _other(
    view: PairedView, position: int, explanation: Explanation | None, pair: Mapping[str, Any], name: str
) -> OtherRun:
    at = view.pairing.find(position)
    if at is None:
        return OtherRun(name, math.nan, "does not have this pair")
    if view.other.ledger.has_reference != view.ledger.has_reference:
        has = "a" if view.other.ledger.has_reference else "no"
        return OtherRun(name, math.nan, f"has {has} reference, so the margins cannot be compared")
    theirs_pair = view.other.ledger.pair(at)
    theirs, _ = _explain(view.other, at, theirs_pair)
    if theirs is None:
        return OtherRun(name, math.nan, "has not scored this pair")
    if not _same_tokens(explanation, theirs, pair, theirs_pair):
        return OtherRun(name, theirs.margin)
    changes = _changes(explanation, theirs)
    return OtherRun(name, theirs.margin, changes=changes, moved=_moved(view, pair, theirs_pair))


def _moved(view: PairedView, pair: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[MovedToken, ...]:
    """Return the tokens whose effects on the margin differ most between the runs."""
    rule, found = reward_rule(view), []
    for side, sign in zip(SIDES, (1, -1), strict=True):
        ours, theirs = (_response(one, side, has_reference=view.ledger.has_reference) for one in (pair, other))
        if ours is None or theirs is None:
            return ()
        changes = sign * (ours.terms(rule) - theirs.terms(rule))
        known = np.flatnonzero(np.isfinite(changes) & (np.abs(changes) >= LEAST_MOVE))
        most = known[np.argsort(-np.abs(changes[known]), kind="stable")][:MOST_MOVED]
        found += [MovedToken(side, at, ours.tokens[at], float(changes[at])) for at in most.tolist()]
    return tuple(sorted(found, key=lambda one: -abs(one.change))[:MOST_MOVED])


def _same_tokens(
    ours: Explanation | None, theirs: Explanation, pair: Mapping[str, Any], other: Mapping[str, Any]
) -> bool:
    """Return whether both runs have token log-probs, of the same tokens."""
    if ours is None or ours.parts is None or theirs.parts is None:
        return False
    return all([*pair[f"{side}_tokens"]] == [*other[f"{side}_tokens"]] for side in SIDES)


def _changes(ours: Explanation | None, theirs: Explanation) -> tuple[float, ...]:
    """Return how much more each sentence gives in this run than in the other."""
    if ours is None or ours.parts is None or theirs.parts is None:
        return ()
    both: zip[tuple[Sentence, Sentence]] = zip(ours.parts.sentences, theirs.parts.sentences, strict=True)
    return tuple(one.effect - another.effect for one, another in both)
