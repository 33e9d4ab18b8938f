"""Plots of a training: figures against the step, with their intervals as dotted lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from prefscope.report import svg
from prefscope.report.axes import nice_ticks, widened
from prefscope.report.pair_plots import NARROW_WIDTH
from prefscope.report.plots import draw_ticks, drawn, new_figure, side_by_side
from prefscope.report.sections import WIDE, Plot
from prefscope.report.training import NAMES, Estimate, Training
from prefscope.report.visible import visible

ACCURACY, REWARDS, MARGIN, LOSS = "accuracy", "rewards", "margin", "loss"
PLOTS = {ACCURACY: ("accuracy",), MARGIN: ("margin",), REWARDS: ("chosen", "rejected"), LOSS: ("loss",)}
"""The figures in each plot, by its title."""
SHARES = {ACCURACY}
HEIGHT = 12
MARKERS = ("braille", "•", "×", "+")
BOUND = "·"


@dataclass(frozen=True, slots=True)
class Line:
    """A figure at every step."""

    label: str
    estimates: Sequence[Estimate]


def draw_lines(steps: Sequence[int], lines: Sequence[Line], width: int, height: int, *, percent: bool = False) -> str:
    """Return a plot of at most four lines, each with a marker of `MARKERS`; empty without finite values.

    Args:
        steps: The steps, ascending.
        lines: The lines.
        width: In cells.
        height: In cells.
        percent: Whether values are shares.
    """
    low, value, high = (
        np.array([[getattr(one, part) for one in line.estimates] for line in lines], dtype=np.float64)
        for part in ("low", "value", "high")
    )
    every = np.concatenate([low, value, high], axis=None)
    every = every[np.isfinite(every)]
    if not every.size:
        return ""
    figure, at = new_figure(width, height), np.array(steps, dtype=np.float64)
    across, up = widened(float(at[0]), float(at[-1])), widened(float(every.min()), float(every.max()))
    bounds = [(one, BOUND) for both in zip(low, high, strict=True) for one in both]
    for values, marker in (*bounds, *reversed([*zip(value, MARKERS, strict=False)])):
        known = np.isfinite(values)
        if known.any():
            figure.draw(figure.signal(at[known].tolist(), values[known].tolist(), marker=marker).lines())
    for axis, limits in (("x", across), ("y", up)):
        figure.ruler(axis, 0).lim(*limits)
    draw_ticks(figure, "x", *across)
    ticks = nice_ticks(*up, max(min(height // 3, 5), 2))
    figure.ruler("y", 0).ticks(ticks, [f"{tick:.0%}" if percent else f"{tick:g}" for tick in ticks])
    return drawn(figure)


def svg_lines(found: Training) -> Iterator[tuple[str, str]]:
    """Yield title and picture of every plot of a training."""
    steps = [one.step for one in found.figures]
    for title in PLOTS:
        lines = lines_of(found, title)
        picture = svg.lines(steps, [(visible(line.label), [*map(_bounds, line.estimates)]) for line in lines], title)
        yield legend(title, lines[:1], found), picture


def _bounds(one: Estimate) -> tuple[float, float, float]:
    return one.low, one.value, one.high


def character_plots(found: Training, width: int) -> list[Plot]:
    """Return the plots of a training for a width in cells, two beside each other if there is room."""
    steps = [one.step for one in found.figures]
    each = (width - 3) // 2 if width >= WIDE else min(width, NARROW_WIDTH)
    plots = []
    for title in PLOTS:
        lines = lines_of(found, title)
        text = draw_lines(steps, lines, each, HEIGHT, percent=title in SHARES)
        if text:
            plots.append(Plot(legend(title, lines, found), text))
    if width < WIDE:
        return plots
    pairs = [plots[at : at + 2] for at in range(0, len(plots), 2)]
    return [_beside(pair[0], pair[1], each) if len(pair) > 1 else pair[0] for pair in pairs]


def _beside(left: Plot, right: Plot, width: int) -> Plot:
    top = side_by_side(left.title.ljust(width), right.title)
    return Plot("", f"{top}\n{side_by_side(left.text, right.text)}")


def legend(title: str, lines: Sequence[Line], found: Training) -> str:
    """Return the title of a plot with the markers of its lines; the first marker is a braille line."""
    has_subsets = bool(found.subsets) and len(PLOTS[title]) == 1
    title = title if title != LOSS or not found.loss else f"{found.loss} {LOSS}"
    if len(lines) == 1:
        return f"{title} ↑ step →"
    signs = ("─", *MARKERS[1:])
    named = [f"{sign} {visible(line.label)}" for sign, line in zip(signs, lines, strict=False)]
    more = len(found.subsets) + found.left_out - len(lines) if has_subsets else 0
    return f"{title} ↑ step →  {'  '.join(named)}{f'  (and {more} more)' * (more > 0)}"


def lines_of(found: Training, title: str) -> list[Line]:
    """Return the lines of a plot: its figures of all pairs, or its only figure of the largest subsets."""
    names = PLOTS[title]
    if not found.subsets or len(names) > 1:
        return [Line(NAMES[name], found.series(name)) for name in names]
    shown = [*found.subsets.items()][: len(MARKERS)]
    return [Line(label, [getattr(one, names[0]) for one in figures]) for label, figures in shown]
