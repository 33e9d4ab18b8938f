"""What a pair's margin is made of: its tokens, sentences and regions, its length, and what cancels.

Every part is in the units of the margin, with the sign of its effect on it: what raises the reward of the rejected
response is negative. Parts of one kind cover every token once, so that they add up to the margin.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from prefscope.preference.sentences import sentence_bounds, text_end

Side: TypeAlias = Literal["chosen", "rejected"]
SIDES: tuple[Side, ...] = get_args(Side)
RegionName: TypeAlias = Literal["shared beginning", "first difference", "middle", "shared ending", "end token"]
REGIONS: tuple[RegionName, ...] = get_args(RegionName)
Values: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class RewardRule:
    """How the log-probs of a response become its reward.

    With a reference, a token gives beta × (log π − log ref), without one beta × log π. The reward is their sum, or
    their mean if `per_token`.
    """

    beta: float = 0.1
    per_token: bool = False


@dataclass(frozen=True, eq=False, slots=True)
class ScoredResponse:
    """A response with the log-probs of its tokens, in nats."""

    text: str
    """The response, without what a chat template appends to it."""
    tokens: Sequence[str]
    policy_logps: Values
    ref_logps: Values | None = None
    """None without a reference."""

    def terms(self, rule: RewardRule) -> Values:
        """Return what each token adds to the reward. Shape (tokens,)."""
        with np.errstate(invalid="ignore"):
            values = self.policy_logps if self.ref_logps is None else self.policy_logps - self.ref_logps
            return values * (rule.beta / max(len(values), 1) if rule.per_token else rule.beta)


@dataclass(frozen=True, slots=True)
class Span:
    """Consecutive tokens of one response."""

    side: Side
    start: int
    stop: int
    """One after the last token; equal to `start` if there is none."""


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence of a response, or the tokens that follow its text."""

    span: Span
    number: int | None
    """1 for the first sentence of its response; None for the end token, with what the template puts after it."""
    text: str
    """The tokens as text, not escaped."""
    effect: float


@dataclass(frozen=True, slots=True)
class Region:
    """A part of both responses, by how far they agree."""

    name: RegionName
    spans: tuple[Span, Span]
    """The tokens of the chosen and of the rejected response."""
    effect: float


@dataclass(frozen=True, slots=True)
class LengthPart:
    """How much of a margin is due to the number of tokens.

    Definition: A reward is n·m, with n tokens of m each on average. With Δ = chosen − rejected and the mean of both
    responses written ¯, the margin n₁m₁ − n₂m₂ equals n̄·Δm + m̄·Δn exactly. `by_count` is m̄·Δn: what the margin would be
    if all tokens were worth m̄. `by_mean` is n̄·Δm: what it would be if both responses had n̄ tokens. Exchanging the
    responses negates both. A reward per token has no part by count.
    """

    chosen_tokens: int
    rejected_tokens: int
    mean: float
    """m̄, the reward of a token, averaged over the two responses."""
    by_count: float
    by_mean: float


