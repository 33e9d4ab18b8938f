"""KL divergences at single positions, from logits of two models."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from prefscope.errors import ModelError
from prefscope.scoring import divergences as module
from prefscope.scoring.divergences import divergences

POLICY_FIRST, REF_FIRST = 0, 1
AUTHORS = [4.185410044, 4.146177568]
"""Position KL of two sequences, by `_tdpo_get_batch_logps` of the code that arXiv 2404.11999 names."""


def exact(policy_logits: Tensor, ref_logits: Tensor) -> Tensor:
    """Return both divergences by the definition, in float64."""
    of_policy, of_ref = (logits.double().log_softmax(-1) for logits in (policy_logits, ref_logits))
    forward = (of_policy.exp() * (of_policy - of_ref)).sum(-1)
    return torch.stack([forward, (of_ref.exp() * (of_ref - of_policy)).sum(-1)], dim=-1)


@pytest.mark.parametrize("vocabulary", [2, 33, 50_257])
def test_both_divergences_equal_their_definition(vocabulary: int) -> None:
    torch.manual_seed(vocabulary)
    policy, ref = 3 * torch.randn(2, 40, vocabulary)
    assert torch.allclose(divergences(policy, ref).double(), exact(policy, ref), rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize("difference", [1e-2, 1e-3, 1e-4])
def test_small_divergences_keep_their_digits_in_float32(difference: float) -> None:
    torch.manual_seed(0)
    policy = 3 * torch.randn(20, 151_936)
    ref = policy + difference * torch.randn_like(policy)
    wanted = exact(policy, ref)
    assert wanted.max() < difference**2
    assert torch.allclose(divergences(policy, ref).double(), wanted, rtol=2e-3, atol=2e-8)


def test_errors_of_a_large_vocabulary_are_not_all_on_one_side() -> None:
    torch.manual_seed(0)
    policy = 3 * torch.randn(60, 151_936)
    ref = policy + torch.randn_like(policy)
    wanted = exact(policy, ref)
    errors = (divergences(policy, ref).double() - wanted) / wanted
    assert errors.mean(0).abs().max() < 3e-7
    assert errors.abs().max() < 3e-6


def test_equal_models_diverge_by_exactly_0() -> None:
    logits = torch.randn(5, 1000)
    assert divergences(logits, logits.clone()).tolist() == [[0.0, 0.0]] * 5


def test_the_sum_over_scored_positions_is_that_of_the_code_of_tdpos_authors() -> None:
    steps = torch.arange(40, dtype=torch.float64)
    policy, ref = (3 * steps.sin()).reshape(2, 4, 5), (2 * steps.cos()).reshape(2, 4, 5)
    scored = torch.tensor([[False, True, True], [True, True, False]])  # for labels -100 -100 3 1 and -100 4 0 -100
    sums = [
        divergences(one[:-1][kept], other[:-1][kept]).sum(0)
        for one, other, kept in zip(policy, ref, scored, strict=True)
    ]
    assert [float(one[REF_FIRST]) for one in sums] == pytest.approx(AUTHORS, abs=1e-8)


def test_tokens_that_both_models_exclude_have_no_share() -> None:
    policy, ref = torch.tensor([[1.0, 2.0, -math.inf, 0.5]]), torch.tensor([[0.5, 1.0, -math.inf, 2.0]])
    without = [0, 1, 3]
    assert torch.allclose(divergences(policy, ref), divergences(policy[:, without], ref[:, without]))


def test_a_token_that_only_one_model_excludes_makes_the_other_divergence_infinite() -> None:
    policy, ref = torch.tensor([[1.0, 2.0, 0.5]]), torch.tensor([[0.5, 1.0, -math.inf]])
    found = divergences(policy, ref)[0]
    assert found[POLICY_FIRST] == math.inf
    assert found[REF_FIRST].item() == pytest.approx(exact(policy, ref.clamp_min(-1e30))[0, REF_FIRST].item())


def test_a_nan_logit_makes_the_divergences_of_its_position_nan() -> None:
    policy = torch.tensor([[1.0, math.nan], [1.0, 2.0]])
    found = divergences(policy, torch.tensor([[0.5, 1.0], [0.5, 1.0]]))
    assert found.isnan().tolist() == [[True, True], [False, False]]


def test_sixteen_bit_logits_give_float32_and_float64_logits_float64() -> None:
    logits = torch.randn(3, 10)
    assert divergences(logits.bfloat16(), logits.bfloat16()).dtype == torch.float32
    assert divergences(logits.double(), logits.double()).dtype == torch.float64


def test_vocabularies_of_different_sizes_are_refused() -> None:
    with pytest.raises(ModelError, match="The policy's vocabulary has 10 entries and the reference's 12"):
        divergences(torch.zeros(1, 10), torch.zeros(1, 12))


def test_positions_are_computed_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    policy, ref = torch.randn(2, 7, 10)
    whole = divergences(policy, ref)
    monkeypatch.setattr(module, "CACHED_LOGITS", 20)
    assert divergences(policy, ref).tolist() == whole.tolist()
