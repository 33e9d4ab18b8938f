"""Ranking accuracy: whether the policy's own log-probs prefer the chosen response, compared with its rewards."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prefscope.preference.diagnostics.diagnostic import CHANCE, NOTHING, Conclusion, Diagnostic, Values
from prefscope.statistics import mcnemar, wilson_interval

FAR = 0.1
"""Difference between reward accuracy and ranking accuracy above which a warning is shown."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """Shares of pairs that are ranked right, where ties count as wrong; nan if there are no pairs."""

    pairs: int
    """Number of pairs."""
    reward: float
    """Share of a > c."""
    policy: float
    """Share of p_w > p_l, by summed log-probs of the policy."""
    policy_normalised: float
    """Share of p_w/n_w > p_l/n_l, by mean log-probs per token."""
    ref: float
    """Share of q_w > q_l."""
    ref_normalised: float
    """Share of q_w/n_w > q_l/n_l."""
    disagree: float
    """Share of the pairs that rewards and the policy's mean log-probs per token rank differently."""
    policy_low: float
    policy_high: float
    """95% Wilson interval of `policy`."""
    p_value: float
    """Of McNemar's exact test, whether rewards and the policy's sums rank equally many pairs right."""

    def conclude(self) -> Conclusion:
        """Conclude whether a policy with the right rewards also prefers the chosen responses."""
        if not self.pairs:
            return NOTHING
        figure = f"policy {self.policy:.1%} ({100 * self.policy_low:.0f}–{100 * self.policy_high:.0f})"
        own = f"log-probs in {self.policy:.0%} ({self.policy_normalised:.0%} per token; reference {self.ref:.0%})"
        if self.reward - self.policy > FAR and self.p_value < 2 * CHANCE:
            sentence = (
                f"Rewards are right in {self.reward:.0%}, the policy's own {own}: "
                "better than the reference, but still often prefers the rejected response"
            )
            return Conclusion(figure, sentence, warns=True)
        return Conclusion(figure, f"The policy prefers chosen by its {own}, by its rewards in {self.reward:.0%}")


def ranking(
    policy_chosen_logps: Values,
    policy_rejected_logps: Values,
    ref_chosen_logps: Values,
    ref_rejected_logps: Values,
    chosen_num_tokens: Values,
    rejected_num_tokens: Values,
) -> Ranking:
    """Measure how many pairs policy, reference and rewards rank right, by sums and by means over tokens.

    Definition: policy 1[p_w > p_l], reference 1[q_w > q_l], reward 1[(p_w − q_w) > (p_l − q_l)].

    Args:
        policy_chosen_logps: p_w, sums over scored tokens, in nats; only finite values. Shape (pairs,).
        policy_rejected_logps: p_l.
        ref_chosen_logps: q_w.
        ref_rejected_logps: q_l.
        chosen_num_tokens: n_w; pairs with nan or 0 (unknown) are excluded from means over tokens.
        rejected_num_tokens: n_l.

    References:
        Chen et al. 2024, "Preference Learning Algorithms Do Not Learn Preference Rankings", arXiv 2405.19534.
    """
    p_w, p_l, q_w, q_l = policy_chosen_logps, policy_rejected_logps, ref_chosen_logps, ref_rejected_logps
    counted = (chosen_num_tokens > 0) & (rejected_num_tokens > 0)
    n_w, n_l = (np.where(counted, counts, np.nan) for counts in (chosen_num_tokens, rejected_num_tokens))
    reward, by_token = p_w - q_w > p_l - q_l, p_w / n_w > p_l / n_l
    own = p_w > p_l
    low, high = wilson_interval(int(np.count_nonzero(own)), own.size)
    return Ranking(
        pairs=p_w.size,
        reward=_share(reward),
        policy=_share(own),
        policy_normalised=_share(by_token[counted]),
        ref=_share(q_w > q_l),
        ref_normalised=_share((q_w / n_w > q_l / n_l)[counted]),
        disagree=_share((reward != by_token)[counted]),
        policy_low=low,
        policy_high=high,
        p_value=mcnemar(int(np.count_nonzero(reward & ~own)), int(np.count_nonzero(own & ~reward))),
    )


def _share(truths: NDArray[np.bool_]) -> float:
    return float(np.mean(truths)) if truths.size else math.nan


RANKING = Diagnostic(
    name="ranking",
    title="Ranking accuracy",
    formula="policy 1[p_w > p_l], reference 1[q_w > q_l], reward 1[a > c]; by sums, and by means over tokens",
    source="Chen et al. 2024, arXiv 2405.19534; reward against likelihood: SimPO, arXiv 2405.14734",
    rule=(
        f"a warning if the policy ranks over {100 * FAR:.0f} percentage points fewer pairs right than its rewards, "
        "beyond chance (McNemar's exact test at the 5% level)"
    ),
    basis=(
        "a convention; Chen et al. 2024 find ranking accuracies below 60% behind high reward accuracies; simulation "
        '"ranking"'
    ),
    measure=ranking,
)
