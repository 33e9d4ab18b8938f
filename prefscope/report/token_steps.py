"""Log-ratio thresholds for the colours of tokens, on the screens and in report files."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

from prefscope.ledger.table import Ledger

SIDES = ("chosen", "rejected")
Steps: TypeAlias = tuple[float, float, float]
"""Thresholds in nats for weak, medium and strong colours."""
LOGRATIO_STEPS: Steps = (0.25, 0.75, 1.5)
"""Upper limits of the thresholds of |Δ|; they are lower for a policy that changed less."""
LEAST_STEPS: Steps = (0.02, 0.05, 0.1)
"""Lower limits of the thresholds of |Δ|, so that an unchanged policy has no colours."""
STEP_PERCENTILES = (80, 95, 99)


def logratio_steps(ledger: Ledger) -> Steps:
    """Return the thresholds of |Δ| for the tokens of a ledger, estimated from its first row group."""
    if not (ledger.has_reference and ledger.has_tokens):
        return LOGRATIO_STEPS
    names = [f"{role}_{side}_token_logps" for side in SIDES for role in ("policy", "ref")]
    group = next(ledger.read(names))
    values = {name: np.array([value for row in group[name] for value in row or ()], dtype=np.float64) for name in names}
    with np.errstate(invalid="ignore"):
        found = np.abs(np.concatenate([values[a] - values[b] for a, b in (names[:2], names[2:])]))
    found = found[np.isfinite(found)]
    if not found.size:
        return LOGRATIO_STEPS
    steps = np.clip(np.percentile(found, STEP_PERCENTILES), LEAST_STEPS, LOGRATIO_STEPS)
    weak, clear, strong = (float(f"{step:.2g}") for step in steps)
    return weak, clear, strong
