"""Summaries compared with numbers worked out by hand: metrics, spread, intervals, flags, worst pairs."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prefscope.ledger.table import load_ledger
from prefscope.report.summary import Spread, Summary, count_outcomes, summarise
from prefscope.settings import LossChoice, PreferenceSettings
from prefscope.statistics import wilson_interval

WIN = {"logps": (-50.0, -60.0, -52.0, -58.0)}  # margin 0.4
LOWERED = {"logps": (-50.0, -80.0, -46.0, -70.0)}  # 0.6
TIE = {"logps": (-30.0, -40.0, -30.0, -40.0)}
LOSS = {"logps": (-50.0, -60.0, -50.0, -63.0), "flags": "truncated;no_eos"}  # −0.3
NAN = {"logps": (math.nan, -40.0, -30.0, -43.0), "flags": "non_finite;truncated"}
TRL_KEYS = ("rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies")


@pytest.fixture
def summary(write_pairs: Callable[..., Path]) -> Summary:
    return summarise(load_ledger(write_pairs([WIN, LOWERED, TIE, LOSS, NAN])), PreferenceSettings())


def test_the_metrics_are_trls_seven_under_trls_names(summary: Summary) -> None:
    assert set(summary.to_json()["metrics"]) == {"loss", *TRL_KEYS, "logps/chosen", "logps/rejected"}


def test_each_metric_is_the_mean_over_the_pairs(write_pairs: Callable[..., Path]) -> None:
    found = summarise(load_ledger(write_pairs([WIN, LOWERED, TIE, LOSS])), PreferenceSettings()).to_json()["metrics"]
    assert found == pytest.approx(
        {
            "loss": (0.513015 + 0.437488 + math.log(2) + math.log1p(math.exp(0.3))) / 4,
            "rewards/chosen": (0.2 - 0.4 + 0 + 0) / 4,
            "rewards/rejected": (-0.2 - 1.0 + 0 + 0.3) / 4,
            "rewards/margins": (0.4 + 0.6 + 0 - 0.3) / 4,
            "rewards/accuracies": 0.5,
            "logps/chosen": -180 / 4,
            "logps/rejected": -240 / 4,
        },
        abs=1e-6,
    )


def test_the_loss_metric_is_the_first_loss(write_pairs: Callable[..., Path]) -> None:
    preferences = PreferenceSettings(losses=(LossChoice("ipo"), LossChoice("dpo")))
    found = summarise(load_ledger(write_pairs([WIN])), preferences)
    assert found.to_json()["metrics"]["loss"] == pytest.approx(92.16)
    assert [loss.name for loss in found.losses] == ["ipo", "dpo"]


def test_a_pair_that_is_not_finite_is_left_out_of_every_mean(
    summary: Summary, write_pairs: Callable[..., Path]
) -> None:
    without = summarise(load_ledger(write_pairs([WIN, LOWERED, TIE, LOSS], name="4.parquet")), PreferenceSettings())
    assert summary.metrics == without.metrics
    assert summary.losses == without.losses
    assert (summary.accuracy, summary.outcomes) == (without.accuracy, without.outcomes)


def test_the_mean_margin_is_the_mean_chosen_less_the_mean_rejected_reward(summary: Summary) -> None:
    metrics = summary.to_json()["metrics"]
    assert metrics["rewards/margins"] == pytest.approx(metrics["rewards/chosen"] - metrics["rewards/rejected"])


def test_the_spread_has_median_and_quartiles(summary: Summary) -> None:
    """Margins −0.3, 0, 0.4, 0.6: quartiles at positions 0.75 and 2.25."""
    margins = summary.metrics["rewards/margins"]
    assert (margins.q1, margins.median, margins.q3) == pytest.approx((-0.075, 0.2, 0.45))


def test_the_spread_of_no_finite_value_is_nan() -> None:
    spread = Spread.of(np.array([math.nan, math.inf]))
    assert all(math.isnan(value) for value in (spread.mean, spread.median, spread.q1, spread.q3))


def test_a_tie_is_wrong_in_trls_accuracy_but_not_a_loss_in_the_outcomes(summary: Summary) -> None:
    outcomes = summary.outcomes
    assert outcomes is not None
    assert (outcomes.win, outcomes.tie, outcomes.loss, outcomes.total) == (2, 1, 1, 4)
    assert summary.accuracy == outcomes.win_rate == 0.5


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_the_interval_is_wilsons(successes: int, trials: int, low: float, high: float) -> None:
    """Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I, method 3."""
    assert wilson_interval(successes, trials) == pytest.approx((low, high), abs=5e-5)


def test_the_win_rate_has_wilsons_interval(summary: Summary) -> None:
    assert summary.outcomes is not None
    assert (summary.outcomes.low, summary.outcomes.high) == wilson_interval(2, 4)


def test_no_outcome_at_all_has_no_rate() -> None:
    outcomes = count_outcomes(np.array([math.nan, math.nan]))
    assert outcomes.total == 0
    assert math.isnan(outcomes.win_rate)
    assert math.isnan(outcomes.low)


def test_flags_are_counted_most_frequent_first(summary: Summary) -> None:
    assert list(summary.flags.items()) == [("truncated", 2), ("no_eos", 1), ("non_finite", 1)]


def test_the_worst_pairs_are_only_those_ranked_wrong(summary: Summary) -> None:
    (worst,) = summary.worst
    assert (worst.row, worst.line, worst.pair_id, worst.prompt) == (3, 4, f"{3:016x}", "prompt 3")
    assert worst.value == pytest.approx(-0.3)
    assert worst.flags == "truncated;no_eos"


def test_the_ten_worst_pairs_come_worst_first_and_equals_in_their_order(write_pairs: Callable[..., Path]) -> None:
    pairs: list[dict[str, Any]] = [{"logps": (-50.0, -60.0, -50.0, -60.0 - k // 2)} for k in range(2, 16)]
    found = summarise(load_ledger(write_pairs(pairs)), PreferenceSettings())
    assert [pair.row for pair in found.worst] == [12, 13, 10, 11, 8, 9, 6, 7, 4, 5]


def test_without_a_reference_there_are_no_rewards_and_the_worst_are_those_of_the_greatest_loss(
    write_pairs: Callable[..., Path],
) -> None:
    pairs = [{"logps": (*sums, None, None)} for sums in ((-50.0, -60.0), (-60.0, -50.0))]
    path = write_pairs(pairs, manifest={"has_reference": False})
    found = summarise(load_ledger(path), PreferenceSettings())
    assert list(found.metrics) == ["loss", "logps/chosen", "logps/rejected"]
    assert found.accuracy is None
    assert found.outcomes is None
    assert [pair.row for pair in found.worst] == [1, 0]
    assert "rewards/accuracies" not in found.to_json()["metrics"]


def test_the_ipo_family_says_at_which_gap_it_is_zero(write_pairs: Callable[..., Path]) -> None:
    names = ("dpo", "ipo", "ipo_azar", "ipo_trl")
    preferences = PreferenceSettings(beta=0.2, losses=tuple(LossChoice(name) for name in names))
    found = summarise(load_ledger(write_pairs([WIN])), preferences)
    assert [loss.target_gap for loss in found.losses] == [
        None,
        (pytest.approx(25.0), "nats"),
        (2.5, "nats"),
        (2.5, "nats per token"),
    ]


def test_json_has_null_where_there_is_no_number(write_pairs: Callable[..., Path]) -> None:
    found = summarise(load_ledger(write_pairs([NAN])), PreferenceSettings()).to_json()
    text = json.dumps(found, allow_nan=False)
    assert json.loads(text)["metrics"]["rewards/margins"] is None
    assert found["accuracy"] is None
    assert found["outcomes"] == {"win": 0, "tie": 0, "loss": 0, "low": None, "high": None}


def test_json_is_of_schema_1_and_carries_the_manifest(summary: Summary) -> None:
    found = summary.to_json()
    assert found["schema"] == 1
    assert found["manifest"] == summary.manifest
    assert found["spread"]["rewards/margins"]["median"] == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("loss", "beta", "far"),
    [("ipo", 0.1, True), ("ipo", 0.45, False), ("ipo_azar", 0.05, True), ("ipo_azar", 0.1, False), ("dpo", 0.1, False)],
)
def test_a_target_is_far_if_99_of_100_gaps_fall_short_of_it(
    write_pairs: Callable[..., Path], loss: str, beta: float, far: bool
) -> None:
    """The gaps are 4, 6, 0 and −3 nats, the targets 1/β² and 1/(2β): 100, 4.9, 10 and 5."""
    ledger = load_ledger(write_pairs([WIN, LOWERED, TIE, LOSS]))
    found = summarise(ledger, PreferenceSettings(beta=beta, losses=(LossChoice(loss),)))
    assert [summary.target_is_far for summary in found.losses] == [far]


def test_margins_within_the_noise_floor_are_counted_at_the_requested_beta(
    write_pairs: Callable[..., Path],
) -> None:
    noise = {"pairs": 64, "floor": 3.5, "float32_floor": None}  # nats; the margins are 0.4, 0.6, 0, −0.3 at beta 0.1
    ledger = load_ledger(write_pairs([WIN, LOWERED, TIE, LOSS, NAN], manifest={"noise": noise}))
    found = [summarise(ledger, PreferenceSettings(beta)).to_json()["noise"] for beta in (0.1, 0.2)]
    assert found == [
        {"pairs": 64, "floor": pytest.approx(0.35), "float32_floor": None, "within": 2},
        {"pairs": 64, "floor": pytest.approx(0.7), "float32_floor": None, "within": 2},
    ]


def test_a_run_without_measured_noise_does_not_mention_it(summary: Summary) -> None:
    assert summary.noise is None
    assert "noise" not in summary.to_json()
