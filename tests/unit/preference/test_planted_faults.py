"""Planted faults are found where they matter, and no diagnostic warns where there is nothing.

A few simulations each; `tests/benchmarks/power.py` prints the table of power and false alarms.
"""

from __future__ import annotations

import math

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefscope.preference.diagnostics import flips, length_bias, ranking, reference
from tests.unit.preference.planted import FAULTS, Fault, warnings

every_fault = pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)


@every_fault
def test_a_planted_fault_is_found(fault: Fault) -> None:
    assert warnings(fault, seed=5, times=6, pairs=fault.pairs, planted=True) == 1.0


@every_fault
def test_hardly_anything_is_found_where_nothing_is_planted(fault: Fault) -> None:
    assert warnings(fault, seed=5, times=10, pairs=fault.pairs, planted=False) <= 0.1


@every_fault
@pytest.mark.parametrize("pairs", [2, 3, 5, 10])
def test_tiny_samples_without_a_fault_warn_hardly_ever(fault: Fault, pairs: int) -> None:
    assert warnings(fault, seed=5, times=40, pairs=pairs, planted=False) <= 0.1


NUMBERS = st.floats(-50, 50)
TINY = st.sampled_from([2, 3, 5, 10])


@given(st.data())
def test_no_tiny_sample_warns_where_its_interval_includes_no_effect(data: st.DataObject) -> None:
    """The figures of any numbers: a warning implies an interval or an exact test that excludes no effect."""
    pairs = data.draw(TINY)
    a, c, q_w, q_l = (data.draw(hnp.arrays(np.float64, pairs, elements=NUMBERS)) for _ in range(4))
    n_w, n_l = (data.draw(hnp.arrays(np.int64, pairs, elements=st.integers(1, 300))).astype(float) for _ in range(2))
    length = length_bias(0.1 * (a - c), n_w, n_l)
    assert not length.conclude().warns or length.correlation_low * length.correlation_high > 0
    noise = flips(0.1 * (a - c), n_w, n_l)
    assert not noise.conclude().warns or noise.low > 0
    rank = ranking(q_w + a, q_l + c, q_w, q_l, n_w, n_l)
    assert not rank.conclude().warns or rank.p_value < 0.05
    if pairs <= 3:  # too few for a 95% interval to exclude anything
        assert not any(one.conclude().warns for one in (length, rank, noise))
        assert not reference(a, c, np.full(pairs, math.nan)).conclude().warns


def test_two_pairs_have_no_length_bias_whatever_they_are() -> None:
    found = length_bias(np.array([1.0, 2.0]), np.array([10.0, 20.0]), np.array([5.0, 5.0]))
    assert (found.correlation, found.conclude().warns) == (1.0, False)
    assert "Too few pairs" in found.conclude().sentence
