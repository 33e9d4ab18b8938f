"""Plans which sequences share a forward pass.

Planning is arithmetic on token ids. A seeded random sample of the data set is scored first, so that early figures are
representative; the other pairs follow in order. Both are cut into shards of consecutive pairs, which limits memory and
lets workers share the data set. Within a shard, the longest sequences come first, so that running out of memory and too
long estimates show early. This module does not import torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from prefscope.scoring.packing import shared_length
from prefscope.scoring.sequences import TokenSequence

SAMPLE_PAIRS = 256
TRAINER_ROWS = 16
"""Rows of a trainer's evaluation batch by default: chosen and rejected of 8 pairs."""


def draw_sample(pairs: int, seed: int) -> NDArray[np.int64]:
    """Return the numbers of the pairs to score first, ascending; for small data sets, all pairs."""
    if pairs <= SAMPLE_PAIRS:
        return np.arange(pairs)
    return np.sort(np.random.default_rng(seed).choice(pairs, SAMPLE_PAIRS, replace=False)).astype(np.int64)


def plan_batches(
    sequences: Sequence[TokenSequence], *, packed: bool, batch_tokens: int, rope_limit: int | None = None
) -> NDArray[np.int32]:
    """Assign each sequence to a batch, and return the numbers of the batches.

    A batch does not exceed the budget, except for a single sequence that is longer than the budget.

    Args:
        sequences: The sequences to assign, without repetition.
        packed: Whether the forward pass packs, so that sequences with the same prompt should share a batch, or pads.
        batch_tokens: The budget: tokens of the packed row, or of the padded rows.
        rope_limit: Sequences longer than this are not mixed with shorter ones, because a model with two sets of rotary
            frequencies would compute the shorter ones with the set for the longer.
    """
    batches = np.empty(len(sequences), dtype=np.int32)
    number = -1
    fill = _fill_packed if packed else _fill_padded
    for members in _by_rope(sequences, rope_limit):
        for batch in fill(sequences, members, batch_tokens):
            number += 1
            batches[batch] = number
    return batches


def shuffled_batches(
    sequences: Sequence[TokenSequence],
    *,
    packed: bool,
    batch_tokens: int,
    rope_limit: int | None = None,
    seed: int = 0,
) -> Iterator[list[int]]:
    """Yield random batches of sequences, given by number, which differ from those of `plan_batches`.

    The arguments are those of `plan_batches`; responses to one prompt are not kept together.
    """
    random = np.random.default_rng(seed)
    for members in _by_rope(sequences, rope_limit):
        batch: list[int] = []
        for i in random.permutation(members).tolist():
            lengths = [len(sequences[j].token_ids) for j in (*batch, i)]
            if batch and (sum(lengths) if packed else len(lengths) * max(lengths)) > batch_tokens:
                yield batch
                batch = []
            batch.append(i)
        if batch:
            yield batch


def _by_rope(sequences: Sequence[TokenSequence], rope_limit: int | None) -> Iterable[list[int]]:
    """Return groups of sequences that may share a batch, given by number."""
    everyone = range(len(sequences))
    if rope_limit is None:
        return [list(everyone)]
    beyond = [i for i in everyone if len(sequences[i].token_ids) > rope_limit]
    within = [i for i in everyone if len(sequences[i].token_ids) <= rope_limit]
    return [members for members in (beyond, within) if members]


def _fill_padded(sequences: Sequence[TokenSequence], members: list[int], batch_tokens: int) -> Iterator[list[int]]:
    """Yield batches of sequences of similar length, the longest first."""
    batch: list[int] = []
    for i in sorted(members, key=lambda i: -len(sequences[i].token_ids)):
        if batch and (len(batch) + 1) * len(sequences[batch[0]].token_ids) > batch_tokens:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def _fill_packed(sequences: Sequence[TokenSequence], members: list[int], batch_tokens: int) -> Iterator[list[int]]:
    """Yield batches of whole prompts with all their responses, the longest first; prompts over the budget are split."""
    prompts: dict[bytes, list[int]] = {}
    for i in members:
        prompts.setdefault(sequences[i].token_ids[: sequences[i].completion_start].tobytes(), []).append(i)
    costed = [_costs(sequences, responses) for responses in prompts.values()]
    batch: list[int] = []
    tokens = 0
    for responses in sorted(costed, key=lambda responses: -sum(cost for _, cost in responses)):
        whole = sum(cost for _, cost in responses)
        if batch and tokens + whole > batch_tokens:
            yield batch
            batch, tokens = [], 0
        for i, cost in responses:
            added = cost
            if batch and tokens + cost > batch_tokens:
                yield batch
                batch, tokens, added = [], 0, len(sequences[i].token_ids)
            batch.append(i)
            tokens += added
    if batch:
        yield batch


def _costs(sequences: Sequence[TokenSequence], members: list[int]) -> list[tuple[int, int]]:
    """Return sequences in the order of their tokens, and the number of tokens not shared with the previous one."""
    order = sorted(members, key=lambda i: sequences[i].token_ids.astype(">i4").tobytes())
    costs = [len(sequences[order[0]].token_ids)]
    for before, i in pairwise(order):
        ids = sequences[i].token_ids
        costs.append(len(ids) - shared_length(sequences[before].token_ids, ids))
    return list(zip(order, costs, strict=True))


def computed_tokens(sequences: Sequence[TokenSequence], *, packed: bool) -> int:
    """Return the number of tokens that a batch computes: those of its prefix tree, or of its rows including padding."""
    if packed:
        return sum(cost for _, cost in _costs(sequences, list(range(len(sequences)))))
    return len(sequences) * max(len(sequence.token_ids) for sequence in sequences)


def trainer_tokens(sequences: Iterable[TokenSequence]) -> int:
    """Return the number of tokens that a trainer's evaluation computes: rows in order, padded batch by batch."""
    lengths = [len(sequence.token_ids) for sequence in sequences]
    return sum(len(rows) * max(rows) for rows in _chunked(lengths, TRAINER_ROWS))


def _chunked(lengths: list[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(lengths), size):
        yield lengths[start : start + size]


def cut_shards(
    tokens: NDArray[np.int64], begins: NDArray[np.bool_], most_tokens: int, most_pairs: int
) -> NDArray[np.int32]:
    """Assign pairs to shards of consecutive pairs, which are cut only where a new prompt begins.

    Args:
        tokens: Tokens of both sequences of each pair, shape (pairs,).
        begins: Whether a pair has another prompt than the previous pair, shape (pairs,).
        most_tokens: Token limit of a shard; the pairs of a single prompt may exceed it.
        most_pairs: Pair limit of a shard; the pairs of a single prompt are split at this number.
    """
    heads = np.flatnonzero(begins | (np.arange(len(tokens)) % most_pairs == 0))
    sizes = np.add.reduceat(tokens, heads) if len(heads) else tokens
    counts = np.diff([*heads, len(tokens)])
    numbers = np.empty(len(heads), dtype=np.int32)
    number, filled, held = 0, 0, 0
    for i, (size, count) in enumerate(zip(sizes.tolist(), counts.tolist(), strict=True)):
        if held and (filled + size > most_tokens or held + count > most_pairs):
            number, filled, held = number + 1, 0, 0
        numbers[i] = number
        filled, held = filled + size, held + count
    return np.repeat(numbers, counts)
