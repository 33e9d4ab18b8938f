"""Top tokens, entropy and rank from logits, compared with float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from prefscope.scoring.alternatives import TopTokens
from prefscope.scoring.logps import token_logps, token_logps_and_collisions

COUNT = 4


def example(vocabulary: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(vocabulary)
    logits = 3 * torch.randn(40, vocabulary, generator=generator)
    return logits.to(dtype), torch.randint(vocabulary, (40,), generator=generator)


def parts(found: Tensor, first: int = 1) -> tuple[list[float], list[int], list[list[int]], Tensor]:
    """Return entropies, ranks, ids and log-probs of the top tokens."""
    ids = slice(first + 2, first + 2 + COUNT)
    return (
        found[:, first].tolist(),
        found[:, first + 1].int().tolist(),
        found[:, ids].int().tolist(),
        found[:, first + 2 + COUNT :],
    )


@pytest.mark.parametrize("vocabulary", [7, 501, 60_013])
def test_top_tokens_entropies_and_ranks_equal_those_of_a_full_softmax(vocabulary: int) -> None:
    logits, ids = example(vocabulary)
    logps = logits.double().log_softmax(-1)
    ordered = logps.argsort(dim=-1, descending=True, stable=True)
    entropies, ranks, top, top_logps = parts(TopTokens(COUNT)(logits, ids))
    assert entropies == pytest.approx((-(logps.exp() * logps).sum(-1)).tolist(), abs=2e-5)
    assert ranks == [1 + row.tolist().index(token) for row, token in zip(ordered, ids.tolist(), strict=True)]
    assert top == ordered[:, :COUNT].tolist()
    assert torch.allclose(top_logps.double(), logps.gather(-1, ordered[:, :COUNT]), rtol=0, atol=2e-5)


@pytest.mark.parametrize("first", [token_logps, token_logps_and_collisions])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_was_measured_before_is_bit_identical(first: object, dtype: torch.dtype) -> None:
    logits, ids = example(3000, dtype)
    plain = token_logps(logits, ids)[:, None] if first is token_logps else token_logps_and_collisions(logits, ids)
    measure = TopTokens(COUNT, token_logps if first is token_logps else token_logps_and_collisions)
    assert torch.equal(measure(logits, ids)[:, : plain.shape[1]], plain)


def test_of_equally_probable_tokens_those_with_the_lowest_ids_are_kept_and_share_a_rank() -> None:
    logits = torch.zeros(3, 5000)
    logits[0, [4999, 1200, 30]] = 2.0
    logits[1, 4000] = 1.0
    logits[2, 17] = -1.0
    _, ranks, top, _ = parts(TopTokens(COUNT)(logits, torch.tensor([7, 4999, 17])))
    assert top == [[30, 1200, 4999, 0], [4000, 0, 1, 2], [0, 1, 2, 3]]
    assert ranks == [4, 2, 5000]


def test_masked_tokens_have_no_share_in_the_entropy() -> None:
    logits = torch.full((1, 4096), -torch.inf)
    logits[0, [5, 9]] = 1.0
    entropies, ranks, top, top_logps = parts(TopTokens(COUNT)(logits, torch.tensor([100])))
    assert entropies == pytest.approx([math.log(2)], abs=1e-6)
    assert (ranks, top) == ([3], [[5, 9, 0, 1]])
    assert top_logps[0].tolist() == pytest.approx([-math.log(2), -math.log(2), -math.inf, -math.inf], abs=1e-6)


def test_a_nan_logit_leaves_entropy_and_rank_unknown() -> None:
    logits = torch.zeros(1, 4096)
    logits[0, 77] = torch.nan
    entropies, ranks, _, _ = parts(TopTokens(COUNT)(logits, torch.tensor([3])))
    assert math.isnan(entropies[0])
    assert ranks == [0]


def test_a_vocabulary_smaller_than_the_count_leaves_places_empty() -> None:
    _, ranks, top, top_logps = parts(TopTokens(COUNT)(torch.tensor([[0.0, 1.0]]), torch.tensor([0])))
    assert (ranks, top) == ([2], [[1, 0, -1, -1]])
    assert top_logps[0, 2:].tolist() == [-math.inf, -math.inf]


def test_float64_logits_give_float64_numbers() -> None:
    logits, ids = example(50)
    assert TopTokens(COUNT)(logits.double(), ids).dtype == torch.float64
