"""The key figures, compared with numbers worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from prefscope.ledger.table import load_ledger
from prefscope.ledger.view import View
from prefscope.report.cards import Card, cards
from prefscope.settings import LossChoice, PreferenceSettings

WIN = {"logps": (-50.0, -60.0, -52.0, -58.0), "chosen_num_tokens": 30}
LOSS = {"logps": (-54.0, -58.0, -52.0, -58.0), "chosen_num_tokens": 20}
TIE = {"logps": (-52.0, -58.0, -52.0, -58.0), "chosen_num_tokens": 25}
NAN = {"logps": (math.nan, -58.0, -52.0, -58.0), "flags": "non_finite"}


@pytest.fixture
def figures(write_pairs: Callable[..., Path]) -> Callable[..., dict[str, Card]]:
    def call(*pairs: dict[str, object], **preferences: object) -> dict[str, Card]:
        view = View(load_ledger(write_pairs([*pairs])), PreferenceSettings(**preferences))  # type: ignore[arg-type]
        return {card.title: card for card in cards(view)}

    return call


def test_the_figures_are_those_of_the_pairs_with_finite_log_probs(figures: Callable[..., dict[str, Card]]) -> None:
    found = figures(WIN, LOSS, TIE, NAN)
    assert list(found) == ["accuracy", "margin", "dpo loss", "r chosen", "r rejected", "length bias ρ"]
    assert found["accuracy"].value.startswith("33.3% (6–79)")
    assert found["accuracy"].detail == "1 wrong, 1 tied"
    assert found["margin"].value == "+0.067 ±0.346"  # of +0.4, −0.2 and 0
    assert found["margin"].detail == "median +0.000"
    assert found["r chosen"] == Card("r chosen", "+0.000", "33% below 0", expression="chosen_rewards < 0")
    assert found["r rejected"] == Card("r rejected", "-0.067 ▼", "0% above 0", expression="rejected_rewards > 0")


def test_margins_within_the_measured_noise_are_shown_with_the_accuracy(write_pairs: Callable[..., Path]) -> None:
    noise = {"noise": {"pairs": 64, "floor": 2.5, "float32_floor": None}}  # nats; of gaps +4, −2 and 0
    ledger = load_ledger(write_pairs([WIN, LOSS, TIE], manifest=noise))
    assert cards(View(ledger, PreferenceSettings()))[0].detail == "1 wrong, 2 noisy"


def test_a_loss_above_that_of_an_untrained_policy_warns(figures: Callable[..., dict[str, Card]]) -> None:
    assert figures(LOSS, LOSS)["dpo loss"].warns
    assert not figures(WIN, WIN)["dpo loss"].warns


def test_what_a_single_pair_shows_is_no_reason_to_warn(figures: Callable[..., dict[str, Card]]) -> None:
    assert [card.title for card in figures(LOSS).values() if card.warns] == []
    assert [card.title for card in figures(LOSS, WIN).values() if card.warns] == []


def test_margins_that_follow_the_length_warn(figures: Callable[..., dict[str, Card]]) -> None:
    assert figures(LOSS, TIE, WIN)["length bias ρ"] == Card("length bias ρ", "+1.00", "rank correlation")
    assert figures(LOSS, TIE, WIN, WIN)["length bias ρ"] == Card("length bias ρ", "+1.00", "longer wins", warns=True)


def test_the_first_loss_is_the_requested_one(figures: Callable[..., dict[str, Card]]) -> None:
    assert "simpo loss" in figures(WIN, losses=(LossChoice("simpo"), LossChoice("dpo")))


def test_without_a_finite_pair_there_are_no_numbers_and_no_error(figures: Callable[..., dict[str, Card]]) -> None:
    assert figures(NAN)["margin"].value.strip() == "·"


def test_without_a_reference_log_probs_per_token_are_shown(write_pairs: Callable[..., Path]) -> None:
    pair = {"logps": (-40.0, -60.0, None, None), "chosen_num_tokens": 20, "rejected_num_tokens": 20}
    view = View(load_ledger(write_pairs([pair], manifest={"has_reference": False})), PreferenceSettings())
    found = {card.title: card for card in cards(view)}
    assert list(found) == ["chosen ahead", "gap", "simpo loss", "logp chosen", "logp rejected", "length bias ρ"]
    assert found["gap"].value.strip() == "+1.000"
    assert found["logp chosen"].value == "-2.000"
