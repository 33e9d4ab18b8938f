"""Summary of a ledger: TRL's metrics, spread, outcomes, flags and the worst-ranked pairs."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prefscope.flags import split_flags
from prefscope.ledger.arrays import Columns
from prefscope.ledger.columns import LOGPS, NUM_TOKENS, POLICY_LOGPS
from prefscope.ledger.table import Ledger
from prefscope.preference.noise import within_noise
from prefscope.preference.registry import find_loss, resolve_parameters
from prefscope.settings import LossChoice, PreferenceSettings
from prefscope.statistics import wilson_interval

JSON_SCHEMA = 1
WORST_PAIRS = 10
FAR_QUANTILE = 0.99


@dataclass(frozen=True, slots=True)
class Spread:
    """Distribution of a quantity over the pairs where it and the log-probs are finite."""

    mean: float
    """The value that a trainer logs."""
    median: float
    """Half of the pairs lie below it."""
    q1: float
    q3: float
    """First and third quartile, interpolated linearly: the interquartile range."""

    @classmethod
    def of(cls, values: NDArray[Any]) -> Spread:
        """Return the spread of an array; all nan without finite values."""
        finite = np.asarray(values, dtype=np.float64)
        finite = finite[np.isfinite(finite)]
        if finite.size == 0:
            return cls(math.nan, math.nan, math.nan, math.nan)
        q1, median, q3 = np.quantile(finite, [0.25, 0.5, 0.75])
        return cls(float(finite.mean()), float(median), float(q1), float(q3))


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Counts of wins, ties and losses, with a 95% interval of the win rate."""

    win: int
    """Pairs with a margin above 0."""
    tie: int
    """Pairs with a margin of exactly 0."""
    loss: int
    """Pairs with a margin below 0."""
    low: float
    high: float
    """Wilson's 95% interval of win / (win + tie + loss)."""

    @property
    def total(self) -> int:
        """Number of pairs with an outcome."""
        return self.win + self.tie + self.loss

    @property
    def win_rate(self) -> float:
        """Share of wins."""
        return self.win / self.total if self.total else math.nan


@dataclass(frozen=True, slots=True)
class LossSummary:
    """A loss over all pairs, with its parameters."""

    name: str
    """As in `--loss`."""
    title: str
    """Its form, in words."""
    parameters: dict[str, float]
    """All parameters, with defaults filled in."""
    spread: Spread
    """Distribution over pairs; the mean is the loss that a trainer logs."""
    target_gap: tuple[float, str] | None
    """For the IPO family, the gap at which the loss is zero, and its unit."""
    target_is_far: bool
    """Whether that gap exceeds the 99th percentile of all gaps, so that the loss pulls on nearly every pair."""


@dataclass(frozen=True, slots=True)
class WorstPair:
    """One of the worst-ranked pairs."""

    row: int
    line: int
    pair_id: str
    """As in the columns of these names."""
    value: float
    """Its margin, or without a reference its first loss."""
    prompt: str
    flags: str
    """As in the columns of these names."""


@dataclass(frozen=True, slots=True)
class NoiseSummary:
    """How many margins may be due to rounding, measured on a sample of the run."""

    pairs: int
    """Size of the sample."""
    floor: float
    """Margins up to this size are ties within noise, in beta × nats."""
    float32_floor: float | None
    """Difference of margins in float32 from those in the run's dtype, in beta × nats; None if that is float32."""
    within: int
    """Pairs with a margin up to the floor."""


