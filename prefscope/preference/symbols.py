"""The symbols of the papers, in which formulas and gradient weights are written, and the ledger's columns behind them.

a, c      log-ratios (policy − reference) of chosen and rejected, in nats
p_w, p_l  log-probs of chosen and rejected under the policy, sums over scored tokens, in nats
q_w, q_l  the same under the reference
n_w, n_l  scored tokens of chosen and rejected
u, v      the parts of a and c that lie beyond the length of the shorter response
k_w, k_l  Σ over positions of log Σ over the vocabulary of π², for chosen and rejected: how sure the policy was
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
    "k_w": ("policy_chosen_collision_logps",),
    "k_l": ("policy_rejected_collision_logps",),
}
"""The columns of each symbol; of two, their difference."""


def with_arguments_of(loss: Callable[P, Array], weight: Callable[..., Array]) -> Callable[P, Array]:
    """Return a gradient weight, which is written in symbols, as a function of its loss's arguments.

    Args:
        loss: Takes columns of the ledger, then parameters with defaults.
        weight: Takes some symbols of those columns, then the parameters.
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

    function.__signature__ = signature  # type: ignore[attr-defined]  # as inspect looks for it
    return elementwise(function)
