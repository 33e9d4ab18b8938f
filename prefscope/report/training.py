"""The figures of a training, checkpoint by checkpoint, each with its 95% interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prefscope.errors import UsageError
from prefscope.ledger.columns import NUM_TOKENS
from prefscope.ledger.view import View
from prefscope.preference.arrays import softplus_neg
from prefscope.preference.diagnostics import rank_correlation
from prefscope.report.summary import finite_pairs
from prefscope.statistics import Z_95, normal_bounds, wilson_interval

SETTLED_LOSS = 0.05
"""A DPO loss below this gives less than 5% of the gradient that it gave at the start of the training."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure and the ends of its 95% interval; nan where it does not exist."""

    value: float
    """The figure."""
    low: float
    high: float
    """Ends of its 95% interval."""

    def difference(self, earlier: Estimate) -> Estimate:
        """Return this minus an earlier figure, as of independent samples.

        The same pairs are scored at every step, so the interval is wider than it had to be.
        """
        change = self.value - earlier.value
        below = math.hypot(self.value - self.low, earlier.high - earlier.value)
        above = math.hypot(self.high - self.value, earlier.value - earlier.low)
        return Estimate(change, change - below, change + above)


@dataclass(frozen=True, slots=True)
class StepFigures:
    """The figures of one checkpoint, over the pairs with finite log-probs."""

    step: int
    """Optimiser steps, or epochs where a trainer counts only these."""
    pairs: int
    """Pairs that are counted."""
    left_out: int
    """Scored pairs whose log-probs are not finite."""
    accuracy: Estimate
    """Share of margins above 0, with Wilson's interval."""
    margin: Estimate
    """Mean m, in beta·nats; the intervals of means are 1.96 standard errors wide on either side."""
    chosen: Estimate
    rejected: Estimate
    """Mean rewards, in beta·nats."""
    loss: Estimate
    """Mean of the first loss that is shown."""
    length: Estimate
    """Rank correlation of the margin with the difference in length, by Fisher's transformation."""
    settled: Estimate
    """The share of pairs with a DPO loss below 0.05, with Wilson's interval."""

    def to_json(self) -> dict[str, Any]:
        """Return the figures as JSON values."""
        return asdict(self)


NAMES = {"accuracy": "accuracy", "margin": "margin", "chosen": "chosen", "rejected": "rejected", "loss": "loss"}
"""The figures that are drawn against the step, with their names."""


def step_figures(view: View, step: int, chosen: NDArray[np.bool_] | None = None) -> StepFigures:
    """Return the figures of a ledger with a reference.

    Args:
        view: The ledger of the checkpoint.
        step: Its step.
        chosen: Which pairs to count; None for all. Shape (num_pairs,).
    """
    finite = finite_pairs(view.ledger)
    wanted = np.ones_like(finite) if chosen is None else chosen
    kept = finite & wanted
    margins = view.column("margins")[kept]
    settled: NDArray[np.bool_] = softplus_neg(margins) < SETTLED_LOSS
    longer = (view.column(NUM_TOKENS[0]) - view.column(NUM_TOKENS[1]))[kept].astype(np.float64)
    return StepFigures(
        step,
        int(kept.sum()),
        int(np.count_nonzero(wanted & view.ledger.is_known & ~finite)),
        accuracy=share(margins > 0),
        margin=mean(margins),
        chosen=mean(view.column("chosen_rewards")[kept]),
        rejected=mean(view.column("rejected_rewards")[kept]),
        loss=mean(_losses(view)[kept]),
        length=correlation(margins, longer),
        settled=share(settled),
    )


def loss_name(view: View) -> str:
    """Return the name of the loss in the figures; empty if none can be computed."""
    return next((choice.name for choice in view.ledger.usable_losses(view.preferences)), "")


def _losses(view: View) -> NDArray[np.float64]:
    name = loss_name(view)
    losses: NDArray[np.float64] = (
        view.column(f"{name}_loss") if name else np.full(view.ledger.num_pairs, np.nan, dtype=np.float64)
    )
    return losses