@dataclass(frozen=True, slots=True)
class Summary:
    """All numbers in the summary of a ledger."""

    ledger: str
    """Its path."""
    pairs: int
    """All pairs of the ledger, including those with non-finite log-probs."""
    beta: float
    """β of the rewards, and of losses with a reference unless they set their own."""
    metrics: dict[str, Spread]
    """TRL's metrics except accuracies; a trainer logs the means."""
    accuracy: float | None
    """TRL's `rewards/accuracies`: share of margins above 0, with ties counted as wrong. None without a reference."""
    outcomes: Outcomes | None
    """Counts of outcomes; None without a reference."""
    losses: tuple[LossSummary, ...]
    """The chosen losses that can be computed from the ledger."""
    noise: NoiseSummary | None
    """None unless the run measured it."""
    flags: dict[str, int]
    """Number of pairs by flag."""
    worst: tuple[WorstPair, ...]
    """Ten pairs with the lowest margins below 0, lowest first; without a reference, with the largest first loss."""
    manifest: dict[str, Any]
    """What was scored, with which models and settings."""
    has_checksums: bool = True
    """Whether damage to the ledger would be detected."""
    scope: str = ""
    """The expression that selected the pairs; empty if these are all pairs of the ledger."""
    pairs_in_ledger: int = 0
    """All pairs of the ledger, in the scope or not."""
    kl: float | None = None
    """Mean KL(policy‖reference) per scored token, in nats; None unless the run measured it."""
    unscored: int = 0
    """Number of pairs that the run has not scored; they are in no mean."""

    def to_json(self) -> dict[str, Any]:
        """Return the summary as JSON values, non-finite numbers as None."""
        accuracy = {} if self.accuracy is None else {"rewards/accuracies": self.accuracy}
        value = {
            "schema": JSON_SCHEMA,
            **asdict(self),
            "metrics": {name: spread.mean for name, spread in self.metrics.items()} | accuracy,
            "spread": {name: asdict(spread) for name, spread in self.metrics.items()},
        }
        if self.noise is None:
            del value["noise"]
        if not self.scope:
            del value["scope"], value["pairs_in_ledger"]
        if self.kl is None:
            del value["kl"]
        if not self.unscored:
            del value["unscored"]
        cleaned: dict[str, Any] = finite_or_none(value)
        return cleaned


def summarise(ledger: Ledger, preferences: PreferenceSettings) -> Summary:
    """Return the summary of a ledger for a beta and losses.

    Raises:
        UsageError: A loss cannot be computed from this ledger.
    """
    derived = ledger.derived(preferences)
    finite = finite_pairs(ledger)
    losses = tuple(
        _summarise_loss(choice, preferences, ledger, derived, finite) for choice in ledger.usable_losses(preferences)
    )
    margins = derived.get("margins")
    return Summary(
        ledger=str(ledger.path),
        pairs=ledger.num_pairs,
        beta=preferences.beta,
        metrics=_metrics(ledger, derived, losses, finite),
        accuracy=None if margins is None or not finite.any() else float(np.mean(margins[finite] > 0)),
        outcomes=None if margins is None else count_outcomes(margins),
        losses=losses,
        noise=None if margins is None else _noise(ledger.manifest.get("noise"), margins, preferences.beta),
        flags=dict(Counter(flag for flags in ledger.stored["flags"] for flag in split_flags(flags)).most_common()),
        worst=_worst(ledger, -margins if margins is not None else _first_loss(derived), margins),
        manifest=ledger.manifest,
        has_checksums=ledger.has_checksums,
        scope=ledger.scope,
        pairs_in_ledger=ledger.num_pairs_in_file,
        kl=_mean_divergence(ledger, finite) if ledger.has_divergences else None,
        unscored=ledger.num_unscored,
    )


def _summarise_loss(
    choice: LossChoice, preferences: PreferenceSettings, ledger: Ledger, derived: Columns, finite: NDArray[np.bool_]
) -> LossSummary:
    loss, parameters = find_loss(choice.name), resolve_parameters(choice, preferences)
    target, far = None, False
    if loss.target_gap is not None:
        target = loss.target_gap(parameters)
        lengths = [ledger.stored[name][finite] if name in loss.inputs else 1.0 for name in NUM_TOKENS]
        ratios = [derived[name][finite] for name in ("chosen_logratios", "rejected_logratios")]
        with np.errstate(divide="ignore", invalid="ignore"):
            gaps = np.abs(ratios[0] / lengths[0] - ratios[1] / lengths[1])
        gaps = gaps[np.isfinite(gaps)]
        far = bool(gaps.size and target[0] > np.quantile(gaps, FAR_QUANTILE))
    spread = Spread.of(derived[f"{choice.name}_loss"][finite])
    return LossSummary(choice.name, loss.title, parameters, spread, target, far)


