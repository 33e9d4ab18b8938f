"""Knobs and curves, compared with the ledger's own columns."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from prefscope.errors import UsageError
from prefscope.ledger.view import View
from prefscope.preference.registry import LOSSES, Parameter
from prefscope.settings import LossChoice, PreferenceSettings
from prefscope.tui.model.knobs import Knob, carried, knobs, mean_losses
from prefscope.tui.model.session import Session
from tests.tui.terminal import Terminal

OF_THE_DEMO = [name for name in LOSSES if name not in {"wpo", "tdpo1", "tdpo2"}]
"""Losses of which the demo ledger has all inputs."""


def names(view: View) -> list[str]:
    return [knob.name for knob in knobs(view)]


def knob_of(view: View, name: str) -> Knob:
    return next(knob for knob in knobs(view) if knob.name == name)


def test_every_declared_parameter_of_the_shown_losses_is_a_knob(demo: Session) -> None:
    assert names(demo.view) == ["beta", "dpo label_smoothing", "simpo beta", "simpo gamma"]


def test_a_loss_with_its_own_beta_has_a_knob_for_it(demo: Session) -> None:
    preferences = PreferenceSettings(losses=(LossChoice("dpo", {"beta": 0.3}), LossChoice("ipo")))
    view = View(demo.ledger, preferences)
    assert names(view) == ["beta", "dpo beta", "dpo label_smoothing"]
    assert knob_of(view, "dpo beta").value(preferences) == 0.3


def test_the_shared_beta_changes_rewards_and_every_loss_with_a_reference(demo: Session) -> None:
    moved = knob_of(demo.view, "beta").at(demo.preferences, 0.5)
    view = View(demo.ledger, moved)
    assert moved.beta == 0.5
    assert view.column("margins") == pytest.approx(5 * demo.view.column("margins"))
    assert not np.array_equal(view.column("ipo_loss"), demo.view.column("ipo_loss"))
    assert np.array_equal(view.column("simpo_loss"), demo.view.column("simpo_loss"))


def test_a_knob_of_one_loss_changes_only_that_loss(demo: Session) -> None:
    moved = knob_of(demo.view, "simpo gamma").at(demo.preferences, 1.5)
    view = View(demo.ledger, moved)
    assert not np.array_equal(view.column("simpo_loss"), demo.view.column("simpo_loss"))
    for column in ("margins", "dpo_loss", "ipo_loss"):
        assert np.array_equal(view.column(column), demo.view.column(column))


def test_steps_of_a_logarithmic_knob_are_round_numbers_and_reversible(demo: Session) -> None:
    knob = knob_of(demo.view, "beta")
    betas = [knob.moved(demo.preferences, steps).beta for steps in (-10, -5, -1, 0, 1, 2, 5, 10, 20)]
    assert betas == [0.01, 0.03, 0.08, 0.1, 0.12, 0.15, 0.3, 1.0, 3.0]
    assert knob.moved(knob.moved(demo.preferences, 7), -7).beta == 0.1


@pytest.mark.parametrize(("value", "up", "down"), [(0.11, 0.12, 0.1), (0.1000000001, 0.12, 0.08), (9.0, 9.0, 3.0)])
def test_a_step_from_a_value_between_stops_goes_to_the_nearest_one_in_that_direction(
    demo: Session, value: float, up: float, down: float
) -> None:
    knob = knob_of(demo.view, "beta")
    between = knob.at(demo.preferences, value)
    assert [knob.moved(between, step).beta for step in (1, -1)] == pytest.approx([up, down], rel=1e-2)


@pytest.mark.parametrize("name", OF_THE_DEMO)
def test_the_stops_of_every_knob_cover_its_span_in_order(demo: Session, name: str) -> None:
    preferences = PreferenceSettings(losses=(LossChoice(name),), explicit=True)
    for knob in knobs(View(demo.ledger, preferences)):
        stops = knob.stops
        assert (stops[0], stops[-1]) == knob.span
        assert (np.diff(stops) > 0).all()
        assert 10 <= len(stops) <= 60


@pytest.mark.parametrize(("text", "value"), [("0.3", 0.3), (" 5 ", 5.0), ("1e-2", 0.01)])
def test_the_value_of_a_knob_can_be_typed(
    show_app: Callable[..., Terminal], demo: Session, text: str, value: float
) -> None:
    terminal = show_app()
    terminal.press("4", "equals_sign", *["backspace"] * 4)
    terminal.type(text)
    terminal.press("enter")
    assert demo.preferences.beta == value
    assert f"β={value:g}" in terminal.text


@pytest.mark.parametrize("text", ["", "x", "0", "-1", "11", "nan", "inf", "0,3"])
def test_a_typed_value_outside_the_domain_is_refused_with_the_domain(demo: Session, text: str) -> None:
    with pytest.raises(UsageError, match=r"Type a number from 0.001 to 10\."):
        knob_of(demo.view, "beta").parsed(text)


def test_steps_of_a_linear_knob_are_even_and_stay_within_its_span(demo: Session) -> None:
    knob = knob_of(demo.view, "simpo gamma")
    assert knob.value(knob.moved(demo.preferences, 1)) == pytest.approx(0.6)
    assert knob.value(knob.moved(demo.preferences, -100)) == 0.0
    assert knob.value(knob.moved(demo.preferences, 1000)) == knob.span[1]


@pytest.mark.parametrize("name", OF_THE_DEMO)
def test_every_knob_stays_within_the_domain_of_its_loss(demo: Session, name: str) -> None:
    preferences = PreferenceSettings(losses=(LossChoice(name),), explicit=True)
    view = View(demo.ledger, preferences)
    for knob in knobs(view):
        for value in (*knob.values(), *knob.span):
            moved = knob.at(preferences, float(value))
            assert 0 <= knob.share(knob.value(moved)) <= 1
            View(demo.ledger, moved).column(f"{name}_loss")


def test_a_curve_passes_through_the_mean_of_the_ledger(demo: Session) -> None:
    knob = knob_of(demo.view, "beta")
    values, means = knob.values(), mean_losses(demo.view, "dpo", knob)
    at = len(values) // 3
    exact = View(demo.ledger, replace(demo.preferences, beta=float(values[at]))).column("dpo_loss").mean()
    assert means[at] == pytest.approx(exact, rel=1e-12)


def test_pairs_without_log_probs_are_left_out_of_a_curve(demo: Session) -> None:
    knob = knob_of(demo.view, "beta")
    demo.ledger.stored["policy_chosen_logps"] = np.full(170, np.nan)
    assert np.isnan(mean_losses(demo.view, "dpo", knob)).all()


def test_the_heaviest_pairs_carry_their_share_of_the_weight() -> None:
    shares, half = carried(np.array([1.0, np.nan, -6.0, 3.0]))
    assert shares.tolist() == [0.6, 0.9, 1.0]
    assert half == pytest.approx(1 / 3)


@pytest.mark.parametrize("weights", [[], [np.nan], [0.0, 0.0]])
def test_no_pair_carries_anything_if_all_weights_are_zero(weights: list[float]) -> None:
    shares, half = carried(np.array(weights))
    assert shares.size == 0
    assert math.isnan(half)


def test_a_knob_with_a_wide_range_spans_a_few_decades_around_its_default() -> None:
    knob = Knob("x", Parameter("beta", 1e-9, 1e9, "log", "", 0.1))
    assert knob.span == (0.003, 3.0)
