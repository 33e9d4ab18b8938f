"""Columns that tell of each pair what a diagnosis says of it; what is taken over all pairs, over all of the file."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from prefscope.ledger.columns import DIAGNOSED, NUM_TOKENS
from prefscope.ledger.table import Ledger
from prefscope.preference.diagnostics import assumed_noise, flip_posteriors, quadrants, residual_margins
from prefscope.settings import PreferenceSettings

DIAGNOSED_NAMES = frozenset(column.name for column in DIAGNOSED)


def diagnosed(ledger: Ledger, name: str, preferences: PreferenceSettings) -> NDArray[Any]:
    """Return one of the columns of the diagnosis, a value a pair; nan or "" where a log-prob is not finite.

    Raises:
        KeyError: There is no such column, or the ledger has no reference.
    """
    if name == "quadrant":
        derived = ledger.rewards(preferences.beta)
        return quadrants(derived["chosen_logratios"], derived["rejected_logratios"]).astype(object)
    compute = {"flip_posterior": _flip_posteriors, "residual_margins": _residual_margins}[name]
    return ledger.over_whole(lambda whole: compute(whole, preferences))


def _flip_posteriors(ledger: Ledger, preferences: PreferenceSettings) -> NDArray[np.float64]:
    margins = ledger.rewards(preferences.beta)["margins"]
    return flip_posteriors(margins, assumed_noise(margins))


def _residual_margins(ledger: Ledger, preferences: PreferenceSettings) -> NDArray[np.float64]:
    counts = (ledger.stored[name] for name in NUM_TOKENS)
    known = (np.where(one < 0, np.nan, one) for one in counts)
    return residual_margins(ledger.rewards(preferences.beta)["margins"], *known)
