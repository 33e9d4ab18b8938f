"""Key figures of a ledger with their confidence intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prefscope.ledger.columns import NUM_TOKENS
from prefscope.ledger.view import View
from prefscope.preference.diagnostics import rank_correlation
from prefscope.preference.noise import within_noise
from prefscope.report.summary import Outcomes, count_outcomes, finite_pairs, mean_logps
from prefscope.statistics import OF_RANKS, correlation_bounds, mean_interval, normal_bounds

LENGTH_BIAS = 0.3
"""Above this rank correlation, if its 95% interval excludes 0, length alone explains much of the margin."""
LOG_2 = math.log(2)
WIDTH = 17
"""Cells of a card in a terminal of 120 columns."""
ABSENT = "·"
"""Shown in place of a missing value."""


@dataclass(frozen=True, slots=True)
class Card:
    """A figure with its title and a detail; `warns` marks one that is bad beyond chance, by its 95% interval."""

    title: str
    value: str
    """The figure with its 95% interval: Wilson's for shares, ± half of it for means."""
    detail: str
    warns: bool = False
    expression: str = ""
    """Filter expression for the pairs that it is about; empty if there are none."""


def cards(view: View, rest: View | None = None) -> list[Card]:
    """Return the key figures over all pairs with finite log-probs.

    Args:
        view: The pairs.
        rest: Other pairs, whose figures become the details, for comparison.
    """
    found = _cards(view)
    if rest is None or not rest.ledger.num_pairs:
        return found
    others = (one.value.partition(" ")[0] for one in _cards(rest))
    return [replace(one, detail=f"rest {other}") for one, other in zip(found, others, strict=True)]


def _cards(view: View) -> list[Card]:
    finite = finite_pairs(view.ledger)
    found = _rewards(view, finite) if view.ledger.has_reference else _mean_logps(view, finite)
    return [*found, _length(view, finite)]


def _rewards(view: View, finite: NDArray[np.bool_]) -> list[Card]:
    margins, chosen, rejected = (
        _kept(view.column(name), finite) for name in ("margins", "chosen_rewards", "rejected_rewards")
    )
    outcomes = count_outcomes(margins)
    close, what = outcomes.tie, "tied"
    if measured := view.ledger.manifest.get("noise"):  # ties are within noise, too
        close, what = int(np.count_nonzero(within_noise(margins, measured["floor"], view.preferences.beta))), "noisy"
    wrong = f"{outcomes.loss:,} wrong"
    detail = f"{wrong}, {close:,} {what}" if close or measured else wrong
    losing = float(np.mean(chosen < 0)) if chosen.size else math.nan
    liked = float(np.mean(rejected > 0)) if rejected.size else math.nan
    return [
        Card(
            "accuracy",
            _share(outcomes.win_rate, outcomes),
            detail if len(detail) <= WIDTH else wrong,
            expression="margins < 0",
        ),
        Card(
            "margin",
            _figure(_mean(margins), "+.3f", _half(margins)),
            f"median {_figure(_quantile(margins, 0.5), '+.3f')}",
        ),
        _loss(view, finite),
        Card(
            "r chosen",
            _figure(_mean(chosen), "+.3f", _arrow(chosen)),
            f"{_figure(losing, '.0%')} below 0",
            mean_interval(chosen)[2] < 0,
            "chosen_rewards < 0",
        ),
        Card(
            "r rejected",
            _figure(_mean(rejected), "+.3f", _arrow(rejected)),
            f"{_figure(liked, '.0%')} above 0",
            expression="rejected_rewards > 0",
        ),
    ]


def _mean_logps(view: View, finite: NDArray[np.bool_]) -> list[Card]:
    """Return the figures of a ledger without a reference: log-probs per token, which SimPO compares."""
    chosen, rejected = (_kept(mean_logps(view.ledger, side), finite) for side in ("chosen", "rejected"))
    gaps = chosen - rejected
    ahead = float(np.mean(gaps > 0)) if gaps.size else math.nan
    return [
        Card(
            "chosen ahead",
            _share(ahead, count_outcomes(gaps)),
            "log-prob per token",
            expression=f"{margin_expression(by_margin=False)} < 0",
        ),
        Card("gap", _figure(_mean(gaps), "+.3f", _half(gaps)), "nats per token"),
        _loss(view, finite),
        Card("logp chosen", _figure(_mean(chosen), "+.3f"), "nats per token"),
        Card("logp rejected", _figure(_mean(rejected), "+.3f"), "nats per token"),
    ]


