"""prefscope: implicit rewards, margins and losses of preference pairs, pair by pair.

    >>> from prefscope import dpo_loss, implicit_reward
    >>> implicit_reward(-10.0, -12.0, beta=0.1)  # policy −10 nats, reference −12
    0.2
    >>> round(dpo_loss(-50.0, -60.0, -52.0, -58.0, beta=0.1), 6)
    0.513015

Names are imported when they are used: `import prefscope` loads neither torch nor pandas.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from prefscope.version import __version__

if TYPE_CHECKING:
    from prefscope.api import score
    from prefscope.folders import sample_data
    from prefscope.ledger.table import Ledger, load_ledger
    from prefscope.preference.losses import dpo_loss, ipo_azar_loss, ipo_loss, ipo_trl_loss, simpo_loss
    from prefscope.preference.rewards import implicit_reward
    from prefscope.scoring.logps import sequence_log_prob

__all__ = [
    "Ledger",
    "__version__",
    "dpo_loss",
    "implicit_reward",
    "ipo_azar_loss",
    "ipo_loss",
    "ipo_trl_loss",
    "load_ledger",
    "sample_data",
    "score",
    "sequence_log_prob",
    "simpo_loss",
]

_HOMES = {
    "Ledger": "prefscope.ledger.table",
    "dpo_loss": "prefscope.preference.losses",
    "implicit_reward": "prefscope.preference.rewards",
    "ipo_azar_loss": "prefscope.preference.losses",
    "ipo_loss": "prefscope.preference.losses",
    "ipo_trl_loss": "prefscope.preference.losses",
    "load_ledger": "prefscope.ledger.table",
    "sample_data": "prefscope.folders",
    "score": "prefscope.api",
    "sequence_log_prob": "prefscope.scoring.logps",
    "simpo_loss": "prefscope.preference.losses",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'prefscope' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
