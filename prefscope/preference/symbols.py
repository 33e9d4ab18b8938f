"""Formulas in the symbols of the papers, called with the ledger's columns.

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
from collections.abc import Callable, Mapping, Sequence

from prefscope.preference.arrays import Array, elementwise

COLUMNS = (
    "policy_chosen_logps",
    "policy_rejected_logps",
    "ref_chosen_logps",
    "ref_rejected_logps",
    "chosen_num_tokens",
    "rejected_num_tokens",
    "policy_chosen_tail_logps",
    "policy_rejected_tail_logps",
    "ref_chosen_tail_logps",
    "ref_rejected_tail_logps",
    "policy_chosen_collision_logps",
    "policy_rejected_collision_logps",
)
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


def symbols_of(formula: Callable[..., Array]) -> list[str]:
    """Return the symbols that a formula takes: its arguments without a default."""
    parameters = inspect.signature(formula).parameters.values()
    return [parameter.name for parameter in parameters if parameter.default is parameter.empty]


def columns_of(symbols: Sequence[str]) -> tuple[str, ...]:
    """Return the columns that some symbols are made of, in the ledger's order."""
    needed = {column for symbol in symbols for column in SYMBOLS[symbol]}
    return tuple(column for column in COLUMNS if column in needed)


def of_columns(formula: Callable[..., Array], columns: Sequence[str]) -> Callable[..., Array]:
    """Return a formula in symbols as a function of columns and of its own parameters.

    Args:
        formula: Takes symbols, then parameters with defaults.
        columns: Of at least its symbols; the first arguments of the function, in their order.
    """
    symbols = symbols_of(formula)
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    knobs = [parameter for parameter in inspect.signature(formula).parameters.values() if parameter.name not in symbols]
    arguments = [inspect.Parameter(column, kind, annotation=Array) for column in columns]
    signature = inspect.Signature([*arguments, *knobs], return_annotation=Array)

    @functools.wraps(formula)
    def function(*args: Array, **kwargs: Array) -> Array:
        given = signature.bind(*args, **kwargs).arguments
        values = []
        for symbol in symbols:
            first, *subtracted = (given[column] for column in SYMBOLS[symbol])
            values.append(first - subtracted[0] if subtracted else first)
        return formula(*values, **{name: value for name, value in given.items() if name not in columns})

    function.__signature__ = signature  # type: ignore[attr-defined]  # as inspect looks for it
    return elementwise(function)
