"""Figures of a training that is followed step by step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from prefscope.ledger.table import Ledger, load_ledger
from prefscope.report.followed import Followed
from prefscope.settings import PreferenceSettings


@pytest.fixture
def ledger(write_pairs: Callable[..., Path]) -> Callable[[float], Ledger]:
    """Return a function that writes a ledger of four pairs around a margin, in nats, half of them held out."""

    def write(gap: float) -> Ledger:
        pairs = [{"logps": (gap + more, 0.0, 0.0, 0.0), "pair_id": str(more)} for more in (-1.5, -0.5, 0.5, 1.5)]
        extra = {"split": ("text", ["train", "test", "train", "test"])}
        return load_ledger(write_pairs(pairs, extra=extra, name=f"{gap}.parquet"))

    return write


def test_steps_are_in_the_order_of_training_whichever_came_first(ledger: Callable[[float], Ledger]) -> None:
    followed = Followed(PreferenceSettings(), "split")
    for step, gap in ((300, 2.0), (100, 0.0), (200, 1.0), (100, -1.0)):
        followed.add(ledger(gap), step)
    assert [(one.step, round(one.margin.value, 6)) for one in followed.training.figures] == [
        (100, -0.1),
        (200, 0.1),
        (300, 0.2),
    ]
    assert [one.step for one in followed.training.subsets["test"]] == [100, 200, 300]


def test_what_is_logged_is_the_step_that_was_added_last(ledger: Callable[[float], Ledger]) -> None:
    followed = Followed(PreferenceSettings(), "split")
    followed.add(ledger(2.0), 300)
    followed.add(ledger(0.0), 100)
    logs = followed.logged()
    assert logs["prefscope/accuracy"] == 0.5
    assert logs["prefscope/split=test/rewards_chosen"] == pytest.approx(0.05)
    assert [*followed.lines(2.0)] == [
        "step 100: 50.0% (15–85) right, margin +0.000, rewards +0.000 and +0.000, 2.0 s",
    ]
