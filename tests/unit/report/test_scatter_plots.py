"""Scatter plots: any data fit their size, a box of cells selects what it shows, outliers are counted at the edges."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from prefscope.report.scatter_plots import (
    BLANK,
    SHADES,
    Points,
    area_of,
    cell_of,
    draw_points,
    limits_of,
    points,
    quadrant_points,
    reward_points,
)
from tests.unit.report.test_plots import HARD

BEYOND = re.compile(r"([\d,]+) beyond")


@pytest.mark.parametrize("values", HARD.values(), ids=HARD.keys())
@pytest.mark.parametrize("width", [40, 58, 120])
def test_a_scatter_of_any_values_fits_its_width(values: list[float], width: int) -> None:
    lines = draw_points(reward_points(np.array(values), -np.array(values)), width, 12).split("\n")
    assert 1 < len(lines) <= 12
    assert max(map(cell_len, lines)) <= width


@pytest.mark.parametrize("values", HARD.values(), ids=HARD.keys())
def test_margins_against_lengths_fit_their_width_and_show_where_0_is(values: list[float]) -> None:
    lines = draw_points(points(np.array(values), np.array(values) - 1), 58, 12).split("\n")
    assert 1 < len(lines) <= 12
    assert max(map(cell_len, lines)) <= 58
    assert any("···" in line for line in lines)


@pytest.mark.parametrize("values", HARD.values(), ids=HARD.keys())
def test_quadrants_of_any_values_fit_their_width_and_show_where_0_is(values: list[float]) -> None:
    finite = np.array([value for value in values if math.isfinite(value)])
    found = quadrant_points(finite, -finite)
    plot = draw_points(found, 58, 12)
    lines = plot.split("\n")
    column, row = cell_of(found, plot, 0.0, 0.0)
    assert 1 < len(lines) <= 12
    assert max(map(cell_len, lines)) <= 58
    assert "·" in lines[row]
    assert sum(line[column : column + 1] == "·" for line in lines) > 4


def test_points_are_dots_in_their_quadrants_around_the_lines_of_0() -> None:
    x, y = np.array([-1.0, 1.0, 1.0, 0.0]), np.array([1.0, 2.0, -1.0, 0.0])
    found = quadrant_points(x, y)
    plot = draw_points(found, 26, 8)
    assert plot.split("\n") == [
        "+2┤           ·          ⠈",
        "  │           ·",
        "+1┤⠁          ·",
        " 0┤···········⡀···········",
        "  │           ·",
        "-1┤           ·          ⢀",
        "  └┬─────┬────┬────┬─────┬",
        "   -1   -0.5  0   +0.5  +1",
    ]
    assert cell_of(found, plot, 0.0, 0.0) == (14, 3)


@pytest.mark.parametrize("width", range(-2, 14))
@pytest.mark.parametrize("height", range(-2, 5))
def test_a_scatter_has_no_more_lines_than_there_is_room_for(width: int, height: int) -> None:
    x, y = np.array([-1.0, 1e-9, 1.25e-13]), np.array([1.0, -2e9, 0.0])
    for plot in (draw_points(one(x, y), width, height) for one in (reward_points, quadrant_points)):
        assert plot == "" or len(plot.split("\n")) <= height


def outside(found: Points) -> int:
    inside = (found.across[0] <= found.x) & (found.x <= found.across[1])
    inside &= (found.up[0] <= found.y) & (found.y <= found.up[1])
    return int((~inside).sum())


def test_points_outside_the_frame_are_counted_at_its_edges_instead_of_drawn_there() -> None:
    values = np.linspace(-1, 1, 500)
    x, y = np.append(values, [9.0, 8.0, -7.0, 0.0]), np.append(np.zeros(500), [0.0, 0.5, 0.0, 50.0])
    y[:500] = np.sin(9 * values)
    found = points(x, y)
    plot = draw_points(found, 60, 14)
    assert sum(int(count.replace(",", "")) for count in BEYOND.findall(plot)) == outside(found) > 4
    assert re.search(r"\d+ beyond →", plot)
    assert re.search(r"← \d+ beyond", plot)
    assert re.search(r"↑ \d+ beyond", plot)


def test_a_plot_without_points_outside_has_no_notes() -> None:
    assert "beyond" not in draw_points(points(np.arange(50.0), np.arange(50.0)), 60, 14)


def test_many_points_are_shaded_by_their_number() -> None:
    drawn = np.random.default_rng(0)
    x, y = drawn.normal(size=(2, 50_000))
    plot = draw_points(points(x, y), 60, 14)
    left, rows = area_of(plot.split("\n"))
    cells = {cell for line in plot.split("\n")[:rows] for cell in line[left:]} - {" ", "·", BLANK}
    assert cells & {*SHADES} >= {*SHADES[3:]}
    middle = cell_of(points(x, y), plot, 0.0, 0.0)
    corner = cell_of(points(x, y), plot, 2.2, 2.2)
    shades = [plot.split("\n")[row][column] for column, row in (middle, corner)]
    assert SHADES.index(shades[0]) > SHADES.index(shades[1])


@given(st.lists(st.tuples(*[st.floats(-50, 50)] * 2), min_size=1, max_size=60), st.integers(0, 59))
def test_the_limits_of_a_cell_are_those_of_the_points_that_it_shows(
    drawn: list[tuple[float, float]], number: int
) -> None:
    x, y = np.array(drawn).T
    for found in (points(x, y), reward_points(x, y)):
        plot = draw_points(found, 50, 12)
        at = number % len(x)
        if not found.across[0] <= x[at] <= found.across[1] or not found.up[0] <= y[at] <= found.up[1]:
            continue
        column, row = cell_of(found, plot, x[at], y[at])
        (low, high), (below, above) = limits_of(found, plot, (column, row), (column, row))
        slack = 1e-9 * (1 + abs(np.array([low, high, below, above])).max())
        assert low - slack <= x[at] <= high + slack
        assert below - slack <= y[at] <= above + slack
        assert plot.split("\n")[row][column] not in " ·"
