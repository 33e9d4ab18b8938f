"""Tables and plots with titles, and the tables of a summary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from prefscope.flags import flag_meaning
from prefscope.ledger.left_out import describe_left_out
from prefscope.preference.registry import find_loss
from prefscope.report.summary import Spread, Summary
from prefscope.report.visible import visible

WIDE = 100
PROMPT_CHARACTERS = 60
BUNDLED = "bundled tiny pair"


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text under a header; numeric columns are right-aligned."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: tuple[int, ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Plot:
    """A terminal plot."""

    title: str
    text: str


Section = Table | Plot


NO_CHECKSUM = "an older ledger without checksums: damage to it may go unnoticed"


def headline(summary: Summary) -> list[str]:
    """Return what was scored and with which models, in a few lines of safe text."""
    models = summary.manifest.get("models")
    lines = []
    if models:
        compute = summary.manifest.get("compute") or {}
        dtype, device = compute.get("dtype", "unknown"), compute.get("device", "unknown")
        names = {role: visible(str(model.get("name", "unknown"))) for role, model in models.items()}
        lines.append(f"policy {names.get('policy', 'unknown')}   reference {names.get('ref', 'none')}")
        lines.append(visible(f"computed in {dtype} on {device}, stored as {_stored(models)}"))
        if weights := summary.manifest.get("weights"):
            lines.append(_equal_weights(weights))
        if summary.manifest.get("bundled"):
            lines.insert(0, "No --policy was given: this is a demonstration with the bundled tiny models.")
    else:
        lines.append("log-probs from the file; no model was run")
    source = summary.manifest.get("data", {}).get("source", "unknown data")
    count = f"{summary.pairs:,} of {summary.pairs_in_ledger:,}" if summary.scope else f"{summary.pairs:,}"
    lines.append(f"{count} pairs of {visible(str(source))}   beta {summary.beta:g}")
    lines += [f"scope: {visible(summary.scope)}"] if summary.scope else []
    lines += [not_scored_yet(summary.unscored, summary.pairs)] if summary.unscored else []
    lines += [] if summary.has_checksums else [NO_CHECKSUM]
    left_out = describe_left_out(summary.manifest.get("tokenization") or {})
    if left_out and (flagged := summary.flags.get("not_rendered")):
        lines.append(visible(f"{flagged:,} of these are not rendered in full; the chat template left out {left_out}"))
    return lines


def not_scored_yet(unscored: int, pairs: int) -> str:
    """Return what to know of a ledger whose run was stopped."""
    return (
        f"{unscored:,} of {pairs:,} pairs are not scored yet (flag not_scored) and in no mean; "
        "score the same data set again to complete the ledger"
    )


def _stored(models: dict[str, Any]) -> str:
    """Return the stored dtype of both models, or of each if they differ."""
    dtypes = {role: str(model.get("stored_dtype", "unknown")) for role, model in models.items()}
    if len(set(dtypes.values())) == 1:
        return next(iter(dtypes.values()))
    return f"{dtypes.get('policy')} (policy) and {dtypes.get('ref')} (reference)"


def _equal_weights(weights: dict[str, Any]) -> str:
    """Return the share of equal weights, with a warning if they are equal because of rounding."""
    line = f"{weights['equal']:.1%} of the policy's weights equal the reference's"
    if weights["erased"]:
        line += ", because rounding to 16 bits erased what training did: margins are too small, signs may be wrong"
    return line


def metrics_table(summary: Summary) -> Table:
    """Return TRL's metrics with their spread, and the outcomes."""
    rows = []
    for name, spread in summary.metrics.items():
        label = f"{name} ({summary.losses[0].name})" if name == "loss" else name
        rows.append((label, *_spread(spread)))
    if summary.accuracy is not None:
        rows.insert(-2, ("rewards/accuracies", f"{summary.accuracy:.4f}", "", ""))
    note = ""
    if summary.outcomes is not None:
        o = summary.outcomes
        note = (
            f"won {o.win:,}, tied {o.tie:,}, lost {o.loss:,}: {o.win_rate:.1%} won, "
            f"95% interval {o.low:.1%} to {o.high:.1%} (Wilson)"
        )
    if summary.kl is not None:
        note += f"\nKL(policy‖reference): {number(summary.kl)} nats a token on average"
    if summary.noise is not None:
        note += f"\n{_noise(summary)}"
    return Table("Summary", ("metric", "mean", "median", "interquartile range"), tuple(rows), (1, 2, 3), note)


