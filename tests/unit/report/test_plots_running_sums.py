"""Plots of running sums: extremes survive the reduction, and any values fit."""

from __future__ import annotations

import math

import numpy as np
import pytest
from rich.cells import cell_len

from prefscope.report.plots import _outline, running_sums

HARD = {
    "one token": ([0.5], [-0.5]),
    "one side only": ([], [1.0, -2.0]),
    "all zero": ([0.0] * 5, [0.0] * 3),
    "nan and inf": ([math.nan, 1.0, math.inf], [-math.inf, 2.0]),
    "far apart": ([1e-9], [1e9, -1e9]),
    "of unequal length": ([0.1] * 10_000, [0.1]),
    "many": (np.sin(np.arange(20_000)).tolist(), np.cos(np.arange(9_000)).tolist()),
}


@pytest.mark.parametrize("values", HARD.values(), ids=HARD.keys())
@pytest.mark.parametrize("size", [(20, 3), (78, 5), (118, 8), (300, 40)])
def test_any_values_fit_the_size(values: tuple[list[float], list[float]], size: tuple[int, int]) -> None:
    width, height = size
    lines = running_sums(np.array(values[0]), np.array(values[1]), width, height).split("\n")
    assert 1 < len(lines) <= height
    assert max(map(cell_len, lines)) <= width


def test_there_is_no_plot_without_tokens() -> None:
    assert running_sums(np.empty(0), np.empty(0), 60, 8) == ""


def test_chosen_and_rejected_have_their_own_glyphs() -> None:
    up, none = np.ones(9), np.empty(0)
    glyphs = {
        side: running_sums(*values, 40, 8) for side, values in {"chosen": (up, none), "rejected": (none, up)}.items()
    }
    assert ("·" in glyphs["chosen"], "·" in glyphs["rejected"]) == (False, True)
    assert [any("⠀" < one <= "⣿" for one in glyphs[side]) for side in ("chosen", "rejected")] == [True, False]


def test_a_low_plot_has_no_axis_of_token_numbers() -> None:
    assert "└" not in running_sums(np.ones(9), np.ones(9), 40, 6)
    assert "└" in running_sums(np.ones(9), np.ones(9), 40, 7)


def test_the_greatest_and_the_least_value_are_drawn_however_long_the_response_is() -> None:
    values = np.zeros(100_000)
    values[[777, 55_555]] = (9.0, -9.0)
    kept = _outline(values, 80)
    assert {777, 55_555, 99_999} <= set(kept.tolist())
    assert len(kept) <= 160


def test_few_values_are_all_drawn() -> None:
    assert _outline(np.arange(5.0), 80).tolist() == [0, 1, 2, 3, 4]
