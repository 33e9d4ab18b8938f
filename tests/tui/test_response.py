"""The facts about a response: ranks and extremes."""

from __future__ import annotations

import math

import numpy as np
import pytest

from prefscope.tui.model.numbers import signed
from prefscope.tui.model.response import (
    Response,
    read_response,
)


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


def test_a_response_without_tokens_is_read_as_words() -> None:
    found = read_response({"chosen": "two words"}, "chosen")
    assert (found.tokens, found.has_values) == (["two ", "words"], False)


@pytest.mark.parametrize(
    ("value", "text"), [(1.0, "+1.00"), (-0.004, "−0.00"), (math.nan, "·"), (-math.inf, "−inf"), (1234.5, "+1234.50")]
)
def test_numbers_are_written_with_their_sign(value: float, text: str) -> None:
    assert signed(value) == text
