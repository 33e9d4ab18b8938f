"""Two runs on the same pairs, compared pair by pair: b − a of every mean with its paired bound, and who changed sides.

A pair is right where its margin is above 0, as in the accuracy. A tie is not right, and it is not called wrong: the
quadrants are told as right in both, in one alone, in neither, and so they add up to the accuracies.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from prefscope.ledger.columns import NUM_TOKENS
from prefscope.ledger.names import SUFFIX
from prefscope.ledger.pairing import PairedView
from prefscope.ledger.table import Ledger
from prefscope.ledger.view import View
from prefscope.preference.diagnostics import rank_correlation
from prefscope.report.cards import margin_expression
from prefscope.report.prompts import prompt_cautions
from prefscope.report.summary import finite_pairs, mean_logps
from prefscope.statistics import normal_bounds

Quadrant: TypeAlias = Literal["only_b", "both", "neither", "only_a"]
Values: TypeAlias = NDArray[np.float64]
Bounds: TypeAlias = Callable[[Values], tuple[float, float]]
QUADRANTS: Mapping[Quadrant, str] = {
    "only_b": "only B right",
    "both": "both right",
    "neither": "neither right",
    "only_a": "only A right",
}
"""In the order of a plot of b's margins against a's: the upper two, then the lower two."""


@dataclass(frozen=True, slots=True)
class Paired:
    """The mean of a quantity in each of two runs over the same pairs, and of the pairs' differences b − a."""

    a: float
    b: float
    """The mean in each run."""
    difference: float
    """Mean of b − a over the pairs."""
    low: float
    high: float
    """Of the 95% interval of the difference; nan of fewer than two pairs."""

    @property
    def half(self) -> float:
        """Half the interval."""
        return (self.high - self.low) / 2

    @classmethod
    def of(cls, a: Values, b: Values, bounds: Bounds = normal_bounds) -> Paired:
        """Return the means of two arrays that have a value a pair, over the pairs in which both values are finite.

        The bounds are those of the mean of d = b − a: what the pairs have in common cancels, so they are narrower than
        those of two samples.

        References:
            Miller 2024, "Adding Error Bars to Evals", arXiv 2411.00640, on paired differences.

        >>> Paired.of(np.array([0.0, 1.0, 2.0]), np.array([1.0, 2.0, 6.0])).difference
        2.0
        """
        finite = np.isfinite(a) & np.isfinite(b)
        if not finite.any():
            return cls(*[math.nan] * 5)
        a, b = a[finite], b[finite]
        return cls(float(a.mean()), float(b.mean()), float((b - a).mean()), *bounds(b - a))


@dataclass(frozen=True, slots=True)
class Comparison:
    """What the shared pairs tell of two runs; all of it over the pairs whose log-probs are finite in both."""

    pairs: int
    by_margin: bool
    """Whether both have a reference; else log-probs a token are compared, chosen − rejected, in nats."""
    margins: tuple[Values, Values]
    """Of the pairs compared; what stands for them without a reference."""
    accuracy: Paired
    margin: Paired
    losses: Mapping[str, Paired]
    """Those that both ledgers can give."""
    length_bias: tuple[float, float]
    """Rank correlation of margin and difference in length."""
    quadrants: Mapping[Quadrant, int]
    p_value: float
    """Of McNemar's exact test that both rank equally many pairs right."""


def compare(view: PairedView, bounds: Bounds = normal_bounds) -> Comparison:
    """Return the comparison of a view's ledger, which is a, with the other one, which is b."""
    first, second = view.pairing.positions
    by_margin = view.ledger.has_reference and view.other.ledger.has_reference
    a, b = _margins(view, by_margin=by_margin)[first], _margins(view.other, by_margin=by_margin)[second]
    known = finite_pairs(view.ledger)[first] & finite_pairs(view.other.ledger)[second] & np.isfinite(a) & np.isfinite(b)
    first, second, a, b = first[known], second[known], a[known], b[known]
    losses = {
        choice.name: Paired.of(
            view.column(f"{choice.name}_loss")[first], view.other.column(f"{choice.name}_loss")[second], bounds
        )
        for choice in view.preferences.losses
        if not view.ledger.lack(choice.name) and not view.other.ledger.lack(choice.name)
    }
    quadrants = _count_quadrants(a > 0, b > 0)
    return Comparison(
        pairs=len(a),
        by_margin=by_margin,
        margins=(a, b),
        accuracy=Paired.of((a > 0).astype(np.float64), (b > 0).astype(np.float64), bounds),
        margin=Paired.of(a, b, bounds),
        losses=losses,
        length_bias=(rank_correlation(a, _longer(view)[first]), rank_correlation(b, _longer(view.other)[second])),
        quadrants=quadrants,
        p_value=mcnemar(quadrants["only_a"], quadrants["only_b"]),
    )


