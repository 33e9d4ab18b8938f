"""Plans of batches: within the budget, a random sample first, then the longest first."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from prefscope.scoring.packing import SAMPLE_PAIRS, first_occurrences, pad_batches, plan_order

Integers = NDArray[np.int64]
LENGTHS = st.lists(st.integers(1, 300), max_size=60)


def integers(values: list[int]) -> Integers:
    return np.array(values, dtype=np.int64)


@given(LENGTHS, st.integers(1, 1000))
def test_no_batch_is_over_the_budget_but_a_single_long_sequence(lengths: list[int], budget: int) -> None:
    batches = pad_batches(integers(lengths), budget)
    for batch in set(batches.tolist()):
        members = integers(lengths)[batches == batch]
        assert len(members) * members.max() <= budget or len(members) == 1


@given(LENGTHS, st.integers(1, 1000))
def test_a_batch_is_closed_only_where_the_next_sequence_would_not_fit(lengths: list[int], budget: int) -> None:
    batches = pad_batches(integers(lengths), budget)
    for first in np.flatnonzero(np.diff(batches)) + 1:
        members = integers(lengths)[: first + 1][batches[: first + 1] >= batches[first - 1]]
        assert len(members) * members.max() > budget


@given(LENGTHS)
def test_batches_are_numbered_from_zero_in_the_order_given(lengths: list[int]) -> None:
    batches = pad_batches(integers(lengths), 500).tolist()
    assert batches == sorted(batches)
    assert set(batches) == set(range(len(set(batches))))


def test_batches_are_filled_in_the_order_given() -> None:
    assert pad_batches(integers([4, 4, 4, 9, 1, 1]), 9).tolist() == [0, 0, 1, 2, 3, 3]


@given(LENGTHS, st.integers(0, 2**32 - 1))
def test_the_order_holds_every_sequence_once(lengths: list[int], seed: int) -> None:
    pairs = np.arange(len(lengths), dtype=np.int64) // 2
    assert sorted(plan_order(integers(lengths), pairs, seed).tolist()) == list(range(len(lengths)))


@pytest.fixture(name="many")
def _many() -> tuple[Integers, Integers]:
    """Return lengths and pairs of more sequences than the sample takes."""
    lengths = np.random.default_rng(0).integers(1, 20, size=4 * SAMPLE_PAIRS)
    return lengths, np.arange(len(lengths)) // 2


def test_both_responses_of_a_sample_of_pairs_come_first(many: tuple[Integers, Integers]) -> None:
    lengths, pairs = many
    order = plan_order(lengths, pairs, seed=3)
    sample, counts = np.unique(pairs[order[: 2 * SAMPLE_PAIRS]], return_counts=True)
    assert len(sample) == SAMPLE_PAIRS
    assert (counts == 2).all()


def test_the_sample_is_no_matter_of_length(many: tuple[Integers, Integers]) -> None:
    lengths, pairs = many
    order = plan_order(lengths, pairs, seed=3)
    first, later = order[: 2 * SAMPLE_PAIRS], order[2 * SAMPLE_PAIRS :]
    assert set(lengths[first].tolist()) == set(lengths[later].tolist()) == set(range(1, 20))


def test_the_sample_and_the_rest_go_longest_first_and_equal_lengths_in_order(many: tuple[Integers, Integers]) -> None:
    lengths, pairs = many
    order = plan_order(lengths, pairs, seed=3).tolist()
    for part in (order[: 2 * SAMPLE_PAIRS], order[2 * SAMPLE_PAIRS :]):
        assert part == sorted(part, key=lambda i: (-lengths[i], i))


def test_the_seed_chooses_the_sample(many: tuple[Integers, Integers]) -> None:
    orders = [plan_order(*many, seed).tolist() for seed in (0, 0, 1)]
    assert orders[0] == orders[1]
    assert set(orders[0][: 2 * SAMPLE_PAIRS]) != set(orders[2][: 2 * SAMPLE_PAIRS])


@given(st.lists(st.integers(0, 9), max_size=30))
def test_first_occurrences_are_the_positions_of_a_new_value(values: list[int]) -> None:
    digests = np.array([value.to_bytes(16, "big") for value in values], dtype="V16")
    expected = [i for i, value in enumerate(values) if value not in values[:i]]
    assert first_occurrences(digests).tolist() == expected
