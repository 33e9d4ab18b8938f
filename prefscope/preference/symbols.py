"""The symbols used in formulas and gradient weights, as in the papers, and the ledger columns they stand for.

a, c      log-ratios (policy − reference) of chosen and rejected, in nats
p_w, p_l  log-probs of chosen and rejected under the policy, sums over scored tokens, in nats
q_w, q_l  the same under the reference
n_w, n_l  scored tokens of chosen and rejected
u, v      the parts of a and c from tokens beyond the length of the shorter response
d_w, d_l  Σ over positions of KL(reference‖policy), for chosen and rejected
k_w, k_l  Σ over positions of log Σ over the vocabulary of π², for chosen and rejected
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import ParamSpec

from prefscope.preference.arrays import Array, elementwise

P = ParamSpec("P")
SYMBOLS: Mapping[str, tuple[str, ...]] = {
    "a": ("policy_chosen_logps", "ref_chosen_logps"),
    "c": ("policy_rejected_logps", "ref_rejected_logps"),
    "p_w": ("policy_chosen_logps",),
    "p_l": ("policy_rejected_logps",),
    "q_w": ("ref_chosen_logps",),
    "q_l": ("ref_rejected_logps",),
    "n_w": ("chosen_num_tokens",),
    "n_l": ("rejected_num_tokens",),
    "u": ("policy_chosen_tail_logps", "ref_chosen_tail_logps"),
    "v": ("policy_rejected_tail_logps", "ref_rejected_tail_logps"),
    "d_w": ("chosen_kl_ref_policy",),
    "d_l": ("rejected_kl_ref_policy",),
    "k_w": ("policy_chosen_collision_logps",),
    "k_l": ("policy_rejected_collision_logps",),
}
"""The columns of each symbol; if there are two, the symbol is their difference."""


def with_arguments_of(loss: Callable[P, Array], weight: Callable[..., Array]) -> Callable[P, Array]:
    """Convert a gradient weight written in symbols to a function of its loss's arguments.

    Args:
        loss: Function of ledger columns and parameters with defaults.
        weight: Function of some symbols of those columns and of the parameters.
    """
    signature = inspect.signature(loss)
    names = inspect.signature(weight).parameters
    symbols = [name for name in names if name in SYMBOLS]
    knobs = [name for name in names if name not in SYMBOLS]

    @functools.wraps(weight)
    def function(*args: P.args, **kwargs: P.kwargs) -> Array:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        given = bound.arguments
        values = []
        for symbol in symbols:
            first, *subtracted = (given[column] for column in SYMBOLS[symbol])
            values.append(first - subtracted[0] if subtracted else first)
        return weight(*values, **{name: given[name] for name in knobs})

    function.__signature__ = signature  # type: ignore[attr-defined]  # for inspect.signature
    return elementwise(function)
