"""A packed row contains every sequence as a path, and shared prefixes only once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefscope.scoring.packing import PackedRow, pack, shared_length
from prefscope.scoring.sequences import TokenSequence

TOKENS = st.lists(st.integers(0, 2), min_size=1, max_size=40)  # few kinds of token, so that much is shared


@st.composite
def sequence_lists(draw: st.DrawFn) -> list[TokenSequence]:
    """Return sequences with many common prefixes, some equal and some a prefix of another."""
    lists = draw(st.lists(TOKENS, min_size=1, max_size=12))
    return [sequence(ids, draw(st.integers(0, len(ids)))) for ids in lists]


def sequence(ids: list[int], start: int = 1) -> TokenSequence:
    return TokenSequence(np.array(ids, dtype=np.int32), start)


def prompt_with(prompt: int, *responses: list[int]) -> list[TokenSequence]:
    return [sequence([9] * prompt + response, prompt) for response in responses]


def tokens_seen(row: PackedRow, index: int) -> list[int]:
    """Return the tokens that a token may attend to: those of its ancestors, and those of its own segment up to it."""
    segment = next(one for one in row.segments if one.start <= index < one.stop)
    seen = list(range(segment.start, index + 1))
    while segment.parent >= 0:
        segment = row.segments[segment.parent]
        seen = [*range(segment.start, segment.stop), *seen]
    tokens: list[int] = row.token_ids[seen].tolist()
    return tokens


@given(sequence_lists())
def test_a_path_spells_its_sequence(sequences: list[TokenSequence]) -> None:
    row = pack(sequences)
    for path, expected in zip(row.paths, sequences, strict=True):
        assert row.token_ids[path].tolist() == expected.token_ids.tolist()
        assert row.positions[path].tolist() == list(range(len(expected.token_ids)))


@given(sequence_lists())
def test_every_token_sees_exactly_its_own_sequence_up_to_itself(sequences: list[TokenSequence]) -> None:
    row = pack(sequences)
    for path, expected in zip(row.paths, sequences, strict=True):
        for place, index in enumerate(path.tolist()):
            assert tokens_seen(row, index) == expected.token_ids[: place + 1].tolist()


@given(sequence_lists())
def test_a_predecessor_is_the_previous_token_of_the_sequence(sequences: list[TokenSequence]) -> None:
    row = pack(sequences)
    for path in row.paths:
        assert row.predecessors[path].tolist() == [-1, *path[:-1].tolist()]


@given(sequence_lists())
def test_a_token_is_scored_if_any_sequence_needs_it(sequences: list[TokenSequence]) -> None:
    row = pack(sequences)
    wanted = [path[item.first_scored :] for path, item in zip(row.paths, sequences, strict=True)]
    assert np.flatnonzero(row.scored).tolist() == np.unique(np.concatenate(wanted)).tolist()


@given(sequence_lists())
def test_the_segments_fill_the_row_and_descendants_follow_without_a_gap(sequences: list[TokenSequence]) -> None:
    row = pack(sequences)
    bounds = [(segment.start, segment.stop) for segment in row.segments]
    assert [start for start, _ in bounds] == [0, *(stop for _, stop in bounds[:-1])]
    assert bounds[-1][1] == len(row.token_ids)
    for number, segment in enumerate(row.segments):
        below = {number}
        for later in range(number + 1, len(row.segments)):
            if row.segments[later].parent in below:
                below.add(later)
        assert segment.subtree_stop == max(row.segments[i].stop for i in below)
        assert below == set(range(number, max(below) + 1))


@given(sequence_lists())
def test_no_row_is_longer_than_its_sequences_together(sequences: list[TokenSequence]) -> None:
    distinct = {item.token_ids.tobytes(): len(item.token_ids) for item in sequences}
    assert len(pack(sequences).token_ids) <= sum(distinct.values())


def test_a_prompt_occurs_once_for_any_number_of_responses() -> None:
    row = pack(prompt_with(50, [1, 2], [3, 4, 5], [6]))
    assert len(row.token_ids) == 50 + 2 + 3 + 1
    assert [segment.parent for segment in row.segments] == [-1, 0, 0, 0]


def test_a_common_prefix_of_two_responses_occurs_once() -> None:
    shared = [1, 2, 3, 4]
    row = pack(prompt_with(10, [*shared, 5, 6], [*shared, 7], [8]))
    assert len(row.token_ids) == 10 + 4 + 2 + 1 + 1
    assert row.scored.sum() == 4 + 2 + 1 + 1


def test_equal_sequences_are_computed_once_and_each_gets_its_own_boundary() -> None:
    row = pack([sequence([1, 2, 3], 2), sequence([1, 2, 3], 1)])
    assert row.token_ids.tolist() == [1, 2, 3]
    assert row.scored.tolist() == [False, True, True]


def test_a_prefix_that_costs_more_than_it_saves_is_not_shared() -> None:
    responses = [[1, *range(100, 400)], [1, *range(500, 800)]]
    assert [segment.parent for segment in pack([sequence(ids) for ids in responses]).segments] == [-1, -1]


@pytest.mark.parametrize(
    ("some", "others", "expected"), [([], [1], 0), ([1, 2], [1, 2], 2), ([1, 2, 3], [1, 2, 4], 2), ([5], [5, 6], 1)]
)
def test_the_shared_length_counts_leading_tokens(some: list[int], others: list[int], expected: int) -> None:
    assert shared_length(np.array(some, dtype=np.int32), np.array(others, dtype=np.int32)) == expected
