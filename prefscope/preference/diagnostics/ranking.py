"""Ranking accuracy: whether the policy itself prefers the chosen response, beside whether its reward does."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prefscope.preference.diagnostics.diagnostic import NOTHING, Conclusion, Diagnostic, Values

FAR = 0.1
"""So much below the reward accuracy the ranking accuracy is worth a warning."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """Shares of the pairs that are ranked right, a tie not counted as right; nan where nothing tells."""

    pairs: int
    """All that were looked at."""
    reward: float
    """Share of a > c."""
    policy: float
    """Share of p_w > p_l: by the summed log-prob under the policy."""
    policy_normalised: float
    """Share of p_w/n_w > p_l/n_l: by the log-prob a token."""
    ref: float
    """Share of q_w > q_l."""
    ref_normalised: float
    """Share of q_w/n_w > q_l/n_l."""
    disagree: float
    """Share of the pairs that reward and the policy's log-prob a token rank differently."""

    def conclude(self) -> Conclusion:
        """Return whether a right reward means a policy that prefers the chosen response."""
        if not self.pairs:
            return NOTHING
        figure = f"policy {self.policy:.1%}, reference {self.ref:.1%}"
        own = f"by its own log-prob in {self.policy:.0%} ({self.policy_normalised:.0%} by the token)"
        if self.reward - self.policy > FAR:
            told = f"The reward is right in {self.reward:.0%}, the policy {own}: ahead of the reference is not ahead"
            return Conclusion(figure, told, warns=True)
        return Conclusion(figure, f"The policy prefers chosen {own}; its reward in {self.reward:.0%}")


def ranking(
    policy_chosen_logps: Values,
    policy_rejected_logps: Values,
    ref_chosen_logps: Values,
    ref_rejected_logps: Values,
    chosen_num_tokens: Values,
    rejected_num_tokens: Values,
) -> Ranking:
    """Return how many pairs policy, reference and reward rank right, by sums and by means over tokens.

    Definition: policy 1[p_w > p_l], reference 1[q_w > q_l], reward 1[(p_w − q_w) > (p_l − q_l)].

    Args:
        policy_chosen_logps: p_w, sums over scored tokens, in nats; only finite values. Shape (pairs,).
        policy_rejected_logps: p_l.
        ref_chosen_logps: q_w.
        ref_rejected_logps: q_l.
        chosen_num_tokens: n_w; nan or 0 where unknown, and left out of what needs it.
        rejected_num_tokens: n_l.

    References:
        Chen et al. 2024, "Preference Learning Algorithms Do Not Learn Preference Rankings", arXiv 2405.19534.
    """
    p_w, p_l, q_w, q_l = policy_chosen_logps, policy_rejected_logps, ref_chosen_logps, ref_rejected_logps
    counted = (chosen_num_tokens > 0) & (rejected_num_tokens > 0)
    n_w, n_l = (np.where(counted, counts, np.nan) for counts in (chosen_num_tokens, rejected_num_tokens))
    reward, by_token = p_w - q_w > p_l - q_l, p_w / n_w > p_l / n_l
    return Ranking(
        pairs=p_w.size,
        reward=_share(reward),
        policy=_share(p_w > p_l),
        policy_normalised=_share(by_token[counted]),
        ref=_share(q_w > q_l),
        ref_normalised=_share((q_w / n_w > q_l / n_l)[counted]),
        disagree=_share((reward != by_token)[counted]),
    )


def _share(truths: NDArray[np.bool_]) -> float:
    return float(np.mean(truths)) if truths.size else math.nan


RANKING = Diagnostic(
    name="ranking",
    title="Ranking accuracy",
    formula="policy 1[p_w > p_l], reference 1[q_w > q_l], reward 1[a > c]; by sums, and by means over tokens",
    source="Chen et al. 2024, arXiv 2405.19534; reward against likelihood: SimPO, arXiv 2405.14734",
    rule=f"a warning where the policy ranks more than {100 * FAR:.0f} points fewer pairs right than its rewards",
    measure=ranking,
)
