"""Implicit rewards, margins and outcomes of preference pairs.

Everything here is unreduced: one value per pair, in the shape of the inputs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prefscope.preference.arrays import Array, elementwise


@elementwise
def implicit_reward(policy_logps: Array, ref_logps: Array, beta: float = 0.1) -> Array:
    """Compute the implicit reward of a policy, in beta × nats.

    Definition: r(x, y) = beta · (log π(y|x) − log ref(y|x)), without the term that only depends on the prompt.

    Args:
        policy_logps: Summed log-prob of the response under the policy, in nats. Any shape.
        ref_logps: The same under the reference. Same shape.
        beta: Strength of the KL penalty.

    Returns:
        One reward per response, in the shape of the inputs.

    References:
        Rafailov et al. 2023, "Direct Preference Optimization", arXiv 2305.18290, section 4 (eq. 5 rearranged).

    >>> implicit_reward(-10.0, -12.0, beta=0.1)
    0.2
    """
    return beta * (policy_logps - ref_logps)


def outcomes(margins: NDArray[np.float64]) -> NDArray[np.str_]:
    """Classify margins by their sign as `win`, `tie` or `loss`; nan gives an empty text.

    A tie is not a loss: if the policy equals the reference, every pair is a tie.
    """
    conditions = [margins > 0, margins == 0, margins < 0]
    return np.select(conditions, ["win", "tie", "loss"], default="")
