"""From which log-ratio on a token is coloured, on the screens and in report files."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

from prefscope.ledger.table import Ledger

SIDES = ("chosen", "rejected")
Steps: TypeAlias = tuple[float, float, float]
"""From which values on, in nats, a token is weakly, clearly and strongly coloured."""
LOGRATIO_STEPS: Steps = (0.25, 0.75, 1.5)
"""Of |Δ|, at most. A policy that moved less has lower ones, else nothing of it would be seen."""
LEAST_STEPS: Steps = (0.02, 0.05, 0.1)
"""Of |Δ|, at least: a policy that did not move has no colours."""
STEP_PERCENTILES = (80, 95, 99)


def logratio_steps(ledger: Ledger) -> Steps:
    """Return from which |Δ| on tokens of a ledger are coloured, by its first pairs."""
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
