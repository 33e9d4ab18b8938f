"""One scored response: its tokens with their log-probs, and which of them stand out."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from prefscope.preference.explanation import Side
from prefscope.report.token_steps import EFFECT_SIGNS, Steps, effect_levels
from prefscope.tui.model.token_lines import words

Shown: TypeAlias = Literal["Δ", "log π", "log ref", "rank", "KL"]
SURPRISE_STEPS: Steps = (1.0, 3.0, 6.0)
"""Bounds of −log p, in nats, between the levels of colour."""
DIVERGENCE_STEPS: Steps = (0.05, 0.2, 1.0)
"""Bounds of KL(policy‖reference), in nats, between the levels of colour."""
STRONG_LOGRATIO, STRONG_SURPRISE = 1.5, 6.0
"""Nats above which the absolute log-ratio or, without a reference, log-prob of a token is strong (underlined)."""
RANK_STEPS = (3, 10, 30)
"""Ranks up to which tokens are coloured strongly, clearly and weakly."""
STRONG = 3
TOP = 10
"""The number of top-ranked tokens that always count as extreme."""
MATCHING_LIMIT = 300_000
"""Above this number of matching token pairs, responses are compared as sets of tokens: aligning them would be slow."""


@dataclass(frozen=True, eq=False)
class Response:
    """The tokens of one response, or its words (without log-probs) if the ledger has no tokens."""

    side: Side
    tokens: list[str]
    policy_logps: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    ref_logps: NDArray[np.float64] | None = None
    divergences: NDArray[np.float64] | None = None
    """KL(policy‖reference) at each token's position, in nats; None if it was not measured."""

    @property
    def has_values(self) -> bool:
        """Whether every token has a log-prob."""
        return len(self.tokens) > 0 and len(self.policy_logps) == len(self.tokens)

    @property
    def choices(self) -> tuple[Shown, ...]:
        """The values that colours can show for this response."""
        if self.ref_logps is None:
            return ("log π", "rank")
        every: tuple[Shown, ...] = get_args(Shown)
        return every if self.divergences is not None else every[:-1]

    @functools.cached_property
    def logratios(self) -> NDArray[np.float64] | None:
        """Policy − reference log-prob of each token, in nats; None without a reference."""
        if self.ref_logps is None:
            return None
        with np.errstate(invalid="ignore"):
            return self.policy_logps - self.ref_logps

    @functools.cached_property
    def strengths(self) -> NDArray[np.float64]:
        """The values that tokens are ranked by: log-ratios, or policy log-probs without a reference."""
        return self.policy_logps if self.logratios is None else self.logratios

    @functools.cached_property
    def ranks(self) -> NDArray[np.int64]:
        """Rank of each token by absolute strength; 1 is the greatest, nan ranks last."""
        size = np.where(np.isnan(self.strengths), -1.0, np.abs(self.strengths))
        ranks = np.empty(len(size), dtype=np.int64)
        ranks[np.argsort(-size, kind="stable")] = np.arange(1, len(size) + 1)
        return ranks

    @functools.cached_property
    def extremes(self) -> NDArray[np.int64]:
        """Indices of the extreme tokens: the strong ones and the top-ranked ones."""
        return np.flatnonzero((np.abs(self.strengths) > 0) & (self.is_strong | (self.ranks <= TOP)))

    @functools.cached_property
    def is_strong(self) -> NDArray[np.bool_]:
        """Whether each token's log-ratio (log-prob, without a reference) is above the threshold in absolute value."""
        return np.abs(self.strengths) > (STRONG_SURPRISE if self.logratios is None else STRONG_LOGRATIO)

    def levels(self, shown: Shown) -> NDArray[np.int8]:
        """Return the colour level of each token, −3 to 3.

        Levels of Δ and of ranks have the sign of the token's effect on the margin, the others are negative.
        """
        if shown == "KL" and self.divergences is not None:
            return -np.searchsorted(DIVERGENCE_STEPS, np.nan_to_num(self.divergences), side="right").astype(np.int8)
        values = {"log π": self.policy_logps, "log ref": self.ref_logps}.get(shown)
        if values is None and shown == "Δ":
            return effect_levels(self.side, self.strengths)
        if values is None:
            sizes = STRONG - np.searchsorted(RANK_STEPS, self.ranks)
            signs = np.sign(np.nan_to_num(self.strengths)) * EFFECT_SIGNS[self.side]
        else:
            sizes = np.searchsorted(SURPRISE_STEPS, np.abs(values))
            signs = np.sign(np.nan_to_num(values))
        levels: NDArray[np.int8] = (sizes * signs).astype(np.int8)
        return levels


def read_response(pair: Mapping[str, Any], side: Side) -> Response:
    """Return a response of a ledger row; split into words if the ledger has no tokens."""
    tokens, policy = pair.get(f"{side}_tokens"), pair.get(f"policy_{side}_token_logps")
    if not tokens or policy is None:
        return Response(side, words(pair[side]))
    ref = pair.get(f"ref_{side}_token_logps")
    divergences = pair.get(f"{side}_token_kl_policy_ref")
    arrays = (None if one is None else np.array(one, dtype=np.float64) for one in (ref, divergences))
    return Response(side, tokens, np.array(policy, dtype=np.float64), *arrays)


def differing(tokens: Sequence[str], others: Sequence[str]) -> NDArray[np.bool_]:
    """Return a mask of the tokens that are unmatched in an alignment with the other response.

    Very long responses are not aligned: the mask then has the tokens that do not occur in the other response at all.
    """
    counts = Counter(others)
    if sum(counts[token] for token in tokens) > MATCHING_LIMIT:
        return np.array([token not in counts for token in tokens], dtype=np.bool_)
    found = np.ones(len(tokens), dtype=np.bool_)
    for start, _, size in SequenceMatcher(None, tokens, others, autojunk=False).get_matching_blocks():
        found[start : start + size] = False
    return found
