"""The sections that `prefscope compare` prints."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prefscope.ledger.pairing import PairedView
from prefscope.preference.arrays import sigmoid
from prefscope.preference.diagnostics.trajectories import COURSES
from prefscope.report.alarms import alarms
from prefscope.report.checkpoints import Followed
from prefscope.report.comparison import QUADRANTS, Comparison, Paired, Quadrant, quadrant_filter
from prefscope.report.course_plots import character_plots
from prefscope.report.scatter_plots import draw_points, points
from prefscope.report.sections import Plot, Section, Table, number, shortened
from prefscope.report.sparkline import sparkline
from prefscope.report.training import Training
from prefscope.report.visible import visible
from prefscope.statistics import bootstrap_bounds, wilson_interval

PAIRS_SHOWN = 5
MAP_HEIGHT = 16
MAP_WIDTH = 72
MAP = "Map: confidence, mean σ(margin), ↑ against variability, its standard deviation, →"
LEAST_P = 1e-4


def comparison_sections(view: PairedView, found: Comparison) -> list[Section]:
    """Return the differences between two runs, and the pairs that only one of them ranks right."""
    names = ("accuracy", "margin") if found.by_margin else ("chosen ahead", "gap per token")
    rows = [_row(names[0], found.accuracy, percent=True), _row(names[1], found.margin)]
    rows += [_row(f"{name} loss", paired) for name, paired in found.losses.items()]
    rows.append(("length bias ρ", *(f"{value:+.2f}" for value in found.length_bias), "", ""))
    p_value = f"below {LEAST_P:g}" if found.p_value < LEAST_P else f"{found.p_value:.2g}"
    note = (
        "Interval of the accuracies' difference by Newcombe's paired method, the others by the paired bootstrap. "
        f"McNemar's exact test of the accuracies: p {p_value}."
    )
    sections: list[Section] = [
        Table("Paired differences", ("mean", "A", "B", "B − A", "95% interval"), tuple(rows), (1, 2, 3, 4), note)
    ]
    counts = [
        (title, f"{found.quadrants[name]:,}", _share(found.quadrants[name], found.pairs), _where(name, found))
        for name, title in QUADRANTS.items()
    ]
    sections.append(Table("Who is right", ("", "pairs", "share", "filter"), tuple(counts), (1, 2)))
    return [*sections, *_changed(view, found)]


def _row(name: str, paired: Paired, *, percent: bool = False) -> tuple[str, ...]:
    a, b, difference, low, high = (paired.a, paired.b, paired.difference, paired.low, paired.high)
    if percent:
        return name, f"{a:.1%}", f"{b:.1%}", f"{100 * difference:+.1f} pp", f"{100 * low:+.1f} to {100 * high:+.1f} pp"
    return name, number(a), number(b), _signed(difference), f"{_signed(low)} to {_signed(high)}"


def _signed(value: float) -> str:
    return f"+{number(value)}" if value > 0 else number(value)


def _share(count: int, total: int) -> str:
    return f"{count / total:.1%}" if total else ""


def _where(quadrant: Quadrant, found: Comparison) -> str:
    return quadrant_filter(quadrant, by_margin=True) if found.by_margin else ""


def _changed(view: PairedView, found: Comparison) -> list[Section]:
    """Return the pairs that only one run ranks right, the largest changes first."""
    if not found.by_margin:
        return []
    a, b = view.column("margins"), view.column("margins_b")
    tables: list[Section] = []
    for title, mask in (
        ("Right in A, not in B", (a > 0) & (b <= 0)),
        ("Right in B, not in A", (b > 0) & (a <= 0)),
    ):
        changed = np.flatnonzero(mask)
        shown = changed[np.argsort(-np.abs(b - a)[changed], kind="stable")][:PAIRS_SHOWN]
        rows = tuple(
            (str(view.ledger.stored["row"][at]), number(float(a[at])), number(float(b[at])), _prompt(view, int(at)))
            for at in shown
        )
        if rows:
            more = f"{title} ({changed.size:,}; largest changes first)"
            tables.append(Table(more, ("row", "A", "B", "prompt"), rows, (0, 1, 2)))
    return tables


def _prompt(view: PairedView, position: int) -> str:
    return visible(shortened(view.ledger.pair(position, ["prompt"])["prompt"]))


def trajectory_sections(followed: Followed, width: int) -> list[Section]:
    """Return the table of runs, the courses of the pairs, and their map."""
    found, pairs = followed.trajectories, followed.margins.shape[1]
    counts = [(name, f"{count:,}", _share(count, pairs), COURSES[name]) for name, count in found.counts.items()]
    sections: list[Section] = [
        _runs_table(followed),
        *_alarms(followed.training),
        Table("What became of the pairs", ("course", "pairs", "share", ""), tuple(counts), (1, 2)),
    ]
    if picture := draw_points(points(found.variability, found.confidence), min(width, MAP_WIDTH), MAP_HEIGHT):
        sections.append(Plot(MAP, picture))
    sections += character_plots(followed.training, width)
    return [*sections, *_courses(followed)]


def _alarms(found: Training) -> list[Section]:
    """Return what goes wrong in a training at its last checkpoint."""
    rows = tuple((one.name.replace("_", " "), one.sentence, one.rule) for one in alarms(found))
    return [Table("Alarms", ("alarm", "what was found", "rule"), rows, ())] if rows else []


def _runs_table(followed: Followed) -> Table:
    rows = []
    previous: NDArray[np.float64] | None = None
    for name, margins in zip(followed.names, followed.margins, strict=True):
        right, pairs = int(np.count_nonzero(margins > 0)), margins.size
        low, high = wilson_interval(right, pairs)
        change = ""
        if previous is not None and pairs:
            below, above = bootstrap_bounds(margins - previous)
            change = f"{_signed(float((margins - previous).mean()))} ({_signed(below)} to {_signed(above)})"
        mean = number(float(margins.mean())) if pairs else ""
        rows.append((visible(name), _share(right, pairs), f"{low:.1%} to {high:.1%}", mean, change))
        previous = margins
    header = ("run", "accuracy", "95% interval", "margin", "change (95% interval)")
    return Table("Runs", header, tuple(rows), (1, 2, 3, 4))


def _courses(followed: Followed) -> list[Section]:
    """Return the pairs that were forgotten or never learnt, the lowest final margins first."""
    tables: list[Section] = []
    ledger, places = followed.ledgers[0], followed.positions[0]
    for course in ("forgotten", "never"):
        of_course = np.flatnonzero(followed.trajectories.courses == course)
        shown = of_course[np.argsort(followed.margins[-1, of_course], kind="stable")][:PAIRS_SHOWN]
        rows = tuple(
            (
                str(ledger.stored["row"][places[at]]),
                sparkline(sigmoid(followed.margins[:, at])),
                number(float(followed.margins[0, at])),
                number(float(followed.margins[-1, at])),
                visible(shortened(ledger.pair(int(places[at]), ["prompt"])["prompt"])),
            )
            for at in shown
        )
        if rows:
            title = f"{course.capitalize()} ({of_course.size:,}; lowest final margin first)"
            tables.append(Table(title, ("row", "σ(margin)", "first", "last", "prompt"), rows, (0, 2, 3)))
    return tables
