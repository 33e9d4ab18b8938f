"""Knobs: loss parameters that can be changed. Losses are recomputed from the ledger, without a model."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from prefscope.errors import UsageError
from prefscope.ledger.view import View
from prefscope.preference.registry import Parameter, find_loss, resolve_parameters
from prefscope.report.axes import nice_step
from prefscope.report.summary import finite_pairs
from prefscope.settings import PreferenceSettings

POINTS = 41
SAMPLED_PAIRS = 8_000
"""Approximate number of evenly spaced pairs that curves average in large ledgers, so that they respond at once."""
ROUND = (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0)
"""Stops of a logarithmic knob in each decade."""
STEPS_PER_RANGE = 50
LOWEST, HIGHEST = 0.03, 30.0
"""Widest span of a logarithmic knob, as multiples of the default."""
FARTHEST = 10.0
"""Widest span of a linear knob: the distance from the default."""


@dataclass(frozen=True, slots=True)
class Knob:
    """An adjustable parameter of one loss, or the beta shared by the rewards and all losses with a reference."""

    loss: str | None
    """Name of the loss; None for the shared beta."""
    parameter: Parameter

    @property
    def name(self) -> str:
        """Name of the knob on the screen."""
        return self.parameter.name if self.loss is None else f"{self.loss} {self.parameter.name}"

    @property
    def span(self) -> tuple[float, float]:
        """The lowest and highest value of the knob."""
        one = self.parameter
        if one.scale == "log":
            low, high = (float(f"{one.default * times:.6g}") for times in (LOWEST, HIGHEST))
            return max(one.low, low), min(one.high, high)
        return max(one.low, one.default - FARTHEST), min(one.high, one.default + FARTHEST)

    def value(self, preferences: PreferenceSettings) -> float:
        """Return the knob's current value."""
        if self.loss is None:
            return preferences.beta
        choice = next(choice for choice in preferences.losses if choice.name == self.loss)
        return resolve_parameters(choice, preferences)[self.parameter.name]

    def at(self, preferences: PreferenceSettings, value: float) -> PreferenceSettings:
        """Return the preferences with the knob set to a value."""
        if self.loss is None:
            return replace(preferences, beta=value)
        losses = tuple(
            replace(choice, parameters={**choice.parameters, self.parameter.name: value})
            if choice.name == self.loss
            else choice
            for choice in preferences.losses
        )
        return replace(preferences, losses=losses)

    def moved(self, preferences: PreferenceSettings, steps: int) -> PreferenceSettings:
        """Return the preferences with the knob moved by a number of stops, which are round values of its span."""
        stops, value = self.stops, self.value(preferences)
        near = np.isclose(stops, value, rtol=1e-9, atol=1e-12)
        below = int(np.count_nonzero((stops < value) & ~near))
        at = below + bool(near.any()) + steps - 1 if steps > 0 else below + steps
        stop = float(stops[min(max(at, 0), len(stops) - 1)])
        is_on_the_way = stop > value if steps > 0 else stop < value  # a typed value may lie outside the span
        return self.at(preferences, stop if steps and is_on_the_way else value)

    @property
    def stops(self) -> NDArray[np.float64]:
        """The values that steps land on, ascending: round numbers, and the ends of the span."""
        low, high = self.span
        if self.parameter.scale == "log":
            decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
            found = [float(f"{digits}e{decade}") for decade in decades for digits in ROUND]
        else:
            step = nice_step((high - low) / STEPS_PER_RANGE)
            found = [round(step * at, 12) for at in range(math.ceil(low / step), math.floor(high / step) + 1)]
        return np.unique([low, *(stop for stop in found if low < stop < high), high])

    def parsed(self, text: str) -> float:
        """Return the value that a user has typed.

        Raises:
            UsageError: If the text is not a number, or the loss is not defined for it.
        """
        one = self.parameter
        try:
            value = float(text.strip().replace("−", "-"))
        except ValueError:
            value = math.nan
        if not one.low <= value <= one.high:
            raise UsageError(
                f"{text.strip()!r} is not a value of {self.name}",
                hint=f"Type a number from {one.low:g} to {one.high:g}.",
            )
        return value

    def share(self, value: float) -> float:
        """Return a value's position in the span, from 0 to 1."""
        low, high = self.span
        if self.parameter.scale == "log":
            low, high, value = math.log(low), math.log(high), math.log(max(value, low))
        return min(max((value - low) / (high - low), 0.0), 1.0)

    def values(self) -> NDArray[np.float64]:
        """Return values across the span, evenly spaced on the knob's scale. Shape (POINTS,)."""
        low, high = self.span
        if self.parameter.scale == "log":
            return np.clip(np.logspace(math.log10(low), math.log10(high), POINTS), low, high)
        return np.linspace(low, high, POINTS)


def knobs(view: View) -> Iterator[Knob]:
    """Yield the knobs of the losses in a view, the shared beta first."""
    choices = view.ledger.usable_losses(view.preferences)
    shared = next((find_loss(choice.name) for choice in choices if find_loss(choice.name).needs_reference), None)
    if shared is not None:
        yield from (Knob(None, one) for one in shared.parameters if one.name == "beta")
    for choice in choices:
        loss = find_loss(choice.name)
        own = "beta" in choice.parameters or not loss.needs_reference
        yield from (Knob(loss.name, one) for one in loss.parameters if one.name != "beta" or own)


def mean_losses(view: View, name: str, knob: Knob) -> NDArray[np.float64]:
    """Return the mean of a loss at each of `knob.values()`, with all other knobs unchanged. Shape (POINTS,)."""
    finite = np.flatnonzero(finite_pairs(view.ledger))
    sample = finite[:: max(len(finite) // SAMPLED_PAIRS, 1)]
    loss = find_loss(name)
    inputs = [view.ledger.stored[column][sample] for column in loss.inputs]
    means = []
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        for value in knob.values():
            preferences = knob.at(view.preferences, float(value))
            choice = next(choice for choice in preferences.losses if choice.name == name)
            losses = np.asarray(loss.compute(*inputs, **resolve_parameters(choice, preferences)))
            known = losses[np.isfinite(losses)]
            means.append(float(known.mean()) if known.size else math.nan)
    return np.array(means)


def carried(weights: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Return how much of the total gradient weight the heaviest pairs carry, and the share of pairs that carry half.

    Args:
        weights: Gradient weight of each pair; non-finite weights are ignored.

    Returns:
        Cumulative shares of the total weight, heaviest pair first, shape (finite pairs,), and the share of pairs, from
            0 to 1, that carries half of it; an empty array and nan if the total is zero.
    """
    known = np.sort(np.abs(weights[np.isfinite(weights)]))[::-1]
    total = known.sum()
    if not total:
        return np.empty(0), math.nan
    shares = np.cumsum(known) / total
    return shares, float(np.searchsorted(shares, 0.5) + 1) / known.size