def sides(view: View) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return margin, chosen and rejected reward of every pair; without a reference, log-probs per token in nats."""
    if view.ledger.has_reference:
        return view.column("margins"), view.column("chosen_rewards"), view.column("rejected_rewards")
    chosen, rejected = (mean_logps(view.ledger, side) for side in ("chosen", "rejected"))
    return chosen - rejected, chosen, rejected


def mean_of(view: View, column: str) -> float:
    """Return the mean of a column over pairs where it and the log-probs are finite, or nan without such pairs."""
    values = view.column(column)
    return _mean(_kept(values, np.isfinite(values) & finite_pairs(view.ledger)))


def mean_and_half(view: View, column: str) -> tuple[float, float]:
    """Return `mean_of`, and half of its 95% interval; nan for fewer than two pairs."""
    values = view.column(column)
    low, high = normal_bounds(_kept(values, np.isfinite(values) & finite_pairs(view.ledger)))
    return mean_of(view, column), (high - low) / 2


def accuracy_of(view: View, *, with_interval: bool = True) -> str:
    """Return the share of pairs with a margin above 0, with Wilson's 95% interval in percent."""
    outcomes = count_outcomes(_kept(view.column("margins"), finite_pairs(view.ledger)))
    return _share(outcomes.win_rate, outcomes) if with_interval else _figure(outcomes.win_rate, ".1%")


def margin_expression(suffix: str = "", *, by_margin: bool) -> str:
    """Return the filter expression for the margin, or for the difference that `sides` returns without a reference."""
    if by_margin:
        return f"margins{suffix}"
    return " - ".join(side_expressions(suffix, by_margin=False))


def side_expressions(suffix: str = "", *, by_margin: bool) -> tuple[str, str]:
    """Return the filter expressions for the quantities of chosen and rejected that `sides` returns."""
    if by_margin:
        return f"chosen_rewards{suffix}", f"rejected_rewards{suffix}"
    chosen, rejected = (f"policy_{side}_logps{suffix} / {side}_num_tokens{suffix}" for side in ("chosen", "rejected"))
    return chosen, rejected


def _loss(view: View, finite: NDArray[np.bool_]) -> Card:
    """Return the card of the first loss that can be computed."""
    choices = view.ledger.usable_losses(view.preferences)
    if not choices:
        return Card("loss", "–", "not available")
    values = _kept(view.column(f"{choices[0].name}_loss"), finite)
    mean, is_dpo = _mean(values), choices[0].name == "dpo"
    detail = f"ln 2 is {LOG_2:.3f}" if is_dpo else f"p90 {_figure(_quantile(values, 0.9), '.3f')}"
    return Card(
        f"{choices[0].name} loss",
        _figure(mean, ".4f", _half(values)),
        detail,
        is_dpo and mean_interval(values)[1] > LOG_2,
    )


def _length(view: View, finite: NDArray[np.bool_]) -> Card:
    """Return the card of the rank correlation of margin and difference in length."""
    margins, _, _ = sides(view)
    longer = view.column(NUM_TOKENS[0]) - view.column(NUM_TOKENS[1])
    margins, longer = _kept(margins, finite), _kept(longer, finite)
    found = rank_correlation(margins, longer)
    if math.isnan(found):
        return Card("length bias ρ", ABSENT, "nothing to rank")
    low, high = correlation_bounds(found, int(np.isfinite(margins + longer).sum()), OF_RANKS)
    warns = abs(found) > LENGTH_BIAS and low * high > 0
    words = "rank correlation" if not warns else "longer wins" if found > 0 else "shorter wins"
    return Card("length bias ρ", f"{found:+.2f}", words, warns)


def _kept(values: NDArray[Any], wanted: NDArray[np.bool_]) -> NDArray[Any]:
    """Return the selected values, without a copy if all are."""
    return values if wanted.all() else values[wanted]


def _figure(value: float, form: str, after: str = "") -> str:
    """Format a value, or return `·` if it is missing."""
    return ABSENT if math.isnan(value) else f"{value:{form}}{after}"


def _share(share: float, outcomes: Outcomes) -> str:
    """Format a share of wins with Wilson's 95% interval, in percent."""
    return _figure(share, ".1%", f" ({100 * outcomes.low:.0f}–{100 * outcomes.high:.0f})")


def _mean(values: NDArray[Any]) -> float:
    return float(values.mean()) if values.size else math.nan


def _half(values: NDArray[Any]) -> str:
    """Return half of the 95% interval of a mean."""
    low, high = normal_bounds(values)
    return f" ±{(high - low) / 2:.3f}" if values.size > 1 else ""


def _quantile(values: NDArray[Any], share: float) -> float:
    return float(np.quantile(values, share)) if values.size else math.nan


def _arrow(values: NDArray[Any]) -> str:
    mean = _mean(values)
    return " ▲" if mean > 0 else " ▼" if mean < 0 else ""
