"""The figures of a training and the alarms that they give."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from prefscope.errors import UsageError
from prefscope.ledger.table import Ledger, load_ledger
from prefscope.ledger.view import View
from prefscope.report.alarms import alarms
from prefscope.report.compare_page import page
from prefscope.report.compared import compare_runs
from prefscope.report.course_plots import Line, draw_lines, legend, lines_of
from prefscope.report.training import Estimate, Training, correlation, training
from prefscope.settings import PreferenceSettings
from prefscope.statistics import wilson_interval

DEFAULT = PreferenceSettings()
PAIRS = 200

Make = Callable[..., list[Ledger]]


@pytest.fixture
def make(write_pairs: Callable[..., Path]) -> Make:
    """Return a function that writes a ledger per step from rewards of chosen and margins, in nats."""

    def write(
        chosen: Sequence[np.ndarray[Any, Any]],
        margins: Sequence[np.ndarray[Any, Any]],
        *,
        lengths: Sequence[int] | None = None,
        extra: Any = None,
    ) -> list[Ledger]:
        ledgers = []
        for step, (rewards, gaps) in enumerate(zip(chosen, margins, strict=True)):
            pairs = [
                {
                    "logps": (-90.0 + reward, -90.0 + reward - gap, -90.0, -90.0),
                    "chosen_num_tokens": 100 if lengths is None else 100 + lengths[row],
                    "rejected_num_tokens": 100,
                    "pair_id": str(row),
                }
                for row, (reward, gap) in enumerate(zip(rewards.tolist(), gaps.tolist(), strict=True))
            ]
            ledgers.append(load_ledger(write_pairs(pairs, name=f"{step}.parquet", extra=extra)))
        return ledgers

    return write


def follow(ledgers: list[Ledger], by: str = "") -> Training:
    return training([View(one, DEFAULT) for one in ledgers], [100 * (at + 1) for at in range(len(ledgers))], by)


def names(found: Training) -> list[str]:
    return [one.name for one in alarms(found)]


def noise(seed: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).normal(0, 1, PAIRS)


def test_the_figures_of_a_step_have_their_intervals(make: Make) -> None:
    gaps = np.array([10.0] * 150 + [-10.0] * 50)
    (found,) = follow(make([np.full(PAIRS, 5.0)], [gaps])).figures
    assert (found.step, found.pairs, found.left_out) == (100, PAIRS, 0)
    assert found.accuracy == Estimate(0.75, *wilson_interval(150, 200))
    assert found.margin.value == pytest.approx(0.5)
    half = 1.959964 * np.std(0.1 * gaps, ddof=1) / math.sqrt(PAIRS)
    assert (found.margin.low, found.margin.high) == pytest.approx((0.5 - half, 0.5 + half))
    assert (found.chosen.value, found.rejected.value) == pytest.approx((0.5, 0.0))
    assert math.isnan(found.length.value)


def test_an_interval_counts_only_the_pairs_whose_lengths_are_known() -> None:
    margins, longer = noise(1), noise(2)
    longer[50:] = np.nan
    found, expected = correlation(margins, longer), correlation(margins[:50], longer[:50])
    assert found == expected


def test_a_calm_training_gives_no_alarm(make: Make) -> None:
    rising = [2.0 * step + noise(step) for step in range(5)]
    assert names(follow(make(rising, rising))) == []


def test_falling_chosen_rewards_with_rising_accuracy_give_an_alarm(make: Make) -> None:
    chosen = [-3.0 * step + noise(step) for step in range(4)]
    margins = [0.5 * step + noise(step) for step in range(4)]
    (alarm,) = alarms(follow(make(chosen, margins)))
    assert alarm.name == "falling"
    assert alarm.step == 400
    assert alarm.sentence == (
        "log-probs of chosen fall since step 100 (reward +0.00 to −0.90) while accuracy rises (51.0% to 93.0%)"
    )


def test_two_falls_or_falls_within_noise_give_none(make: Make) -> None:
    margins = [0.5 * step + noise(step) for step in range(4)]
    assert names(follow(make([-3.0 * step + noise(step) for step in range(3)], margins[:3]))) == []
    tiny = [noise(0) - 0.01 * step for step in range(4)]
    assert names(follow(make(tiny, margins))) == []


def test_held_out_accuracy_that_peaks_while_training_rises_gives_an_alarm(make: Make) -> None:
    is_train = np.arange(PAIRS) < 100
    held_out = [0.0, 1.5, 0.5, -0.5]
    margins = [np.where(is_train, 0.4 * step, held_out[step]) + noise(7) for step in range(4)]
    extra = {"split": ("text", ["train"] * 100 + ["test"] * 100)}
    ledgers = make([noise(1)] * 4, margins, extra=extra)
    assert names(follow(ledgers)) == []
    (alarm,) = alarms(follow(ledgers, by="split"))
    assert alarm.name == "forgetting"
    assert alarm.sentence.startswith("accuracy of test peaked at step 200")


def test_margins_that_follow_length_more_and_more_give_an_alarm(make: Make) -> None:
    lengths = np.random.default_rng(3).integers(-50, 50, PAIRS)
    margins = [noise(step) + 0.03 * step * lengths for step in range(3)]
    (alarm,) = alarms(follow(make([noise(1)] * 3, margins, lengths=lengths.tolist())))
    assert alarm.name == "longer"


def test_losses_near_0_on_most_pairs_give_an_alarm(make: Make) -> None:
    (alarm,) = alarms(follow(make([np.zeros(PAIRS)], [np.array([40.0] * 120 + [1.0] * 80)])))
    assert alarm.sentence == "the DPO loss is below 0.05 on 60% of the pairs: little is left to learn"
    assert names(follow(make([np.zeros(PAIRS)], [np.array([40.0] * 105 + [1.0] * 95)]))) == []


def test_new_nans_give_an_alarm_once(make: Make) -> None:
    broken = noise(0)
    broken[:3] = np.nan
    ledgers = make([noise(0), broken, broken], [noise(0)] * 3)
    assert alarms(follow(ledgers[:2]))[0].sentence == "3 of 200 pairs have log-probs that are NaN or infinite"
    assert names(follow(ledgers)) == []


def test_subsets_that_are_not_drawn_or_followed_are_counted(make: Make) -> None:
    values = [f"{number:02}" for number in range(25) for _ in range(8)]
    ledgers = make([noise(0)] * 3, [noise(0)] * 3, extra={"topic": ("text", values)})
    found = follow(ledgers, by="topic")
    assert [*found.subsets] == [f"{number:02}" for number in range(20)]
    assert found.to_json()["subsets_left_out"] == 5
    lines = lines_of(found, "accuracy")
    assert legend("accuracy", lines, found) == "accuracy ↑ step →  ─ 00  • 01  × 02  + 03  (and 21 more)"
    assert legend("rewards", lines_of(found, "rewards"), found) == "rewards ↑ step →  ─ chosen  • rejected"


def test_a_column_that_does_not_exist_is_refused(make: Make) -> None:
    with pytest.raises(UsageError, match="no column colour to group by"):
        follow(make([noise(0)] * 3, [noise(0)] * 3), by="colour")


def test_a_plot_shows_values_and_bounds_within_its_size() -> None:
    steps = [Estimate(value, value - 0.1, value + 0.1) for value in (0.5, 0.6, 0.8)]
    lines = draw_lines([10, 20, 30], [Line("accuracy", steps)], 40, 10, percent=True).split("\n")
    assert len(lines) == 10
    assert max(map(len, lines)) <= 40
    assert "40%" in "".join(lines)
    assert lines[-1].split() == ["10", "15", "20", "25", "30"]


def test_a_plot_of_nothing_is_empty() -> None:
    assert draw_lines([1], [Line("x", [Estimate(math.nan, math.nan, math.nan)])], 40, 10) == ""


def test_the_page_of_a_comparison_is_well_formed_and_escapes_every_text(make: Make) -> None:
    extra = {"split": ("text", ["<script>alert(1)</script>"] * 100 + ["\x1b[31mtest"] * 100)}
    ledgers = make([noise(step) for step in range(3)], [noise(step) for step in range(3)], extra=extra)
    text = "\n".join(page(compare_runs(ledgers, DEFAULT, steps=[5, 10, 15], by="split")))
    assert "<script>alert" not in text
    assert "\x1b" not in text
    pictures = [part.partition("</svg>")[0] + "</svg>" for part in text.split("<svg")[1:]]
    assert len(pictures) == 5
    for picture in pictures:
        ET.fromstring("<svg" + picture)  # noqa: S314 (our own)
    assert "accuracy ↑ step →" in text
