"""The interface of a diagnostic: a formula over all pairs, and a conclusion from its figures."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Values: TypeAlias = NDArray[np.float64]
"""One number per pair. Shape (pairs,)."""


@dataclass(frozen=True, slots=True)
class Conclusion:
    """The conclusion from the figures of a diagnostic."""

    figure: str
    """The most important number, in a few words."""
    sentence: str
    """What the figures mean for these pairs, without a full stop."""
    warns: bool = False
    """Whether it is a warning, by the rule of the diagnostic."""


CHANCE = 0.025
"""A rule about a share warns only if a share of no effect gives such a count in fewer cases than this: the exact
one-sided test that belongs to a 95% interval."""
NOTHING = Conclusion("–", "Not enough data")


class Figures(Protocol):
    """The numbers of a diagnostic: a frozen dataclass."""

    def conclude(self) -> Conclusion:
        """Return the conclusion from these numbers."""


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """A diagnostic that screens, reports and docs show."""

    name: str
    title: str
    formula: str
    source: str
    """The paper, or `derived` if the formula is prefscope's own."""
    rule: str
    """The thresholds of the conclusion."""
    basis: str
    """Where the thresholds come from, and the simulations (tests/benchmarks/power.py) that test them."""
    measure: Callable[..., Figures]
    """Function of an array per name in `inputs`, and of parameters by keyword."""
    dispute: str = ""
    """Where papers disagree."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """The required columns: the arguments of `measure` without a default."""
        parameters = inspect.signature(self.measure).parameters.values()
        return tuple(one.name for one in parameters if one.default is one.empty)
