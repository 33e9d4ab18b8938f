"""The plots of a report, over all pairs: as characters for terminals and Markdown, as SVG for pages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prefscope.ledger.columns import NUM_TOKENS
from prefscope.ledger.view import View
from prefscope.preference.diagnostics.calibration import Calibration
from prefscope.report import svg
from prefscope.report.cards import sides
from prefscope.report.diagnosis import Diagnosis
from prefscope.report.plots import margin_histogram, side_by_side
from prefscope.report.scatter_plots import draw_points, reward_points
from prefscope.report.sections import WIDE, Plot

PLOT_HEIGHT = 14
NARROW_WIDTH = 72
"""Limit of a plot's width where plots are below each other."""


@dataclass(frozen=True, slots=True)
class PlotData:
    """What the plots show of every pair: rewards, or without a reference the policy's mean log-probs."""

    by_margin: bool
    """Whether there are rewards."""
    chosen: NDArray[np.float64]
    rejected: NDArray[np.float64]
    margins: NDArray[np.float64]
    longer: NDArray[np.float64]
    """Length of chosen − rejected, in tokens."""
    calibration: Calibration | None


def plot_data(view: View, diagnosis: Diagnosis | None = None) -> PlotData:
    """Return the data of a ledger's plots; calibration is taken from its diagnosis."""
    margins, chosen, rejected = sides(view)
    longer = (view.column(NUM_TOKENS[0]) - view.column(NUM_TOKENS[1])).astype(np.float64)
    figures = [one.figures for one in diagnosis.findings] if diagnosis is not None else []
    calibration = next((one for one in figures if isinstance(one, Calibration)), None)
    return PlotData(view.ledger.has_reference, chosen, rejected, margins, longer, calibration)


def character_plots(data: PlotData, width: int) -> list[Plot]:
    """Return the histogram of margins and the scatter plot of rewards, side by side if there is room.

    Without a reference, they show the policy's mean log-probs, which SimPO compares.
    """
    if data.by_margin:
        title, titles = "Margins and rewards", ("Margins: ▒ wrong, █ right", "Rewards")
    else:
        title, titles = "Mean log-probs, nats per token", ("Chosen − rejected: ▒ below 0, █ above", "Each")
    titles = (titles[0], f"{titles[1]}: chosen →, rejected ↑; right: below ···")
    wide = width >= WIDE
    each = (width - 3) // 2 if wide else min(width, NARROW_WIDTH)
    histogram = margin_histogram(data.chosen - data.rejected, each, PLOT_HEIGHT)
    scatter = draw_points(reward_points(data.chosen, data.rejected), each, PLOT_HEIGHT)
    if not histogram or not scatter:
        return []
    if wide:
        top = side_by_side(titles[0].ljust(each), titles[1])
        return [Plot(title, f"{top}\n{side_by_side(histogram, scatter)}")]
    return [Plot(titles[0], histogram), Plot(titles[1], scatter)]


def svg_plots(data: PlotData) -> Iterator[tuple[str, str]]:
    """Yield title and picture of every plot; the picture is empty without finite values."""
    margin = "margin, beta·nats" if data.by_margin else "chosen − rejected, nats per token"
    yield "Margins; hollow bars are ranked wrong", svg.histogram(data.margins, margin)
    what = (
        ("chosen reward", "rejected reward")
        if data.by_margin
        else ("chosen, nats per token", "rejected, nats per token")
    )
    title = f"{what[1].capitalize()} against {what[0]}; pairs below the line are ranked right"
    yield title, svg.scatter(data.chosen, data.rejected, what, diagonal=True)
    labels = ("chosen − rejected length, tokens", "margin")
    yield "Margin against difference in length", svg.scatter(data.longer, data.margins, labels, diagonal=False)
    yield (
        "Calibration with 95% intervals; on the line, confidence equals accuracy",
        _calibration(data.calibration) if data.calibration is not None else "",
    )


def _calibration(figures: Calibration) -> str:
    bins = (svg.Interval(one.confidence, one.accuracy, one.accuracy_low, one.accuracy_high) for one in figures.bins)
    return svg.intervals([*bins], ("confidence σ(|m|)", "accuracy"), ((0.5, 0.5), (1.0, 1.0)))