def cautions(view: PairedView, comparison: Comparison) -> list[str]:
    """Return what somebody who reads a comparison should know, a sentence without a full stop each."""
    shared, (a_lacks, b_lacks) = view.pairing.num_pairs, view.pairing.lacking
    if not shared:
        return ["A and B share no pair: score the same data set with both checkpoints"]
    fingerprints = [_reference(one.ledger) for one in (view, view.other)]
    told = {
        f"A lacks {a_lacks:,} of B's pairs, B lacks {b_lacks:,} of A's": bool(a_lacks or b_lacks),
        f"left out because a log-prob is no finite number: {shared - comparison.pairs:,} of the shared pairs": (
            shared > comparison.pairs
        ),
        "A or B has no reference: compared by log-prob a token, chosen − rejected": not comparison.by_margin,
        "the references differ, and each margin is against its own": (
            comparison.by_margin and None not in fingerprints and fingerprints[0] != fingerprints[1]
        ),
    }
    return [sentence for sentence, holds in told.items() if holds] + prompt_cautions(view.ledger, view.other.ledger)


def _reference(ledger: Ledger) -> str | None:
    """Return the fingerprint of a ledger's reference model, None where it is unknown."""
    fingerprint: str | None = ledger.manifest.get("models", {}).get("ref", {}).get("fingerprint")
    return fingerprint


def _margins(view: View, *, by_margin: bool) -> Values:
    """Return the margins of every pair, or what stands for them."""
    if by_margin:
        margins: Values = view.column("margins")
        return margins
    return mean_logps(view.ledger, "chosen") - mean_logps(view.ledger, "rejected")


def _longer(view: View) -> Values:
    """Return by how many tokens chosen is longer than rejected."""
    longer: Values = (view.column(NUM_TOKENS[0]) - view.column(NUM_TOKENS[1])).astype(np.float64)
    return longer


def _count_quadrants(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> dict[Quadrant, int]:
    masks: dict[Quadrant, NDArray[np.bool_]] = {"only_b": ~a & b, "both": a & b, "neither": ~a & ~b, "only_a": a & ~b}
    return {quadrant: int(np.count_nonzero(mask)) for quadrant, mask in masks.items()}


def quadrant_filter(quadrant: Quadrant, *, by_margin: bool) -> str:
    """Return the expression that finds the pairs of a quadrant in the view that was compared."""
    right = {"a": quadrant in {"only_a", "both"}, "b": quadrant in {"only_b", "both"}}
    margins = {"a": margin_expression(by_margin=by_margin), "b": margin_expression(SUFFIX, by_margin=by_margin)}
    return " and ".join(f"{margins[run]} {'>' if right[run] else '<='} 0" for run in margins)


def mcnemar(only_a: int, only_b: int) -> float:
    """Return the two-sided p-value of McNemar's exact test: how likely so uneven a split is if both are equally good.

    Only pairs that one of the two alone ranks right tell anything: under the null hypothesis each is a fair coin.

    References:
        McNemar 1947, "Note on the sampling error of the difference between correlated proportions or percentages",
        Psychometrika 12; exact with the binomial distribution.

    >>> round(mcnemar(1, 5), 5), mcnemar(0, 0)
    (0.21875, 1.0)
    """
    total = only_a + only_b
    steps = np.arange(1, min(only_a, only_b) + 1)
    logs = np.cumsum(np.append(-total * math.log(2), np.log((total - steps + 1) / steps)))
    return min(1.0, 2 * float(np.exp(logs).sum()))