def finite_pairs(ledger: Ledger) -> NDArray[np.bool_]:
    """Return which pairs have only finite log-probs; the others are flagged and excluded from every mean."""
    used = LOGPS if ledger.has_reference else POLICY_LOGPS
    finite: NDArray[np.bool_] = np.all([np.isfinite(ledger.stored[name]) for name in used], axis=0)
    return finite


def mean_logps(ledger: Ledger, side: str) -> NDArray[np.float64]:
    """Return the policy's log-prob per scored token in nats, nan if the count is unknown or zero."""
    counts = ledger.stored[f"{side}_num_tokens"]
    return np.where(counts > 0, ledger.stored[f"policy_{side}_logps"] / np.maximum(counts, 1), np.nan)


def _mean_divergence(ledger: Ledger, finite: NDArray[np.bool_]) -> float:
    """Return the mean KL(policy‖reference) per scored token of the pairs with finite log-probs; nan without any."""
    sides = ("chosen", "rejected")
    nats = sum(float(ledger.stored[f"{side}_kl_policy_ref"][finite].sum()) for side in sides)
    tokens = sum(int(ledger.stored[f"{side}_num_tokens"][finite].sum()) for side in sides)
    return nats / tokens if tokens else math.nan


def _noise(measured: dict[str, Any] | None, margins: NDArray[Any], beta: float) -> NoiseSummary | None:
    """Return the noise in a manifest, where it is in nats of log-ratio difference."""
    if measured is None:
        return None
    floor, float32_floor = measured["floor"], measured["float32_floor"]
    return NoiseSummary(
        pairs=measured["pairs"],
        floor=beta * floor,
        float32_floor=None if float32_floor is None else beta * float32_floor,
        within=int(within_noise(margins, floor, beta).sum()),
    )


def _metrics(
    ledger: Ledger, derived: Columns, losses: tuple[LossSummary, ...], finite: NDArray[np.bool_]
) -> dict[str, Spread]:
    """Return TRL's metrics except accuracies, under TRL's names."""
    metrics = {"loss": losses[0].spread} if losses else {}
    if "margins" in derived:
        metrics["rewards/chosen"] = Spread.of(derived["chosen_rewards"][finite])
        metrics["rewards/rejected"] = Spread.of(derived["rejected_rewards"][finite])
        metrics["rewards/margins"] = Spread.of(derived["margins"][finite])
    metrics["logps/chosen"] = Spread.of(ledger.stored["policy_chosen_logps"][finite])
    metrics["logps/rejected"] = Spread.of(ledger.stored["policy_rejected_logps"][finite])
    return metrics


def count_outcomes(margins: NDArray[np.float64]) -> Outcomes:
    """Count outcomes by the signs of margins, with Wilson's 95% interval of the win rate."""
    win, tie, loss = (int(np.count_nonzero(found)) for found in (margins > 0, margins == 0, margins < 0))
    return Outcomes(win, tie, loss, *wilson_interval(win, win + tie + loss))


def _first_loss(derived: Columns) -> NDArray[np.float64]:
    """Return the column of the first loss, or an empty array."""
    return next((values for name, values in derived.items() if name.endswith("_loss")), np.empty(0))


def _worst(ledger: Ledger, badness: NDArray[Any], margins: NDArray[Any] | None) -> tuple[WorstPair, ...]:
    """Return the pairs with the largest badness; with margins, only those ranked wrong."""
    eligible = np.isfinite(badness) if margins is None else badness > 0
    positions = np.flatnonzero(eligible)
    positions = positions[np.argsort(-badness[positions], kind="stable")][:WORST_PAIRS]
    return tuple(
        WorstPair(
            row=int(ledger.stored["row"][i]),
            line=int(ledger.stored["line"][i]),
            pair_id=str(ledger.stored["pair_id"][i]),
            value=float(badness[i] if margins is None else margins[i]),
            prompt=ledger.pair(int(i))["prompt"],
            flags=str(ledger.stored["flags"][i]),
        )
        for i in positions
    )


def finite_or_none(value: Any) -> Any:
    """Return JSON values with nan and infinity replaced by None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite_or_none(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite_or_none(item) for item in value]
    return value
