"""Attention with explicit scores: blocks that are computed together give what each gives alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from prefscope.scoring.blocks import (
    FEW_PAIRS,
    MOST_FILLING,
    PAIRS_AT_ONCE,
    QUERY_BLOCK,
    Blocks,
    _groups,
    _single_blocks,
    _together,
    attend_by_blocks,
    blocks_of,
)
from prefscope.scoring.packing import PackedRow, pack
from prefscope.scoring.sequences import TokenSequence

CPU = torch.device("cpu")
HEADS, KEY_HEADS, WIDTH = 4, 2, 16


def forest(prompts: int, prompt_length: int, lengths: tuple[int, ...]) -> PackedRow:
    """Return a row of responses of some lengths to each of some prompts."""
    drawn = np.random.default_rng(0)
    sequences = []
    for _ in range(prompts):
        prompt = drawn.integers(0, 9999, prompt_length)
        for length in lengths:
            ids = np.concatenate([prompt, drawn.integers(0, 9999, length)]).astype(np.int32)
            sequences.append(TokenSequence(ids, prompt_length))
    return pack(sequences)


def together(row: PackedRow, window: int | None) -> list[Blocks]:
    return [_together(group, CPU, window) for group in _groups([*_single_blocks(row, window)])]


@pytest.mark.parametrize(("softcap", "sinks"), [(None, False), (5.0, False), (5.0, True)])
@pytest.mark.parametrize("window", [None, 1, 7, 300])
def test_blocks_together_give_the_attention_of_single_ones(window: int | None, softcap: float, sinks: bool) -> None:
    row = forest(3, 90, (1, 2, 30, 33, 260, 600))
    tokens, drawn = len(row.token_ids), torch.Generator().manual_seed(0)
    query, key, value = (torch.randn((n, tokens, WIDTH), generator=drawn) for n in (HEADS, KEY_HEADS, KEY_HEADS))
    extra = torch.randn(HEADS, generator=drawn) if sinks else None
    single, many = blocks_of(row, CPU, window), together(row, window)
    assert len(many) < len(single) / 2
    found, expected = (attend_by_blocks(one, query, key, value, 0.25, softcap, extra) for one in (many, single))
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6)


def test_filling_never_takes_a_value_of_another_sequence() -> None:
    row = forest(4, 20, (9, 12, 15))
    tokens = len(row.token_ids)
    query, key, value = (torch.ones((1, tokens, WIDTH)) for _ in range(3))
    last = row.paths[-1]
    own = np.setdiff1d(last, np.concatenate(row.paths[:-1]))
    value[:, own] = torch.nan
    found = attend_by_blocks(together(row, None), query, key, value, 1.0, None, None)
    assert torch.isnan(found).any(-1).any(-1).nonzero().flatten().tolist() == own.tolist()


@pytest.mark.parametrize("window", [None, 64])
def test_every_query_is_in_one_block_and_filling_is_limited(window: int | None) -> None:
    row = forest(6, 400, (1, 3, 40, 200, 255, 257, 900, 2000))
    groups = _groups([*_single_blocks(row, window)])
    queries = np.concatenate([block.queries for group in groups for block in group])
    assert np.array_equal(np.sort(queries), np.arange(len(row.token_ids)))
    for group in groups:
        filled = len(group) * max(len(one.queries) for one in group) * max(len(one.keys) for one in group)
        real = sum(len(one.queries) * len(one.keys) for one in group)
        assert len(group) == 1 or filled <= min(PAIRS_AT_ONCE, max(MOST_FILLING * real, FEW_PAIRS))
    assert max(len(block.queries) for group in groups for block in group) == QUERY_BLOCK
