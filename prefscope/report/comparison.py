"""Two runs compared pair by pair: the difference b − a of every mean with its paired interval, and who is right where.

A pair is right if its margin is above 0, as in the accuracy. A tie is not right, but it is not called wrong either: the
quadrants are right in both, in one only, and in neither, so that they add up to the accuracies.
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
from prefscope.statistics import mcnemar, normal_bounds, paired_shares_bounds

Quadrant: TypeAlias = Literal["only_b", "both", "neither", "only_a"]
Values: TypeAlias = NDArray[np.float64]
Bounds: TypeAlias = Callable[[Values], tuple[float, float]]
QUADRANTS: Mapping[Quadrant, str] = {
    "only_b": "only B right",
    "both": "both right",
    "neither": "neither right",
    "only_a": "only A right",
}
"""In the order of a plot of b's margins against a's: upper left, upper right, lower left, lower right."""


@dataclass(frozen=True, slots=True)
class Paired:
    """The means of a quantity in two runs over the same pairs, and the mean of its differences b − a."""

    a: float
    b: float
    """The mean in each run."""
    difference: float
    """Mean of b − a over the pairs."""
    low: float
    high: float
    """Ends of the 95% interval of the difference; nan for fewer than two pairs."""

    @classmethod
    def of(cls, a: Values, b: Values, bounds: Bounds = normal_bounds) -> Paired:
        """Return the means of two arrays with a value per pair, over the pairs where both are finite.

        The interval is that of the mean of d = b − a. Whatever the pairs have in common cancels, so it is narrower than
        for two independent samples.

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

    @classmethod
    def of_shares(cls, a: NDArray[np.bool_], b: NDArray[np.bool_]) -> Paired:
        """Return the shares of true values in two arrays with a value per pair, with Newcombe's interval."""
        if not a.size:
            return cls(*[math.nan] * 5)
        counts = (int(np.count_nonzero(one)) for one in (a & b, ~a & b, a & ~b, ~a & ~b))
        shares = float(np.mean(a)), float(np.mean(b))
        return cls(*shares, shares[1] - shares[0], *paired_shares_bounds(*counts))


@dataclass(frozen=True, slots=True)
class Comparison:
    """A comparison of two runs over the shared pairs whose log-probs are finite in both."""

    pairs: int
    by_margin: bool
    """Whether both have a reference; otherwise log-probs per token are compared, chosen − rejected, in nats."""
    margins: tuple[Values, Values]
    """Of the compared pairs; without a reference, the differences of log-probs per token."""
    accuracy: Paired
    margin: Paired
    losses: Mapping[str, Paired]
    """The losses that can be computed from both ledgers."""
    length_bias: tuple[float, float]
    """Rank correlation of margin and difference in length, for a and b."""
    quadrants: Mapping[Quadrant, int]
    p_value: float
    """Of McNemar's exact test; the null hypothesis is that both rank equally many pairs right."""


def compare(view: PairedView, bounds: Bounds = normal_bounds) -> Comparison:
    """Return the comparison of a view's ledger, a, with the other one, b."""
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
        if not view.ledger.missing_input(choice.name) and not view.other.ledger.missing_input(choice.name)
    }
    quadrants = _count_quadrants(a > 0, b > 0)
    return Comparison(
        pairs=len(a),
        by_margin=by_margin,
        margins=(a, b),
        accuracy=Paired.of_shares(a > 0, b > 0),
        margin=Paired.of(a, b, bounds),
        losses=losses,
        length_bias=(rank_correlation(a, _longer(view)[first]), rank_correlation(b, _longer(view.other)[second])),
        quadrants=quadrants,
        p_value=mcnemar(quadrants["only_a"], quadrants["only_b"]),
    )


def cautions(view: PairedView, comparison: Comparison) -> list[str]:
    """Return what readers of a comparison should know, as sentences without full stops."""
    shared, (a_misses, b_misses) = view.pairing.num_pairs, view.pairing.missing
    if not shared:
        return ["A and B share no pair: score the same data set with both checkpoints"]
    fingerprints = [_reference(one.ledger) for one in (view, view.other)]
    first, second = view.pairing.positions
    unscored = int(np.count_nonzero(~(view.ledger.is_known[first] & view.other.ledger.is_known[second])))
    left_out = shared - comparison.pairs - unscored
    notes = {
        f"A is missing {a_misses:,} of B's pairs, B is missing {b_misses:,} of A's": bool(a_misses or b_misses),
        f"not scored yet by A or B: {unscored:,} of the shared pairs": bool(unscored),
        f"left out because a log-prob is not finite: {left_out:,} of the shared pairs": left_out > 0,
        "A or B has no reference: compared by log-prob per token, chosen − rejected": not comparison.by_margin,
        "the references differ; the margins of each run are relative to its own": (
            comparison.by_margin and None not in fingerprints and fingerprints[0] != fingerprints[1]
        ),
    }
    return [sentence for sentence, holds in notes.items() if holds] + prompt_cautions(view.ledger, view.other.ledger)


def _reference(ledger: Ledger) -> str | None:
    """Return the fingerprint of a ledger's reference model, or None if it is unknown."""
    fingerprint: str | None = ledger.manifest.get("models", {}).get("ref", {}).get("fingerprint")
    return fingerprint


def _margins(view: View, *, by_margin: bool) -> Values:
    """Return the margin of every pair, or the difference in log-prob per token."""
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
    """Return the filter expression for the pairs of a quadrant."""
    right = {"a": quadrant in {"only_a", "both"}, "b": quadrant in {"only_b", "both"}}
    margins = {"a": margin_expression(by_margin=by_margin), "b": margin_expression(SUFFIX, by_margin=by_margin)}
    return " and ".join(f"{margins[run]} {'>' if right[run] else '<='} 0" for run in margins)
