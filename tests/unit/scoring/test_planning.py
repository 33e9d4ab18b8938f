"""Plans of batches: within the budget, prompts kept whole, longest first, after a random sample."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefscope.scoring.packing import pack
from prefscope.scoring.planning import (
    SAMPLE_PAIRS,
    computed_tokens,
    cut_shards,
    draw_sample,
    plan_batches,
    trainer_tokens,
)
from prefscope.scoring.sequences import TokenSequence

packed_or_padded = pytest.mark.parametrize("packed", [True, False], ids=["packed", "padded"])


def sequence(prompt: int, name: int, length: int) -> TokenSequence:
    """Return a response to a prompt of a given length; responses differ from their first token."""
    ids = [prompt] * prompt + [1000 + name] * length
    return TokenSequence(np.array(ids, dtype=np.int32), prompt)


@st.composite
def sequence_lists(draw: st.DrawFn) -> list[TokenSequence]:
    """Return responses to a few prompts."""
    shapes = draw(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 30)), max_size=30))
    return [sequence(10 * prompt, name, length) for name, (prompt, length) in enumerate(shapes)]


def batches_of(sequences: list[TokenSequence], batches: list[int]) -> list[list[TokenSequence]]:
    assert set(batches) == set(range(len(set(batches))))
    return [
        [item for item, at in zip(sequences, batches, strict=True) if at == batch] for batch in sorted(set(batches))
    ]


@packed_or_padded
@given(sequences=sequence_lists(), budget=st.integers(1, 200))
def test_only_a_single_long_sequence_may_exceed_the_budget(
    *, sequences: list[TokenSequence], budget: int, packed: bool
) -> None:
    plan = plan_batches(sequences, packed=packed, batch_tokens=budget).tolist()
    for batch in batches_of(sequences, plan):
        assert computed_tokens(batch, packed=packed) <= budget or len(batch) == 1


@packed_or_padded
@given(sequences=sequence_lists())
def test_longest_sequences_come_first(*, sequences: list[TokenSequence], packed: bool) -> None:
    plan = plan_batches(sequences, packed=packed, batch_tokens=1).tolist()
    whole: Counter[bytes] = Counter()
    for item in sequences:
        prompt = item.token_ids[: item.completion_start].tobytes()
        whole[prompt] += len(item.token_ids) - (item.completion_start if prompt in whole else 0)
    sizes = [
        whole[batch[0].token_ids[: batch[0].completion_start].tobytes()] if packed else len(batch[0].token_ids)
        for batch in batches_of(sequences, plan)
    ]
    assert sizes == sorted(sizes, reverse=True)


@given(sequence_lists())
def test_responses_to_one_prompt_share_a_batch_if_they_fit(sequences: list[TokenSequence]) -> None:
    plan = plan_batches(sequences, packed=True, batch_tokens=30 * 30 + 60).tolist()
    for prompt in {item.completion_start for item in sequences}:
        assert len({at for at, item in zip(plan, sequences, strict=True) if item.completion_start == prompt}) == 1


def test_a_prompt_with_too_many_responses_is_split_and_counted_in_each_batch() -> None:
    sequences = [sequence(50, name, 20) for name in range(6)]
    plan = plan_batches(sequences, packed=True, batch_tokens=100).tolist()
    assert sorted(Counter(plan).values()) == [2, 2, 2]


def test_sequences_on_both_sides_of_a_change_of_rotary_frequencies_are_kept_apart() -> None:
    sequences = [sequence(10, name, length) for name, length in enumerate([5, 30, 6, 31])]
    assert plan_batches(sequences, packed=True, batch_tokens=1000, rope_limit=20).tolist() == [1, 0, 1, 0]


@given(sequence_lists().filter(bool))
def test_packed_tokens_are_counted_with_prefixes_shared_only_if_worthwhile(
    sequences: list[TokenSequence],
) -> None:
    if any(len(item.token_ids) for item in sequences):
        row, counted = len(pack(sequences).token_ids), computed_tokens(sequences, packed=True)
        assert counted <= row <= counted * 33 / 32 + 1


def test_padded_tokens_are_rows_times_the_longest_sequence() -> None:
    assert computed_tokens([sequence(3, 0, 4), sequence(5, 1, 1)], packed=False) == 14


def test_a_trainer_pads_eight_pairs_at_a_time_in_the_order_of_the_data() -> None:
    sequences = [sequence(1, name, name) for name in range(18)]
    assert trainer_tokens(sequences) == 16 * 16 + 2 * 18


def test_a_small_data_set_is_its_own_sample() -> None:
    assert draw_sample(SAMPLE_PAIRS, seed=1).tolist() == list(range(SAMPLE_PAIRS))


def test_the_sample_is_drawn_by_its_seed_without_repetition() -> None:
    first, again, other = (draw_sample(10_000, seed).tolist() for seed in (0, 0, 1))
    assert first == again != other
    assert first == sorted(set(first))
    assert len(first) == SAMPLE_PAIRS


PAIRS = st.lists(st.tuples(st.integers(0, 50), st.booleans()), max_size=40)


@given(PAIRS, st.integers(1, 100), st.integers(1, 10))
def test_shards_are_neighbours_within_the_limits_and_as_many_as_fit(
    pairs: list[tuple[int, bool]], most_tokens: int, most_pairs: int
) -> None:
    tokens = np.array([size for size, _ in pairs], dtype=np.int64)
    begins = np.array([new or i % most_pairs == 0 for i, (_, new) in enumerate(pairs)], dtype=np.bool_)
    numbers = cut_shards(tokens, begins, most_tokens, most_pairs)
    assert len(numbers) == len(pairs)
    steps = np.diff(numbers, prepend=numbers[:1])
    assert set(steps.tolist()) <= {0, 1}
    assert not (steps.astype(bool) & ~begins).any()
    groups = np.cumsum(begins)
    for number in np.unique(numbers):
        members = numbers == number
        assert members.sum() <= most_pairs
        assert tokens[members].sum() <= most_tokens or len(np.unique(groups[members])) == 1
        after = members | ((numbers == number + 1) & (groups == groups[members][-1] + 1))
        assert number == numbers.max() or tokens[after].sum() > most_tokens or after.sum() > most_pairs


def test_pairs_of_a_prompt_stay_together_even_if_they_exceed_a_shard() -> None:
    tokens, begins = np.array([5, 5, 5, 5]), np.array([True, True, False, True])
    assert cut_shards(tokens, begins, most_tokens=8, most_pairs=9).tolist() == [0, 1, 1, 2]
