"""The lower bound of the divergence that kept tokens give, against the exact divergence."""

from __future__ import annotations

import math

import numpy as np
import pytest

from prefscope.preference.kept_tokens import ROUNDING, least_divergence


def kept(logps: np.ndarray, count: int) -> tuple[list[int], list[float]]:
    ids = np.argsort(-logps, kind="stable")[:count]
    return ids.tolist(), logps[ids].astype(np.float16).astype(float).tolist()


def distribution(rng: np.random.Generator, vocabulary: int, scale: float) -> np.ndarray:
    scores: np.ndarray = scale * rng.standard_normal(vocabulary)
    scores -= np.logaddexp.reduce(scores)
    return scores


@pytest.mark.parametrize("apart", [0.01, 0.3, 1.0, 4.0])
@pytest.mark.parametrize("count", [1, 5, 20])
def test_the_bound_never_exceeds_the_divergence(count: int, apart: float) -> None:
    rng = np.random.default_rng(count)
    for _ in range(200):
        policy = distribution(rng, 300, 3.0)
        ref = policy + apart * rng.standard_normal(300)
        ref -= np.logaddexp.reduce(ref)
        exact = float((np.exp(policy) * (policy - ref)).sum())
        assert 0 <= least_divergence(*kept(policy, count), *kept(ref, count)) <= exact + ROUNDING


def test_all_tokens_give_the_divergence_itself() -> None:
    rng = np.random.default_rng(0)
    policy, ref = distribution(rng, 12, 1.0), distribution(rng, 12, 1.0)
    exact = float((np.exp(policy) * (policy - ref)).sum())
    assert least_divergence(*kept(policy, 12), *kept(ref, 12)) == pytest.approx(exact, abs=5e-3)


def test_a_token_that_the_reference_does_not_keep_has_at_most_its_smallest_kept_probability() -> None:
    bound = least_divergence([7], [math.log(0.9)], [1, 2], [math.log(0.5), math.log(0.1)])
    assert bound == pytest.approx(0.9 * math.log(0.9 / 0.1) + 0.1 * math.log(0.1 / 0.9), abs=2e-3)


def test_equal_distributions_have_no_divergence() -> None:
    same = [3, 5], [math.log(0.6), math.log(0.2)]
    assert least_divergence(*same, *same) == pytest.approx(0.0, abs=ROUNDING)


def test_unknown_log_probs_leave_the_bound_unknown() -> None:
    assert math.isnan(least_divergence([1], [math.nan], [1], [-1.0]))
