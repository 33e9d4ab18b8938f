"""Columns of alternatives for ledgers that tests write."""

from __future__ import annotations

from typing import Any

import numpy as np

from prefscope.ledger.columns import ALTERNATIVE_IDS, ALTERNATIVE_TEXTS

COUNT = 2
TEXTS = {7: " not", 9: " always"}
CHANCES = {"policy": ([7, 9], [0.41, 0.22], 3, 1.5), "ref": ([9, 7], [0.37, 0.05], 2, 2.25)}
"""Ids and probabilities of the top tokens, the token's rank and the entropy, at every token."""


def alternatives_of(chosen: int, rejected: int, *, has_reference: bool = True) -> dict[str, Any]:
    """Return the columns of a pair, with the same alternatives at every token.

    Args:
        chosen: Number of tokens of the chosen response.
        rejected: Number of tokens of the rejected response.
        has_reference: Whether the reference has alternatives, too.
    """
    columns: dict[str, Any] = {ALTERNATIVE_IDS: [*TEXTS], ALTERNATIVE_TEXTS: [*TEXTS.values()]}
    for role, (ids, chances, rank, entropy) in CHANCES.items():
        known = has_reference or role == "policy"
        for side, tokens in (("chosen", chosen), ("rejected", rejected)):
            values: dict[str, Any] = {
                "token_entropies": [entropy] * tokens,
                "token_ranks": [rank] * tokens,
                "top_ids": ids * tokens,
                "top_logps": np.log(chances * tokens).astype(np.float16),
            }
            columns |= {f"{role}_{side}_{name}": value if known else None for name, value in values.items()}
    return columns
