"""The facts about a response: ranks, extremes, shares of the margin, and the steps of colour."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefscope.report.token_steps import LEAST_STEPS, LOGRATIO_STEPS, logratio_steps
from prefscope.tui.model.numbers import signed
from prefscope.tui.model.response import (
    Response,
    margin_share,
    read_response,
)
from prefscope.tui.model.session import Session
from tests.tui.pair_app import write_session


def response(*logratios: float) -> Response:
    policy = np.full(len(logratios), -1.0)
    return Response("chosen", ["t"] * len(logratios), policy, policy - np.array(logratios))


def test_ranks_follow_size_then_position_and_nan_ranks_last() -> None:
    assert response(0.5, -2.0, math.nan, 0.5).ranks.tolist() == [2, 1, 4, 3]


def test_extreme_tokens_are_the_strong_and_the_top_ranked_ones() -> None:
    assert response(*[0.1] * 5).extremes.tolist() == [0, 1, 2, 3, 4]
    assert response(*[0.0] * 5, 0.1).extremes.tolist() == [5]
    assert len(response(*[2.0] * 50).extremes) == 50
    assert len(response(*[0.1] * 50).extremes) == 10


@pytest.mark.parametrize(
    ("contributions", "expected"),
    [
        ([0.3, 0.1], (1, 0.75)),
        ([-0.2, -0.2, -0.4, -0.2], (2, 0.6)),
        ([3.0, -2.0], (1, 3.0)),
        ([1.0, -1.0], (0, 0.0)),
        ([math.nan, 1.0], (1, 1.0)),
        ([], (0, 0.0)),
    ],
    ids=["one", "two", "partly cancelled", "no margin", "nan", "none"],
)
def test_the_smallest_number_of_tokens_that_give_half_of_a_margin_is_found(
    contributions: list[float], expected: tuple[int, float]
) -> None:
    assert margin_share(np.array(contributions)) == pytest.approx(expected)


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=50))
def test_some_tokens_always_give_half_of_a_margin(contributions: list[float]) -> None:
    count, share = margin_share(np.array(contributions))
    assert count == 0 or (1 <= count <= len(contributions) and share >= 0.5 - 1e-6)


def test_colour_steps_are_smaller_for_a_policy_that_changed_little(demo: Session, tmp_path: Path) -> None:
    assert logratio_steps(demo.ledger) == (0.068, 0.14, 0.27)
    still = write_session(tmp_path / "still.parquet", [{"chosen": [("a", -1.0, -1.0)], "rejected": []}])
    assert logratio_steps(still.ledger) == LEAST_STEPS
    wild = write_session(tmp_path / "wild.parquet", [{"chosen": [("a", -1.0, -9.0)], "rejected": [("b", -9.0, -1.0)]}])
    assert logratio_steps(wild.ledger) == LOGRATIO_STEPS


@pytest.mark.parametrize("more", [{"has_reference": False}, {"has_tokens": False}])
def test_colour_steps_are_fixed_without_token_log_ratios(tmp_path: Path, more: dict[str, bool]) -> None:
    session = write_session(
        tmp_path / "x.parquet",
        [{}],
        has_reference=more.get("has_reference", True),
        has_tokens=more.get("has_tokens", True),
    )
    assert logratio_steps(session.ledger) == LOGRATIO_STEPS


def test_a_response_without_tokens_is_read_as_words() -> None:
    found = read_response({"chosen": "two words"}, "chosen")
    assert (found.tokens, found.has_values) == (["two ", "words"], False)


@pytest.mark.parametrize(
    ("value", "text"), [(1.0, "+1.00"), (-0.004, "−0.00"), (math.nan, "nan"), (-math.inf, "−inf"), (1234.5, "+1234.50")]
)
def test_numbers_are_written_with_their_sign(value: float, text: str) -> None:
    assert signed(value) == text
