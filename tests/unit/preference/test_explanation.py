"""A margin is divided into parts that add up to it, whatever the reward is."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefscope.preference.explanation import (
    REGIONS,
    Explanation,
    RewardRule,
    ScoredResponse,
    explain_sums,
    explain_tokens,
)

LOGPS = st.floats(-30, 0)
WORDS = st.sampled_from(["a", " b", ".", " C", "\n", "。", "```", "</s>", "\\xe2", ""])
RULES = st.builds(RewardRule, beta=st.floats(0.01, 5), per_token=st.booleans())


def response(tokens: list[str], changes: list[float], *, end: int = 0) -> ScoredResponse:
    """Return a response whose tokens have these log-ratios; the last `end` tokens are not in its text."""
    text = "".join(tokens[: len(tokens) - end])
    return ScoredResponse(text, tokens, np.array(changes) - 1.0, np.full(len(changes), -1.0))


def explain(chosen: ScoredResponse, rejected: ScoredResponse, rule: RewardRule | None = None) -> Explanation:
    found = explain_tokens(chosen, rejected, rule or RewardRule(1.0))
    assert found is not None
    return found


@st.composite
def scored(draw: st.DrawFn, *, with_reference: bool) -> ScoredResponse:
    tokens = draw(st.lists(WORDS, max_size=12))
    some = st.lists(LOGPS, min_size=len(tokens), max_size=len(tokens))
    ref = np.array(draw(some)) if with_reference else None
    cut = draw(st.integers(0, len(tokens)))
    return ScoredResponse("".join(tokens[:cut]), tokens, np.array(draw(some), dtype=np.float64), ref)


@st.composite
def explained(draw: st.DrawFn) -> tuple[ScoredResponse, ScoredResponse, RewardRule]:
    with_reference = draw(st.booleans())
    both = [draw(scored(with_reference=with_reference)) for _ in range(2)]
    return both[0], both[1], draw(RULES)


@given(explained())
def test_every_division_adds_up_to_the_margin(case: tuple[ScoredResponse, ScoredResponse, RewardRule]) -> None:
    chosen, rejected, rule = case
    found = explain(*case)
    assert found.parts is not None
    assert found.length is not None
    margin = float(chosen.terms(rule).sum() - rejected.terms(rule).sum())
    totals = {
        "margin": found.margin,
        "rewards": found.chosen_reward - found.rejected_reward,
        "sentences": math.fsum(one.effect for one in found.parts.sentences),
        "regions": math.fsum(one.effect for one in found.parts.regions),
        "gross": found.parts.plus + found.parts.minus,
        "length": found.length.by_count + found.length.by_mean,
    }
    assert totals == pytest.approx(dict.fromkeys(totals, margin), abs=1e-9)


@given(explained())
def test_sentences_and_regions_cover_every_token_once(case: tuple[ScoredResponse, ScoredResponse, RewardRule]) -> None:
    found = explain(*case)
    assert found.parts is not None
    every = [("chosen", at) for at in range(len(case[0].tokens))] + [
        ("rejected", at) for at in range(len(case[1].tokens))
    ]
    sentences = [(one.span.side, at) for one in found.parts.sentences for at in range(one.span.start, one.span.stop)]
    regions = [
        (span.side, at) for one in found.parts.regions for span in one.spans for at in range(span.start, span.stop)
    ]
    assert sentences == every
    assert sorted(regions) == every
    assert [one.name for one in found.parts.regions] == list(REGIONS)


@given(explained())
def test_exchanging_the_responses_negates_the_parts(case: tuple[ScoredResponse, ScoredResponse, RewardRule]) -> None:
    chosen, rejected, rule = case
    found, turned = explain(chosen, rejected, rule), explain(rejected, chosen, rule)
    assert found.parts is not None
    assert turned.parts is not None
    assert found.length is not None
    assert turned.length is not None
    assert (found.margin, found.length.by_count, found.parts.plus) == pytest.approx(
        (-turned.margin, -turned.length.by_count, -turned.parts.minus), abs=1e-9
    )
    assert [one.effect for one in found.parts.regions] == pytest.approx(
        [-one.effect for one in turned.parts.regions], abs=1e-9
    )


def test_the_regions_are_cut_where_the_responses_differ() -> None:
    chosen = response(["It", " is", " hot", " in", " May", ".", "</s>"], [1, 2, 4, 8, 16, 32, 64], end=1)
    rejected = response(["It", " was", " May", ".", "</s>"], [1, 3, 5, 7, 9], end=1)
    found = explain(chosen, rejected)
    assert found.parts is not None
    assert {one.name: one.effect for one in found.parts.regions} == {
        "shared beginning": 0.0,
        "first difference": 2 - 3,
        "middle": 4 + 8,
        "shared ending": (16 + 32) - (5 + 7),
        "end token": 64 - 9,
    }


def test_a_response_that_begins_the_other_has_no_first_difference_of_its_own() -> None:
    found = explain(
        response(["Yes", "</s>"], [1, 2], end=1), response(["Yes", " of", " course", "</s>"], [1, 4, 8, 16], end=1)
    )
    assert found.parts is not None
    assert [one.effect for one in found.parts.regions] == [0.0, -4.0, -8.0, 0.0, -14.0]


def test_sentences_are_numbered_in_each_response_and_the_end_token_stands_apart() -> None:
    chosen = response(["One", ".", " Two", ".", "</s>", "\n"], [1, 2, 4, 8, 16, 32], end=2)
    found = explain(chosen, response(["No"], [5]))
    assert found.parts is not None
    assert [(one.number, one.text, one.effect) for one in found.parts.sentences] == [
        (1, "One.", 3.0),
        (2, " Two.", 12.0),
        (None, "</s>\n", 48.0),
        (1, "No", -5.0),
    ]


def test_length_is_what_the_difference_in_tokens_is_worth_at_their_mean_reward() -> None:
    found = explain(response(["a"] * 4, [0.5] * 4), response(["b"] * 2, [0.1] * 2)).length
    assert found is not None
    assert (found.mean, found.by_count, found.by_mean) == pytest.approx((0.3, 0.3 * 2, 3 * (0.5 - 0.1)))


def test_a_reward_per_token_has_no_part_by_length() -> None:
    found = explain(response(["a"] * 4, [0.5] * 4), response(["b"], [0.1]), RewardRule(2.0, per_token=True))
    assert found.length is not None
    assert (found.margin, found.length.by_count) == pytest.approx((2 * (0.5 - 0.1), 0.0))


def test_without_a_reference_a_token_gives_its_log_prob() -> None:
    one = ScoredResponse("a", ["a", "b"], np.array([-1.0, -3.0]))
    other = ScoredResponse("c", ["c"], np.array([-5.0]))
    found = explain(one, other, RewardRule(2.0, per_token=True))
    assert (found.has_reference, found.margin, found.rejected_reward) == (False, 6.0, -10.0)


@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_a_pair_with_a_log_prob_that_is_not_finite_is_not_explained(value: float) -> None:
    assert explain_tokens(response(["a"], [value]), response(["b"], [1.0]), RewardRule()) is None
    assert explain_sums((value, 1.0), None, RewardRule(), has_reference=True) is None


def test_sums_alone_give_the_margin_and_its_length_but_no_parts() -> None:
    found = explain_sums((2.0, -1.0), (4, 2), RewardRule(), has_reference=True)
    assert found is not None
    assert found.length is not None
    assert (found.margin, found.parts, found.length.by_count) == (3.0, None, 0.0)
    unknown = explain_sums((2.0, -1.0), None, RewardRule(), has_reference=True)
    assert unknown is not None
    assert unknown.length is None