def share(holds: NDArray[np.bool_]) -> Estimate:
    """Return the share of pairs for which something holds."""
    count, total = int(np.count_nonzero(holds)), holds.size
    return Estimate(count / total if total else math.nan, *wilson_interval(count, total))


def mean(values: NDArray[np.float64]) -> Estimate:
    """Return the mean of finite values."""
    values = values[np.isfinite(values)]
    return Estimate(float(values.mean()) if values.size else math.nan, *normal_bounds(values))


def correlation(x: NDArray[np.float64], y: NDArray[np.float64]) -> Estimate:
    """Return Spearman's ρ with the interval tanh(artanh ρ ± 1.96 · √(1.06 / (n − 3))).

    References:
        Fieller, Hartley & Pearson 1957, "Tests for rank correlation coefficients", Biometrika 44, for the 1.06.
    """
    found, size = rank_correlation(x, y), int(np.count_nonzero(np.isfinite(x) & np.isfinite(y)))
    if math.isnan(found) or size < 4 or abs(found) == 1:  # noqa: PLR2004 (n − 3)
        return Estimate(found, math.nan, math.nan)
    centre, half = math.atanh(found), Z_95 * math.sqrt(1.06 / (size - 3))
    return Estimate(found, math.tanh(centre - half), math.tanh(centre + half))


@dataclass(frozen=True, slots=True)
class Training:
    """The figures of all checkpoints of a training, of all pairs and of each subset."""

    figures: tuple[StepFigures, ...]
    subsets: dict[str, tuple[StepFigures, ...]]
    """By the values of the column that the pairs were grouped by, the largest first; untrusted text."""
    loss: str
    """The name of the loss."""
    left_out: int = 0
    """Number of smaller subsets that are not followed."""

    def to_json(self) -> dict[str, Any]:
        """Return the figures of every step as JSON values."""
        groups = {name: [one.to_json() for one in figures] for name, figures in self.subsets.items()}
        steps = [one.to_json() for one in self.figures]
        return {"steps": steps, "subsets": groups, "subsets_left_out": self.left_out}

    def series(self, name: str) -> list[Estimate]:
        """Return one of the figures at every step."""
        return [getattr(one, name) for one in self.figures]


def training(views: Sequence[View], steps: Sequence[int], by: str = "") -> Training:
    """Return the figures of a training.

    Args:
        views: The ledgers of its checkpoints, in order; each needs a reference.
        steps: Their steps.
        by: A column of the data set to group the pairs by; empty for none.
    """
    figures = tuple(step_figures(view, step) for view, step in zip(views, steps, strict=True))
    groups, left_out = _subsets(views, steps, by) if by else ({}, 0)
    return Training(figures, groups, loss_name(views[-1]), left_out)


def _full_name(view: View, by: str) -> str:
    """Return the full name of a column.

    Raises:
        UsageError: The view has no such column.
    """
    name = view.names.full(by)
    if name is None:
        what, hint = view.names.problem(by)
        raise UsageError(f"{what} to group by" if by not in view.names.ambiguous else what, hint=hint)
    return name


MOST_SUBSETS = 20
"""So many of the largest subsets are followed; a plot shows fewer."""


def _subsets(views: Sequence[View], steps: Sequence[int], by: str) -> tuple[dict[str, tuple[StepFigures, ...]], int]:
    """Return the figures of the largest subsets, and the number of the others."""
    columns = [view.column(_full_name(view, by)).astype(str) for view in views]
    values, counts = np.unique(columns[-1], return_counts=True)
    largest = values[np.argsort(-counts, kind="stable")][:MOST_SUBSETS]
    followed = {
        str(value): tuple(
            step_figures(view, step, column == value) for view, step, column in zip(views, steps, columns, strict=True)
        )
        for value in largest.tolist()
    }
    return followed, len(values) - len(largest)