def _noise(summary: Summary) -> str:
    """Return how many margins may be due to rounding; empty if noise was not measured."""
    noise = summary.noise
    if noise is None:
        return ""
    floor = f"the noise floor of ±{number(noise.floor)}"
    within = f"{noise.within:,} of {summary.pairs:,} pairs lie within {floor}: ties within noise"
    if noise.float32_floor is None:
        return within
    dtype = (summary.manifest.get("compute") or {}).get("dtype", "unknown")
    return f"{within}\n99% of the margins in {dtype} are within ±{number(noise.float32_floor)} of those in float32"


def losses_table(summary: Summary) -> Table | None:
    """Return the losses with their parameters and spread, or None without any."""
    if not summary.losses:
        return None
    rows = []
    for loss in summary.losses:
        settings = ", ".join(f"{name} {value:g}" for name, value in loss.parameters.items())
        target = f"target {loss.target_gap[0]:g} {loss.target_gap[1]}" if loss.target_gap is not None else ""
        population = find_loss(loss.name).population
        form = filter(None, (loss.title, target, population and f"over the whole ledger: {population}"))
        rows.append((loss.name, *_spread(loss.spread), settings, "; ".join(form)))
    header = ("loss", "mean", "median", "interquartile range", "parameters", "form")
    far = [loss.name for loss in summary.losses if loss.target_is_far]
    note = f"{', '.join(far)}: 99% of the gaps fall short of the target; a larger beta lowers it" if far else ""
    return Table("Losses", header, tuple(rows), (1, 2, 3), note)


def _spread(spread: Spread) -> tuple[str, str, str]:
    return number(spread.mean), number(spread.median), f"{number(spread.q1)} to {number(spread.q3)}"


def number(value: float) -> str:
    """Format a number with four decimals, or one if it is large, or three significant digits if it is tiny."""
    if value != value:  # noqa: PLR0124 (nan)
        return "nan"
    size = abs(value)
    if size >= 1000:  # noqa: PLR2004
        return f"{value:,.1f}"
    return f"{value:.4f}" if size >= 0.001 or size == 0 else f"{value:.3g}"  # noqa: PLR2004


def flags_table(summary: Summary) -> Table | None:
    """Return the flags with the number of pairs that have them, or None without any."""
    if not summary.flags:
        return None
    rows = tuple((visible(flag), f"{count:,}", flag_meaning(flag)) for flag, count in summary.flags.items())
    return Table("Flagged pairs", ("flag", "pairs", "meaning"), rows, numeric=(1,))


def worst_table(summary: Summary) -> Table | None:
    """Return the worst-ranked pairs, or None without any."""
    if not summary.worst:
        return None
    rows = tuple(
        (str(pair.row), str(pair.line), number(pair.value), visible(shortened(pair.prompt)), visible(pair.flags))
        for pair in summary.worst
    )
    ranked = summary.outcomes is not None
    value = "margin" if ranked else f"{summary.losses[0].name}_loss"
    title = "Worst-ranked pairs" if ranked else "Pairs with the largest loss"
    return Table(title, ("row", "line", value, "prompt", "flags"), rows, numeric=(0, 1, 2))


def shortened(prompt: str) -> str:
    """Return the last user turn of a prompt, shortened."""
    last = prompt.rsplit("[user]\n", 1)[-1].strip()
    return last if len(last) <= PROMPT_CHARACTERS else f"{last[: PROMPT_CHARACTERS - 1]}…"
