"""Label noise: the fit to margins, the posteriors, and planted flips that are found."""

from __future__ import annotations

import math
from pathlib import Path

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from prefscope.ledger.table import load_ledger
from prefscope.ledger.view import View
from prefscope.preference.diagnostics import Flips, fit_noise, flip_posteriors, flips, suspicion
from prefscope.settings import PreferenceSettings

MARGINS = hnp.arrays(np.float64, st.integers(1, 30), elements=st.floats(-50, 50))


def values(*numbers: float) -> NDArray[np.float64]:
    return np.array(numbers, dtype=np.float64)


def sigma(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_the_flip_posterior_is_bayes_rule() -> None:
    """ρ = 0.1·σ(−m)/(0.1·σ(−m) + 0.9·σ(m)) at m = −1."""
    expected = 0.1 * sigma(1) / (0.1 * sigma(1) + 0.9 * sigma(-1))
    assert flip_posteriors(values(-1.0), 0.1) == pytest.approx([expected])


def test_the_flip_posterior_never_overflows() -> None:
    assert flip_posteriors(values(-1e300, 1e300, -math.inf), 0.1).tolist() == [1.0, 0.0, 1.0]


@given(MARGINS)
def test_an_em_step_leaves_the_estimated_noise_unchanged(margins: NDArray[np.float64]) -> None:
    fit = fit_noise(margins)
    if 0 < fit.noise < 0.5:
        posteriors = flip_posteriors(np.clip(margins * fit.scale, -700, 700), fit.noise)
        assert float(posteriors.mean()) == pytest.approx(fit.noise, abs=1e-5)


@given(MARGINS.map(lambda margins: margins.round(3)), st.sampled_from([1e-3, 0.1, 7.0, 1e4]))
def test_the_size_of_the_margins_does_not_change_the_noise(margins: NDArray[np.float64], times: float) -> None:
    one, other = fit_noise(margins), fit_noise(times * margins)
    assert other.noise == pytest.approx(one.noise, abs=1e-6)
    assert (other.low, other.high) == pytest.approx((one.low, one.high), abs=1e-6)
    if np.abs(margins).max() > 0:
        assert other.scale * times == pytest.approx(one.scale)


def test_margins_that_agree_with_their_labels_have_no_noise() -> None:
    assert fit_noise(values(1, 2, 3, -0.1)).noise == 0.0


def found_in(margins: NDArray[np.float64]) -> Flips:
    """Return the finding for pairs whose responses are equally long."""
    return flips(margins, np.zeros(margins.size), np.zeros(margins.size))


SURE = np.concatenate([np.linspace(5, 40, 90), np.linspace(-10, -35, 10)])
"""Margins of 90 pairs that are surely right and 10 that are surely wrong."""


def test_a_share_of_sure_mistakes_is_the_noise() -> None:
    fit = fit_noise(SURE)
    assert fit.noise == pytest.approx(0.1, abs=2e-3)
    assert 0.03 < fit.low < 0.1 < fit.high < 0.2


def test_margins_of_one_size_cannot_tell_noise_from_scale_and_the_interval_says_so() -> None:
    found = found_in(values(*[30.0] * 90, *[-30.0] * 10))
    assert found.low == 0.0
    assert not found.conclude().warns


def simulated(draw: np.random.Generator, noise: float, scale: float) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return margins of 3,000 pairs whose labels follow Bradley and Terry, and which labels were flipped."""
    gaps = draw.normal(0, 3, 3000)
    gaps = np.where(draw.random(3000) < 1 / (1 + np.exp(-gaps)), gaps, -gaps)
    flipped = draw.random(3000) < noise
    return scale * np.where(flipped, -gaps, gaps), flipped


@pytest.mark.parametrize("scale", [0.05, 0.5, 2.0, 10.0])
@pytest.mark.parametrize("noise", [0.0, 0.02, 0.05, 0.1, 0.2])
def test_planted_flips_are_recovered_within_3_points_whatever_the_size_of_the_margins(
    noise: float, scale: float
) -> None:
    for seed in range(3):
        margins, flipped = simulated(np.random.default_rng(seed), noise, scale)
        found = found_in(margins)
        assert abs(found.noise - flipped.mean()) <= 0.03
        suspected = flip_posteriors(margins, found.assumed, found.scale) > 0.5
        assert found.suspects == suspected.sum()
        if noise >= 0.05:
            assert flipped[suspected].mean() > 0.6
            assert found.conclude().warns == (found.noise > 0.05)


def test_without_flips_nothing_is_claimed() -> None:
    warned = [found_in(simulated(np.random.default_rng(seed), 0.0, 0.1)[0]).conclude().warns for seed in range(20)]
    assert warned == [False] * 20


def test_few_pairs_do_not_warn_where_no_flips_are_as_likely() -> None:
    found = found_in(values(0.3, 0.2, 0.4, -0.1, 0.1))
    assert found.low == 0.0
    assert not found.conclude().warns


def test_the_demo_names_its_flipped_labels(samples: Path) -> None:
    ledger = load_ledger(samples / "demo.parquet")
    margins = View(ledger, PreferenceSettings()).column("margins")
    suspected = set(ledger.stored["row"][suspicion(margins) > 0.5].tolist())
    assert {115, 147} <= suspected
    assert len(suspected) <= 12


@pytest.mark.parametrize("share", [0.05, 0.1, 0.2])
def test_flips_put_into_the_demo_are_within_the_interval_and_most_suspects_are_flipped(
    samples: Path, share: float
) -> None:
    """Real margins with some pairs exchanged; the few that were wrong before count as flipped, too."""
    margins = View(load_ledger(samples / "demo.parquet"), PreferenceSettings()).column("margins")
    for seed in range(3):
        flipped = np.random.default_rng(seed).permutation(margins.size) < round(share * margins.size)
        exchanged = np.where(flipped, -margins, margins)
        fit, wrong = fit_noise(exchanged), flipped ^ (margins < -0.05)
        assert fit.low < wrong.mean() < fit.high
        suspected = fit.posteriors(exchanged) > 0.5
        assert wrong[suspected].mean() > 0.6
        assert suspected[wrong].mean() > 0.3


def test_pairs_more_likely_flipped_than_not_are_counted() -> None:
    found = found_in(SURE)
    assert (found.pairs, found.suspects) == (100, 10)
    assert found.threshold == pytest.approx(math.log(found.noise / (1 - found.noise)) / found.scale)
    assert found.conclude().warns


def test_without_noise_posteriors_still_assume_one_flip_in_a_hundred() -> None:
    found = found_in(values(1, 2))
    assert (found.noise, found.assumed, found.suspects, found.conclude().warns) == (0.0, 0.01, 0, False)
    assert "up to 50% flipped labels fit" in found.conclude().sentence


def test_a_policy_that_equals_its_reference_says_nothing_about_labels() -> None:
    found = found_in(np.zeros(50))
    assert (found.low, found.suspects, found.conclude().warns) == (0.0, 0, False)


# Length


def with_lengths(
    draw: np.random.Generator, noise: float, *, rewarded: float, preferred: float, pairs: int = 3000
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Return margins, differences in length and flipped labels, for a policy and for labels that reward length."""
    quality = draw.normal(0, 3, pairs)
    longer = draw.normal(0, 1, pairs) * np.exp(draw.normal(0, 0.7, pairs))  # a few pairs differ much
    right = draw.random(pairs) < 1 / (1 + np.exp(-(quality + preferred * longer)))
    flipped = draw.random(pairs) < noise
    sign = np.where(right ^ flipped, 1, -1)
    return 0.05 * sign * (quality + rewarded * longer), 100 * sign * longer, flipped


@pytest.mark.parametrize(("rewarded", "preferred"), [(3.0, 0.0), (0.0, 3.0), (3.0, 3.0)])
@pytest.mark.parametrize("noise", [0.0, 0.1, 0.2])
def test_the_noise_is_recovered_whoever_prefers_long_responses(noise: float, rewarded: float, preferred: float) -> None:
    for seed in range(2):
        margins, longer, flipped = with_lengths(
            np.random.default_rng(seed), noise, rewarded=rewarded, preferred=preferred
        )
        assert abs(fit_noise(margins, longer).noise - flipped.mean()) <= 0.03


def test_a_policy_that_rewards_length_looks_like_noise_without_the_correction() -> None:
    margins, longer, _ = with_lengths(np.random.default_rng(0), 0.0, rewarded=3.0, preferred=0.0)
    assert fit_noise(margins).noise > 0.15
    assert flips(margins, longer, np.zeros(longer.size)).noise < 0.01


def test_length_that_explains_no_label_is_left_alone() -> None:
    margins, longer, _ = with_lengths(np.random.default_rng(0), 0.05, rewarded=0.0, preferred=0.0)
    assert fit_noise(margins, longer) == fit_noise(margins)


def test_a_pair_of_unknown_length_keeps_its_margin() -> None:
    margins, longer, _ = with_lengths(np.random.default_rng(0), 0.05, rewarded=3.0, preferred=0.0)
    longer[0] = math.nan
    fit = fit_noise(margins, longer)
    assert fit.per_token != 0
    assert fit.posteriors(margins, longer)[0] == flip_posteriors(margins, fit.assumed, fit.scale)[0]
