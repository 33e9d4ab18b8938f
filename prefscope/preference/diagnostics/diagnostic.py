"""What a diagnostic is: a formula over all pairs, and what a reader should conclude from its figures."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Values: TypeAlias = NDArray[np.float64]
"""One number a pair. Shape (pairs,)."""


@dataclass(frozen=True, slots=True)
class Conclusion:
    """What the figures of a diagnostic come to."""

    figure: str
    """The number that matters most, in a few words."""
    sentence: str
    """What it says of these pairs, without a full stop."""
    warns: bool = False
    """Whether something is to be looked at: by the diagnostic's own rule."""


NOTHING = Conclusion("–", "No pair has what it takes to tell")


class Figures(Protocol):
    """The numbers of a diagnostic: a frozen dataclass."""

    def conclude(self) -> Conclusion:
        """Return what a reader should conclude from these numbers."""


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """A diagnostic that screens, reports and docs show."""

    name: str
    title: str
    formula: str
    source: str
    """The paper, or `derived` where the formula is this program's own."""
    rule: str
    """By which thresholds the conclusion is chosen."""
    measure: Callable[..., Figures]
    """Takes a value a pair for each of `inputs`, then knobs by name."""
    dispute: str = ""
    """What papers disagree about."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns that it takes: the arguments of `measure` without a default."""
        parameters = inspect.signature(self.measure).parameters.values()
        return tuple(one.name for one in parameters if one.default is one.empty)
