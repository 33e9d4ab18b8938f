"""Terminal plots: bins never straddle 0, and plots of any data fit their size."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from prefscope.report.axes import bins_around_zero, nice_ticks
from prefscope.report.plots import curve, margin_histogram, side_by_side
from prefscope.report.scatter_plots import draw_points, points, reward_points

NUMBERS = st.floats(min_value=-1e6, max_value=1e6, allow_nan=False)
HARD = {
    "one value": [0.25],
    "one zero": [0.0],
    "all ties": [0.0] * 5,
    "all the same": [-3.0] * 7,
    "nan among numbers": [math.nan, 1.0, -1.0],
    "infinite": [math.inf, -math.inf, 0.5],
    "far apart": [-1e9, 1e-9, 3.0],
    "tiny": [1e-13, -1e-13],
    "many": np.linspace(-3, 8, 1000).tolist(),
    "with outliers": [*np.linspace(-1, 1, 500).tolist(), 1e6],
}


@given(st.lists(NUMBERS, min_size=1, max_size=99), st.integers(1, 60))
def test_bins_are_even_have_an_edge_at_zero_and_cover_every_value(values: list[float], bins: int) -> None:
    found = bins_around_zero(np.array(values), bins)
    widths = np.diff(found)
    assert 0.0 in found
    assert np.allclose(widths, widths[0], rtol=1e-6, atol=0)
    slack = 1e-6 * widths[0]
    assert found[0] - slack <= min(values) <= max(values) <= found[-1] + slack


@given(st.lists(NUMBERS, min_size=1, max_size=99), st.integers(1, 60))
def test_there_are_about_as_many_bins_as_requested(values: list[float], bins: int) -> None:
    assert bins <= len(bins_around_zero(np.array(values), bins)) - 1 <= bins + 1


def test_outliers_of_a_large_data_set_do_not_stretch_the_bins() -> None:
    edges = bins_around_zero(np.array([*np.linspace(-1, 1, 500), 1e6]), 20)
    assert (edges[0], edges[-1]) == pytest.approx((-1, 1), abs=0.2)


@pytest.mark.parametrize("values", HARD.values(), ids=HARD.keys())
@pytest.mark.parametrize("width", [40, 58, 120])
def test_a_histogram_of_any_values_fits_its_width(values: list[float], width: int) -> None:
    lines = margin_histogram(np.array(values), width, 12).split("\n")
    assert 1 < len(lines) <= 12
    assert max(map(cell_len, lines)) <= width


@pytest.mark.parametrize("values", HARD.values(), ids=HARD.keys())
@pytest.mark.parametrize("log", [False, True])
def test_a_curve_of_any_values_fits_its_width_and_shows_where_one_is(values: list[float], *, log: bool) -> None:
    x = np.logspace(-2, 1, len(values))
    lines = curve(x, np.array(values), 0.1, 58, 12, log=log).split("\n")
    assert 1 < len(lines) <= 12
    assert max(map(cell_len, lines)) <= 58
    assert sum(line.count("│") for line in lines) > len(lines) - 3


def test_a_curve_over_decades_has_round_ticks() -> None:
    x = np.logspace(-2, 1, 20)
    assert curve(x, x, None, 58, 12, log=True).split("\n")[-1].split() == ["0.01", "0.1", "1", "10"]


@pytest.mark.parametrize("values", [[], [math.nan], [math.inf, math.nan]], ids=["none", "nan", "inf"])
def test_there_is_no_plot_without_finite_values(values: list[float]) -> None:
    assert margin_histogram(np.array(values), 60, 12) == ""
    assert draw_points(points(np.array(values), np.array(values)), 60, 12) == ""
    assert curve(np.ones(len(values)), np.array(values), 1.0, 60, 12) == ""


@pytest.mark.parametrize(
    ("values", "wrong", "right"), [([-2.0, -1.0], True, False), ([1.0, 0.0], False, True), ([-1.0, 1.0], True, True)]
)
def test_wrong_and_right_margins_have_their_own_marks(values: list[float], wrong: bool, right: bool) -> None:
    plot = margin_histogram(np.array(values), 60, 12)
    assert ("▒" in plot, "█" in plot) == (wrong, right)


def test_a_plot_is_the_same_whatever_was_drawn_before() -> None:
    values = np.linspace(-1, 2, 50)
    first = margin_histogram(values, 60, 12)
    draw_points(reward_points(values, -values), 100, 20)
    assert margin_histogram(values, 60, 12) == first


@given(st.floats(min_value=-1e3, max_value=1e3), st.floats(min_value=1e-6, max_value=1e6))
def test_ticks_lie_in_the_range_and_rise(low: float, size: float) -> None:
    high = low + size
    ticks = nice_ticks(low, high)
    slack = 1e-6 * (high - low) + 1e-11
    assert all(low - slack <= tick <= high + slack for tick in ticks)
    assert ticks == sorted(ticks)
    assert len(ticks) <= 6


def test_an_empty_range_has_one_tick() -> None:
    assert nice_ticks(2.0, 2.0) == [2.0]


def test_side_by_side_blocks_keep_their_lines_and_columns() -> None:
    assert side_by_side("ab\nc", "x\ny\nz") == "ab   x\nc    y\n     z"
