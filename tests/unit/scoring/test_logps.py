"""Sequence log-probs compared with a naive log-softmax."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from prefscope.scoring.logps import IGNORE_INDEX, sequence_log_prob, token_logps, token_logps_and_collisions


def naive(logits: Tensor, labels: Tensor) -> list[float]:
    """Return the summed log-probs, token by token in float64."""
    logps = logits.double().log_softmax(-1)
    return [
        sum(
            (
                logps[row, t - 1, labels[row, t]].item()
                for t in range(1, labels.shape[1])
                if labels[row, t] != IGNORE_INDEX
            ),
            0.0,
        )
        for row in range(len(labels))
    ]


def example(batch: int, length: int, vocabulary: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return random logits in float64, and labels of which a random half is not scored."""
    generator = torch.Generator().manual_seed(seed)
    logits = 5 * torch.randn(batch, length, vocabulary, generator=generator, dtype=torch.float64)
    labels = torch.randint(vocabulary, (batch, length), generator=generator)
    ignored = torch.rand(batch, length, generator=generator) < 0.5
    return logits, labels.masked_fill(ignored, IGNORE_INDEX)


@pytest.mark.parametrize("shape", [(1, 2, 2), (3, 17, 40), (5, 1, 7), (2, 64, 501)])
def test_float64_logits_match_naive_sums(shape: tuple[int, int, int]) -> None:
    logits, labels = example(*shape)
    assert sequence_log_prob(logits, labels).tolist() == pytest.approx(naive(logits, labels), abs=1e-10)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float16, 1e-4), (torch.bfloat16, 1e-4)])
def test_narrow_logits_are_summed_in_a_wider_dtype(dtype: torch.dtype, tolerance: float) -> None:
    logits, labels = example(3, 17, 40)
    narrow = logits.to(dtype)
    sums = sequence_log_prob(narrow, labels)
    assert sums.dtype == torch.float64
    assert sums.tolist() == pytest.approx(naive(narrow, labels), abs=tolerance)


def test_the_logits_at_a_position_predict_the_next_token() -> None:
    logits = torch.full((1, 3, 4), -50.0, dtype=torch.float64)
    logits[0, 0, 2] = logits[0, 1, 3] = 50.0
    labels = torch.tensor([[1, 2, 3]])
    assert sequence_log_prob(logits, labels).item() == pytest.approx(0.0, abs=1e-12)


def test_ignored_labels_do_not_count() -> None:
    logits, labels = example(1, 6, 9)
    labels[:] = IGNORE_INDEX
    labels[0, 4] = 7
    assert sequence_log_prob(logits, labels).item() == pytest.approx(logits[0, 3].log_softmax(-1)[7].item(), abs=1e-12)


def test_a_sequence_without_labels_sums_to_zero() -> None:
    logits, labels = example(2, 6, 9)
    labels[1] = IGNORE_INDEX
    assert sequence_log_prob(logits, labels)[1].item() == 0.0


def test_no_logits_predict_the_first_label() -> None:
    logits, labels = example(1, 6, 9)
    labels[0, 0] = 3
    other = labels.clone()
    other[0, 0] = IGNORE_INDEX
    assert torch.equal(sequence_log_prob(logits, labels), sequence_log_prob(logits, other))


@pytest.mark.parametrize("constant", [-300.0, 0.5, 1e4])
def test_adding_a_constant_to_all_logits_changes_nothing(constant: float) -> None:
    logits, labels = example(3, 17, 40)
    expected = sequence_log_prob(logits, labels).tolist()
    assert sequence_log_prob(logits + constant, labels).tolist() == pytest.approx(expected, abs=1e-9)


def test_the_sum_has_the_gradient_of_the_naive_sum() -> None:
    logits, labels = example(2, 9, 11)
    labels[:, 1] = 4
    logits.requires_grad_()
    scored = labels[:, 1:] != IGNORE_INDEX
    targets = labels[:, 1:].clamp(min=0).unsqueeze(-1)
    naive_sum = (logits[:, :-1].log_softmax(-1).gather(-1, targets).squeeze(-1) * scored).sum()
    (ours,) = torch.autograd.grad(sequence_log_prob(logits, labels).sum(), logits)
    (theirs,) = torch.autograd.grad(naive_sum, logits)
    assert torch.allclose(ours, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", [(2, 5), (3, 6), (2,)])
def test_logits_and_labels_of_different_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"logits \(2, 6, 9\) and labels .* do not match"):
        sequence_log_prob(torch.zeros(2, 6, 9), torch.zeros(shape, dtype=torch.long))


def test_a_token_with_a_logit_of_minus_infinity_has_no_finite_log_prob() -> None:
    logits = torch.tensor([[0.0, -torch.inf]])
    assert token_logps(logits, torch.tensor([1])).item() == -torch.inf


def test_token_log_probs_of_half_precision_logits_are_float32() -> None:
    assert token_logps(torch.zeros(1, 4, dtype=torch.bfloat16), torch.tensor([1])).dtype == torch.float32


@pytest.mark.parametrize("vocabulary", [2, 2048, 32_000, 50_257, 60_013, 151_936], ids="{:,} tokens".format)
def test_float32_sums_over_a_large_vocabulary_are_unbiased(vocabulary: int) -> None:
    """Half of a normal distribution's scores are near its mean, so that many terms add up to the denominator."""
    generator = torch.Generator().manual_seed(vocabulary)
    logits = 3 * torch.randn(64, vocabulary, generator=generator)
    ids = torch.randint(vocabulary, (64,), generator=generator)
    expected = logits.double().log_softmax(-1).gather(-1, ids[:, None])[:, 0]
    errors = token_logps(logits, ids).double() - expected
    assert errors.abs().max() < 5e-6
    assert errors.mean().abs() < 6e-7


def test_sums_of_squared_probabilities_have_float64_precision() -> None:
    logits = 3 * torch.randn(64, 32_000, generator=torch.Generator().manual_seed(0))
    logps = logits.double().log_softmax(-1)
    found = token_logps_and_collisions(logits, torch.zeros(64, dtype=torch.long))
    assert found[:, 0].tolist() == pytest.approx(logps[:, 0].tolist(), abs=5e-6)
    assert found[:, 1].tolist() == pytest.approx((2 * logps).logsumexp(-1).tolist(), abs=1e-5)


@pytest.mark.parametrize("barred", [-torch.inf, torch.finfo(torch.float32).min], ids=["minus infinity", "least number"])
def test_masked_tokens_do_not_count(barred: float) -> None:
    logits = torch.full((1, 8192), barred)
    logits[0, 5000:5004] = 1.0
    assert token_logps(logits, torch.tensor([5001])).item() == pytest.approx(-math.log(4), abs=1e-6)


def test_a_nan_logit_makes_the_log_prob_nan() -> None:
    logits = torch.zeros(2, 8192)
    logits[0, 7000] = torch.nan
    assert token_logps(logits, torch.tensor([3, 3])).isnan().tolist() == [True, False]