@dataclass(frozen=True, slots=True)
class TokenParts:
    """A margin divided by its tokens."""

    plus: float
    """Sum of the effects above 0."""
    minus: float
    """Sum of the effects below 0."""
    regions: tuple[Region, ...]
    """One of each name, in the order of `REGIONS`."""
    sentences: tuple[Sentence, ...]
    """The sentences of the chosen response in order, its end token, and those of the rejected one."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """What the margin of a pair is made of."""

    rule: RewardRule
    has_reference: bool
    margin: float
    chosen_reward: float
    rejected_reward: float
    length: LengthPart | None
    """None if the numbers of tokens are unknown."""
    parts: TokenParts | None
    """None without log-probs of the tokens."""


def explain_tokens(chosen: ScoredResponse, rejected: ScoredResponse, rule: RewardRule) -> Explanation | None:
    """Explain a pair by its tokens; None if a log-prob is not finite.

    The margin is the sum of the terms of all tokens. Sentences, regions, `plus` and `minus`, and `by_count` and
    `by_mean` each add up to it, but for the last bits of a float.
    """
    terms = {"chosen": chosen.terms(rule), "rejected": -rejected.terms(rule)}
    together = np.concatenate([*terms.values()])
    if not np.isfinite(together).all():
        return None
    responses: dict[Side, ScoredResponse] = {"chosen": chosen, "rejected": rejected}
    ends = {side: text_end(one.tokens, one.text) for side, one in responses.items()}
    sentences = [
        one for side, response in responses.items() for one in _sentences(side, response, ends[side], terms[side])
    ]
    parts = TokenParts(
        plus=math.fsum(together[together > 0]),
        minus=math.fsum(together[together < 0]),
        regions=_regions(chosen.tokens, rejected.tokens, ends, terms),
        sentences=tuple(sentences),
    )
    rewards = math.fsum(terms["chosen"]), -math.fsum(terms["rejected"])
    length = _length(rewards, (len(chosen.tokens), len(rejected.tokens)), rule)
    return Explanation(rule, chosen.ref_logps is not None, math.fsum(together), *rewards, length, parts)


def explain_sums(
    rewards: tuple[float, float], num_tokens: tuple[int, int] | None, rule: RewardRule, *, has_reference: bool
) -> Explanation | None:
    """Explain a pair by its rewards alone, as far as that goes; None if one of them is not finite.

    Args:
        rewards: Rewards of the chosen and of the rejected response.
        num_tokens: Their numbers of tokens, None if unknown.
        rule: How the rewards were computed.
        has_reference: Whether they are relative to a reference.
    """
    if not all(map(math.isfinite, rewards)):
        return None
    length = None if num_tokens is None else _length(rewards, num_tokens, rule)
    return Explanation(rule, has_reference, rewards[0] - rewards[1], *rewards, length, None)


def _sentences(side: Side, response: ScoredResponse, end: int, terms: Values) -> list[Sentence]:
    """Return the sentences of a response, followed by its end token if there is one."""
    bounds: list[tuple[int | None, int, int]] = [
        (number, *bound) for number, bound in enumerate(sentence_bounds(response.tokens[:end]), start=1)
    ]
    if end < len(response.tokens):
        bounds.append((None, end, len(response.tokens)))
    return [
        Sentence(Span(side, start, stop), number, "".join(response.tokens[start:stop]), math.fsum(terms[start:stop]))
        for number, start, stop in bounds
    ]


def _regions(
    chosen: Sequence[str], rejected: Sequence[str], ends: dict[Side, int], terms: dict[str, Values]
) -> tuple[Region, ...]:
    """Return the regions of two responses; both are cut at the same five places."""
    texts = chosen[: ends["chosen"]], rejected[: ends["rejected"]]
    shortest = min(map(len, texts))
    start = shared_length(*texts)
    ending = min(shared_length(texts[0][::-1], texts[1][::-1]), shortest - start)
    cuts = [
        [0, start, min(start + 1, len(text) - ending), len(text) - ending, len(text), len(tokens)]
        for text, tokens in zip(texts, (chosen, rejected), strict=True)
    ]
    regions = []
    for at, name in enumerate(REGIONS):
        spans = tuple(Span(side, cut[at], cut[at + 1]) for side, cut in zip(SIDES, cuts, strict=True))
        effect = math.fsum(value for one in spans for value in terms[one.side][one.start : one.stop])
        regions.append(Region(name, (spans[0], spans[1]), effect))
    return tuple(regions)


def shared_length(tokens: Sequence[str], others: Sequence[str]) -> int:
    """Return the number of tokens that two lists begin with alike.

    >>> shared_length(["a", "b", "c"], ["a", "b", "d", "c"])
    2
    """
    differ = (at for at, (one, other) in enumerate(zip(tokens, others, strict=False)) if one != other)
    return next(differ, min(len(tokens), len(others)))


def _length(rewards: tuple[float, float], num_tokens: tuple[int, int], rule: RewardRule) -> LengthPart:
    counts = (1, 1) if rule.per_token else num_tokens
    means = [reward / count if count else 0.0 for reward, count in zip(rewards, counts, strict=True)]
    mean = math.fsum(means) / 2
    by_count = mean * (counts[0] - counts[1])
    return LengthPart(*num_tokens, mean=mean, by_count=by_count, by_mean=rewards[0] - rewards[1] - by_count)
