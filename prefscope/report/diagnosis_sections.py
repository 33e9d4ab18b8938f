"""Tables of a diagnosis, of subsets and of suspicious pairs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from prefscope.preference.diagnostics import LengthBias
from prefscope.report.diagnosis import Diagnosis
from prefscope.report.sections import Table, number, shortened
from prefscope.report.split_noise import OUT_OF_REACH, SplitNoise
from prefscope.report.subsets import Grouping
from prefscope.report.suspects import Suspect
from prefscope.report.visible import visible

WARNING = "⚠"
STANDS_OUT = "✱"
LONGEST_LABEL = 24
LEAST = 0.001


def diagnosis_table(diagnosis: Diagnosis, *, wide: bool = True) -> Table:
    """Return a row per finding with its figure and meaning, in one column unless `wide`."""
    rows = []
    for one in diagnosis.findings:
        conclusion = one.conclusion
        title = f"{WARNING if conclusion.warns else ' '} {one.diagnostic.title}"
        figure, sentence = conclusion.figure, conclusion.sentence
        rows.append((title, figure, sentence) if wide else (title, f"{figure}. {sentence}"))
    left_out = diagnosis.left_out
    note = f"left out because a log-prob is not finite: {left_out:,} pairs" if left_out else ""
    header = ("  finding", "figure", "what it means") if wide else ("  finding", "what it means")
    return Table("Diagnosis", header, tuple(rows), (), note)


def length_table(figures: LengthBias) -> Table:
    """Return the accuracy by the difference in length of the responses."""
    rows = tuple(
        (
            f"{one.low:+,.0f} to {one.high:+,.0f}" if one.low < one.high else f"{one.low:+,.0f}",
            f"{one.pairs:,}",
            f"{one.accuracy:.1%}",
            f"{100 * one.accuracy_low:.0f}–{one.accuracy_high:.0%}",
        )
        for one in figures.bins
    )
    note = f"a rule that always prefers the longer response ranks {figures.longer:.1%} right"
    header = ("chosen − rejected, tokens", "pairs", "accuracy", "95%")
    return Table("Accuracy by difference in length", header, rows, (1, 2, 3), note)


def splits_table(splits: Sequence[SplitNoise]) -> Table:
    """Return the label noise of every split, and what a policy cannot find in those it was trained on."""
    rows = tuple(
        (
            visible(_cut(one.split)),
            f"{one.figures.pairs:,}",
            f"{one.figures.noise:.1%}",
            f"{100 * one.figures.low:.0f}–{one.figures.high:.0%}",
            f"{one.figures.suspects:,}",
        )
        for one in splits
    )
    note = f"{OUT_OF_REACH}." if any(one.is_trained for one in splits) else ""
    return Table("Flipped labels by split", ("split", "pairs", "noise", "95%", "suspects"), rows, (1, 2, 3, 4), note)


def subsets_table(grouping: Grouping) -> Table:
    """Return the accuracy and margin of every group with their intervals."""
    rows = tuple(
        (
            visible(_cut(group.label)),
            f"{group.subset.pairs:,}",
            f"{group.subset.accuracy:.1%}{STANDS_OUT if group.subset.differs else ' '}",
            f"{100 * group.subset.accuracy_low:.0f}–{group.subset.accuracy_high:.0%}",
            signed(group.subset.margin),
            _interval(group.subset.margin_low, group.subset.margin_high),
        )
        for group in grouping.groups
    )
    column = visible(_cut(grouping.title))
    mean = "margin" if grouping.by_margin else "gap"
    header = (column, "pairs", "accuracy", "95%", mean, "95%")
    note = f"{grouping.caution}."
    return Table(f"Subsets by {column}", header, rows, (1, 2, 3, 4, 5), note)


def suspects_table(suspects: Iterable[Suspect]) -> Table:
    """Return the pairs with suspicious labels, and their copies and contradictions."""
    rows = tuple(
        (
            str(one.row),
            str(one.line),
            number(one.margin),
            f"{one.posterior:.1%}",
            visible(shortened(one.prompt)),
            _relations(one),
            visible(one.flags.replace(";", ", ")),
        )
        for one in suspects
    )
    header = ("row", "line", "margin", "flipped", "prompt", "copies, contradictions", "flags")
    note = (
        "Flipped: probability that chosen and rejected are swapped, by the margin corrected for length. Read a pair "
        "before dropping it."
    )
    return Table("Worst-ranked pairs, most suspicious labels first", header, rows, (0, 1, 2, 3), note)


def _relations(suspect: Suspect) -> str:
    parts = (("copy of row", suspect.copies), ("contradicts row", suspect.contradictions))
    return "; ".join(f"{what} {', '.join(map(str, rows[:3]))}" for what, rows in parts if rows)


def _cut(label: str) -> str:
    return label if len(label) <= LONGEST_LABEL else f"{label[: LONGEST_LABEL - 1]}…"


def signed(value: float) -> str:
    """Format a margin with its sign and three decimals."""
    return "nan" if math.isnan(value) else f"{value:+.3f}" if abs(value) >= LEAST or value == 0 else f"{value:+.1e}"


def _interval(low: float, high: float) -> str:
    return "" if math.isnan(low) else f"{signed(low)} to {signed(high)}"
