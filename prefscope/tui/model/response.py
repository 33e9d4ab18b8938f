"""One response as it was scored: its tokens with their log-probs, and which of them matter."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from prefscope.report.token_steps import LOGRATIO_STEPS, Steps
from prefscope.tui.model.token_lines import words

Side: TypeAlias = Literal["chosen", "rejected"]
SIDES: tuple[Side, ...] = get_args(Side)
Shown: TypeAlias = Literal["Δ", "log π", "log ref", "rank"]
SURPRISE_STEPS: Steps = (1.0, 3.0, 6.0)
"""Of −log p."""
STRONG_LOGRATIO, STRONG_SURPRISE = 1.5, 6.0
"""Beyond these nats a token is underlined."""
RANK_STEPS = (3, 10, 30)
"""Up to which rank a token is strongly, clearly and weakly coloured."""
STRONG = 3
TOP = 10
"""So many tokens are always among the extreme ones."""
MATCHING_LIMIT = 300_000
"""Comparing responses that have more pairs of equal tokens than this would take long: only their vocabularies are."""


@dataclass(frozen=True, eq=False)
class Response:
    """The tokens of one response; without tokens its words, which have no values."""

    side: Side
    tokens: list[str]
    policy_logps: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    ref_logps: NDArray[np.float64] | None = None

    @property
    def has_values(self) -> bool:
        """Whether every token has a log-prob."""
        return len(self.tokens) > 0 and len(self.policy_logps) == len(self.tokens)

    @property
    def choices(self) -> tuple[Shown, ...]:
        """What colours can tell of this response."""
        return get_args(Shown) if self.ref_logps is not None else ("log π", "rank")

    @functools.cached_property
    def logratios(self) -> NDArray[np.float64] | None:
        """Policy − reference log-prob of each token, in nats; None without a reference."""
        if self.ref_logps is None:
            return None
        with np.errstate(invalid="ignore"):
            return self.policy_logps - self.ref_logps

    @functools.cached_property
    def strengths(self) -> NDArray[np.float64]:
        """By what tokens are ranked: Δ, without a reference log π."""
        return self.policy_logps if self.logratios is None else self.logratios

    @functools.cached_property
    def ranks(self) -> NDArray[np.int64]:
        """Of each token by the size of its strength; 1 for the greatest, nan last."""
        size = np.where(np.isnan(self.strengths), -1.0, np.abs(self.strengths))
        ranks = np.empty(len(size), dtype=np.int64)
        ranks[np.argsort(-size, kind="stable")] = np.arange(1, len(size) + 1)
        return ranks

    @functools.cached_property
    def extremes(self) -> NDArray[np.int64]:
        """Indices of the strong tokens, at least of the first few by rank."""
        return np.flatnonzero((np.abs(self.strengths) > 0) & (self.is_strong | (self.ranks <= TOP)))

    @functools.cached_property
    def is_strong(self) -> NDArray[np.bool_]:
        """Whether each token moved strongly; without a reference, whether it surprised strongly."""
        return np.abs(self.strengths) > (STRONG_SURPRISE if self.logratios is None else STRONG_LOGRATIO)

    def levels(self, shown: Shown, logratio_steps: Steps = LOGRATIO_STEPS) -> NDArray[np.int8]:
        """Return how strongly each token is coloured: −3 to 3, negative for what the policy likes less."""
        values = {"log π": self.policy_logps, "log ref": self.ref_logps}.get(shown)
        if values is None:
            values = self.strengths
        if shown == "rank":
            sizes = STRONG - np.searchsorted(RANK_STEPS, self.ranks)
        else:
            steps = logratio_steps if shown == "Δ" else SURPRISE_STEPS
            sizes = np.searchsorted(steps, np.abs(values))
        signs = np.where(np.isnan(values), 0.0, np.sign(values))
        return (sizes * signs).astype(np.int8)


def read_response(pair: Mapping[str, Any], side: Side) -> Response:
    """Return a response of a row of the ledger; its text in words where no tokens are kept."""
    tokens, policy = pair.get(f"{side}_tokens"), pair.get(f"policy_{side}_token_logps")
    if not tokens or policy is None:
        return Response(side, words(pair[side]))
    ref = pair.get(f"ref_{side}_token_logps")
    return Response(
        side, tokens, np.array(policy, dtype=np.float64), None if ref is None else np.array(ref, np.float64)
    )


def differing(tokens: Sequence[str], others: Sequence[str]) -> NDArray[np.bool_]:
    """Return which tokens are not in the other response at that place; of long responses, which are nowhere in it."""
    counts = Counter(others)
    if sum(counts[token] for token in tokens) > MATCHING_LIMIT:
        return np.array([token not in counts for token in tokens], dtype=np.bool_)
    found = np.ones(len(tokens), dtype=np.bool_)
    for start, _, size in SequenceMatcher(None, tokens, others, autojunk=False).get_matching_blocks():
        found[start : start + size] = False
    return found


def margin_share(contributions: NDArray[np.float64]) -> tuple[int, float]:
    """Return how few tokens give at least half of a margin, and their share of it; (0, 0.0) for no margin.

    Tokens against the margin's sign take some of it back, so the share of few can be more than all.
    """
    finite = contributions[np.isfinite(contributions)]
    margin = float(finite.sum())
    if margin == 0:
        return 0, 0.0
    shares = np.cumsum(np.sort(finite / margin)[::-1])
    count = int(np.searchsorted(shares[: int(np.argmax(shares)) + 1], 0.5)) + 1
    return count, float(shares[count - 1])
