"""SVG plots for report files, of the same data as the terminal plots, styled by the page's classes.

Sizes are in units of the view box, which the page scales. Texts are constants or escaped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

from prefscope.report.axes import around_zero, histogram_edges, nice_ticks, range_without_tails, widened

Values = NDArray[np.float64]
Series = tuple[str, Sequence[tuple[float, float, float]]]
"""A name, made visible, and low, value and high of an interval at each step."""
WIDTH, HEIGHT = 520, 260
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 10, 40
MOST_DOTS = 1500
"""Above this number of pairs, density is drawn; no browser opens a file with a million dots."""
CELLS = (57, 35)
"""Columns and rows of the density; sizes are whole units, so that no seams show."""
SHADES = 6
BARS = 60
"""Half of the width in cells that a histogram's bins are chosen for."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A point with the bounds of its interval."""

    x: float
    y: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class _Frame:
    """Maps values to the view box."""

    across: tuple[float, float]
    up: tuple[float, float]

    def x(self, value: float) -> float:
        low, high = self.across
        return LEFT + (min(max(value, low), high) - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        low, high = self.up
        return HEIGHT - BOTTOM - (min(max(value, low), high) - low) / (high - low) * (HEIGHT - TOP - BOTTOM)


def histogram(values: Values, label: str) -> str:
    """Return a histogram with hollow bars below 0 and filled ones above; empty without finite values."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return ""
    edges = histogram_edges(finite, 2 * BARS)
    counts, _ = np.histogram(np.clip(finite, edges[0], edges[-1]), edges)
    frame = _Frame((float(edges[0]), float(edges[-1])), (0.0, float(counts.max())))
    bars = []
    for low, high, count in zip(edges[:-1].tolist(), edges[1:].tolist(), counts.tolist(), strict=True):
        x, y = frame.x(low), frame.y(count)
        kind = "wrong" if low + high < 0 else "right"
        size = f'width="{max(frame.x(high) - x - 1, 0.5):.1f}" height="{HEIGHT - BOTTOM - y:.1f}"'
        bars += [f'<rect class="{kind}" x="{x + 0.5:.1f}" y="{y:.1f}" {size}/>'] if count else []
    return _drawn(frame, bars, label, "pairs", whole=True)


def scatter(x: Values, y: Values, labels: tuple[str, str], *, diagonal: bool) -> str:
    """Return y against x with the line y = x (`diagonal`) or y = 0; empty without finite pairs of values.

    If there are many pairs, their density is drawn, with the outermost ones on the border.
    """
    finite = np.isfinite(x) & np.isfinite(y)
    x, y = x[finite], y[finite]
    if not x.size:
        return ""
    if diagonal:
        ranges = [range_without_tails(one) for one in (x, y)]
        both = widened(min(low for low, _ in ranges), max(high for _, high in ranges))
        frame = _Frame(both, both)
        ends = (both[0], both[0]), (both[1], both[1])
    else:
        frame = _Frame(widened(*range_without_tails(x)), around_zero(y))
        ends = (frame.across[0], 0.0), (frame.across[1], 0.0)
    points = " ".join(f"{frame.x(one):.1f},{frame.y(other):.1f}" for one, other in ends)
    marks = _dots(frame, x, y) if x.size <= MOST_DOTS else _density(frame, x, y)
    return _drawn(frame, [*marks, f'<polyline class="line" points="{points}"/>'], *labels)


def intervals(
    points: Sequence[Interval], labels: tuple[str, str], line: tuple[tuple[float, float], tuple[float, float]]
) -> str:
    """Return points with intervals, in shares from 0 to 1, and a line to compare with; empty without points.

    Args:
        points: Points by ascending x.
        labels: Labels of the axes.
        line: The ends of the line.
    """
    if not points:
        return ""
    places = [one.x for one in points] + [x for x, _ in line]
    frame = _Frame(widened(min(places), max(places)), (0.0, 1.0))
    drawn = " ".join(f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in line)
    marks = [f'<polyline class="line" points="{drawn}"/>']
    for one in points:
        x = f"{frame.x(one.x):.1f}"
        marks.append(f'<path class="bound" d="M{x} {frame.y(one.low):.1f}V{frame.y(one.high):.1f}"/>')
        marks.append(f'<circle class="right" cx="{x}" cy="{frame.y(one.y):.1f}" r="4"/>')
    return _drawn(frame, marks, *labels)


def lines(steps: Sequence[int], series: Sequence[Series], label: str) -> str:
    """Return lines over the steps of a training, each with its band of intervals; empty without finite values.

    Args:
        steps: Ascending steps.
        series: At most four lines: a name, and low, value and high at each step.
        label: Label of the y axis.
    """
    every = [number for _, points in series for point in points for number in point if math.isfinite(number)]
    if not every:
        return ""
    frame = _Frame(widened(float(steps[0]), float(steps[-1])), widened(min(every), max(every)))
    marks = []
    for number, (name, points) in enumerate(series):
        known = [(frame.x(step), point) for step, point in zip(steps, points, strict=True) if math.isfinite(point[1])]
        band = [(x, low, high) for x, (low, _, high) in known if math.isfinite(low) and math.isfinite(high)]
        outline = [(x, high) for x, _, high in band] + [(x, low) for x, low, _ in reversed(band)]
        marks.append(f'<polygon class="band line{number}" points="{_places(frame, outline)}"/>')
        line = _places(frame, [(x, value) for x, (_, value, _) in known])
        marks.append(f'<polyline class="course line{number}" points="{line}"><title>{escape(name)}</title></polyline>')
        if len(series) > 1:
            at = f'x="{LEFT + 8}" y="{TOP + 14 * (number + 1)}"'
            marks.append(f'<text class="line{number}" {at}>{escape(name)}</text>')
    return _drawn(frame, marks, "step", label)


def _places(frame: _Frame, points: Sequence[tuple[float, float]]) -> str:
    """Return points, whose x is placed already, as the text of a polygon."""
    return " ".join(f"{x:.1f},{frame.y(y):.1f}" for x, y in points)


def _dots(frame: _Frame, x: Values, y: Values) -> list[str]:
    """Return all points as one path of dots."""
    places = (f"M{frame.x(one):.1f} {frame.y(other):.1f}h0" for one, other in zip(x.tolist(), y.tolist(), strict=True))
    return [f'<path class="dots" d="{"".join(places)}"/>']


def _density(frame: _Frame, x: Values, y: Values) -> list[str]:
    """Return one path per shade; a cell is darker the more pairs it has, by their square root."""
    columns, rows = CELLS
    edges = [np.linspace(*limits, number + 1) for limits, number in zip((frame.across, frame.up), CELLS, strict=True)]
    clipped = (np.clip(x, *frame.across), np.clip(y, *frame.up))
    counts, _, _ = np.histogram2d(*clipped, bins=edges)
    shades = np.ceil(SHADES * np.sqrt(counts / counts.max())).astype(np.int64)
    width, height = (WIDTH - LEFT - RIGHT) / columns, (HEIGHT - TOP - BOTTOM) / rows
    found = []
    for shade in range(1, SHADES + 1):
        cells = (
            f"M{LEFT + column * width:.1f} {HEIGHT - BOTTOM - (row + 1) * height:.1f}"
            f"h{width:.1f}v{height:.1f}h-{width:.1f}z"
            for column, row in np.argwhere(shades == shade).tolist()
        )
        found.append(f'<path class="cell shade{shade}" d="{"".join(cells)}"/>')
    return found


def _drawn(frame: _Frame, marks: Sequence[str], across: str, up: str, *, whole: bool = False) -> str:
    """Return a plot with its axes, ticks and labels."""
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    parts = [f'<svg role="img" viewBox="0 0 {WIDTH} {HEIGHT}"><title>{escape(f"{up} against {across}")}</title>']
    for tick in nice_ticks(*frame.across):
        x = frame.x(tick)
        parts.append(f'<path class="grid" d="M{x:.1f} {TOP}V{bottom}"/>')
        parts.append(f'<text class="tick" x="{x:.1f}" y="{bottom + 15}" text-anchor="middle">{tick:g}</text>')
    for tick in nice_ticks(*frame.up, 4):
        if whole and not tick.is_integer():
            continue
        y = frame.y(tick)
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{right}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    parts += marks
    parts.append(f'<path class="axis" d="M{LEFT} {TOP}V{bottom}H{right}"/>')
    parts.append(f'<text x="{(LEFT + right) / 2:.0f}" y="{HEIGHT - 6}" text-anchor="middle">{escape(across)}</text>')
    middle = (TOP + bottom) // 2
    turned = f'x="12" y="{middle}" text-anchor="middle" transform="rotate(-90 12 {middle})"'
    return "".join([*parts, f"<text {turned}>{escape(up)}</text></svg>"])
