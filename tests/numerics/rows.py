"""Random packed rows, random queries, keys and values for them, and dense attention over them in float64."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from prefscope.scoring.attention import Attended, attending, packed_attention
from prefscope.scoring.packing import PackedRow, pack
from prefscope.scoring.sequences import TokenSequence


class Layer(nn.Module):
    """The attributes of an attention layer that the attention function uses."""

    is_causal = True


@dataclass(frozen=True)
class Inputs:
    """The arguments that a layer passes to its attention."""

    query: Tensor
    key: Tensor
    value: Tensor
    scaling: float | None = None
    window: int | None = None
    softcap: float | None = None
    sinks: Tensor | None = None


def drawn(
    row: PackedRow,
    *,
    heads: int = 4,
    key_heads: int = 2,
    width: int = 8,
    value_width: int = 8,
    sinks: bool = False,
    dtype: torch.dtype = torch.float32,
    scaling: float | None = None,
    window: int | None = None,
    softcap: float | None = None,
) -> Inputs:
    """Return random inputs for a row, with a scale at which the weights of a query differ much."""
    generator = torch.Generator().manual_seed(0)
    tokens = len(row.token_ids)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    return Inputs(
        query=(1.5 * normal(1, heads, tokens, width)).to(dtype),
        key=(1.5 * normal(1, key_heads, tokens, width)).to(dtype),
        value=normal(1, key_heads, tokens, value_width).to(dtype),
        scaling=scaling,
        window=window,
        softcap=softcap,
        sinks=2 * normal(heads).to(dtype) if sinks else None,
    )


def attended(row: PackedRow, inputs: Inputs) -> Tensor:
    """Return the output of the packed attention. Shape (T, heads, value width)."""
    with attending(Attended.of(row)):
        output, weights = packed_attention(
            Layer(),
            inputs.query,
            inputs.key,
            inputs.value,
            None,
            scaling=inputs.scaling,
            sliding_window=inputs.window,
            softcap=inputs.softcap,
            s_aux=inputs.sinks,
        )
    assert weights is None
    assert output.dtype == inputs.query.dtype
    return output[0]


def dense(row: PackedRow, inputs: Inputs) -> Tensor:
    """Return dense masked attention of every sequence by itself, in float64. Shape (T, heads, value width)."""
    group = inputs.query.shape[1] // inputs.key.shape[1]
    query = inputs.query[0].double()
    key, value = (part[0].double().repeat_interleave(group, 0) for part in (inputs.key, inputs.value))
    scale = inputs.scaling if inputs.scaling is not None else 1 / math.sqrt(query.shape[-1])
    output = torch.full((query.shape[1], query.shape[0], value.shape[-1]), torch.nan, dtype=torch.float64)
    for path in row.paths:
        at = torch.from_numpy(path)
        scores = scale * query[:, at] @ key[:, at].transpose(1, 2)
        if inputs.softcap is not None:
            scores = inputs.softcap * torch.tanh(scores / inputs.softcap)
        behind = torch.arange(len(at))[:, None] - torch.arange(len(at))
        window = inputs.window if inputs.window is not None else len(at)
        scores = scores.masked_fill((behind < 0) | (behind >= window), -math.inf)
        if inputs.sinks is not None:
            sinks = inputs.sinks.double()[:, None, None].expand(-1, len(at), 1)
            weights = torch.cat([scores, sinks], dim=-1).softmax(-1)[..., :-1]
        else:
            weights = scores.softmax(-1)
        output[at] = (weights @ value[:, at]).transpose(0, 1)
    return output


def sequences_of(*lists: list[int]) -> list[TokenSequence]:
    return [TokenSequence(np.array(ids, dtype=np.int32), 1) for ids in lists]


def unrelated(*lengths: int) -> PackedRow:
    """Return a row of unrelated sequences."""
    return pack(sequences_of(*([i] * length for i, length in enumerate(lengths))))


def tree(seed: int = 0, *, prompts: int = 3, responses: int = 4, longest: int = 60) -> PackedRow:
    """Return a row of several prompts, whose responses share many prefixes."""
    generator = np.random.default_rng(seed)
    every: list[NDArray[np.int64]] = []
    for prompt in range(prompts):
        start = np.append(prompt, generator.integers(100, size=generator.integers(1, longest)))
        for _ in range(responses):
            every.append(np.append(start, generator.integers(100, size=generator.integers(1, longest))))
            start = every[-1][: generator.integers(1, len(every[-1]) + 1)]
    return pack([TokenSequence(ids.astype(np.int32), 1) for ids in every])


def deep() -> PackedRow:
    """Return a row in which every sequence continues the previous one: a chain of twelve segments with leaves."""
    chain = list(range(60))
    lists = [[*chain[:stop], 100 + stop, *([7] * 3)] for stop in range(5, 61, 5)]
    return pack(sequences_of(*lists))
