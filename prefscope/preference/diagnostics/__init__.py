"""Diagnostics over all pairs, as pure functions of NumPy arrays.

Symbols are those of `preference/symbols.py`: a and c are the log-ratios of chosen and rejected, h = a − c, and the
margin is m = β·h. Every diagnostic has a formula, a source, a rule for warnings, and a conclusion that depends on its
figures; `DIAGNOSTICS` lists them in the order in which they are shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from prefscope.preference.diagnostics.calibration import CALIBRATION, best_beta, calibration
from prefscope.preference.diagnostics.concentration import CONCENTRATION, concentration, token_shares
from prefscope.preference.diagnostics.correlation import rank_correlation
from prefscope.preference.diagnostics.diagnostic import Conclusion, Diagnostic, Figures, Values
from prefscope.preference.diagnostics.displacement import DISPLACEMENT, displacement, quadrants
from prefscope.preference.diagnostics.flips import FLIPS, Flips, flips
from prefscope.preference.diagnostics.gradient import GRADIENT_WEIGHTS, gradient_weights
from prefscope.preference.diagnostics.label_noise import NoiseFit, fit_noise, flip_posteriors, suspicion
from prefscope.preference.diagnostics.length import LENGTH_BIAS, LengthBias, length_bias, residual_margins
from prefscope.preference.diagnostics.ranking import RANKING, ranking
from prefscope.preference.diagnostics.reference import REFERENCE, reference
from prefscope.preference.diagnostics.subsets import Subset, quantile_edges, subsets

__all__ = [
    "DIAGNOSTICS",
    "Conclusion",
    "Diagnostic",
    "Figures",
    "Flips",
    "LengthBias",
    "NoiseFit",
    "Subset",
    "Values",
    "best_beta",
    "calibration",
    "concentration",
    "displacement",
    "fit_noise",
    "flip_posteriors",
    "flips",
    "gradient_weights",
    "length_bias",
    "quadrants",
    "quantile_edges",
    "rank_correlation",
    "ranking",
    "reference",
    "residual_margins",
    "subsets",
    "suspicion",
    "token_shares",
]

DIAGNOSTICS: Mapping[str, Diagnostic] = MappingProxyType(
    {
        one.name: one
        for one in (
            REFERENCE,
            DISPLACEMENT,
            LENGTH_BIAS,
            RANKING,
            CALIBRATION,
            FLIPS,
            GRADIENT_WEIGHTS,
            CONCENTRATION,
        )
    }
)
"""All diagnostics by name."""
