"""The declarations of the losses, and the option that selects one."""

from __future__ import annotations

import inspect
import re

import pytest

from prefscope.errors import UsageError
from prefscope.preference import losses as _losses  # noqa: F401 (registers the losses)
from prefscope.preference.registry import LOSSES, find_loss, listed_losses, parse_choice, resolve_parameters
from prefscope.settings import LossChoice, PreferenceSettings

ALL = ", ".join(loss.name for loss in listed_losses())
every_loss = pytest.mark.parametrize("name", list(LOSSES))


TRL = (
    "sigmoid hinge ipo_trl exo_pair nca_pair robust bco_pair sppo_hard aot aot_unpaired apo_zero apo_down discopop sft "
    "sigmoid_norm"
)


def test_default_losses_are_listed_first_and_the_rest_by_name() -> None:
    names = [loss.name for loss in listed_losses()]
    assert names[:3] == ["dpo", "ipo", "simpo"]
    assert names[3:] == sorted(LOSSES.keys() - {"dpo", "ipo", "simpo"})


@pytest.mark.parametrize("name", TRL.split())
def test_every_loss_of_trl_is_available_by_name(name: str) -> None:
    assert find_loss(name)


def test_names_of_other_stacks_stand_for_a_loss_with_parameters() -> None:
    assert parse_choice("cdpo") == LossChoice("dpo", {"label_smoothing": 0.1})
    assert parse_choice("cdpo:label_smoothing=0.2,beta=0.5") == LossChoice("dpo", {"label_smoothing": 0.2, "beta": 0.5})


def test_simpos_gamma_can_be_given_as_its_ratio_to_beta() -> None:
    choice = parse_choice("simpo:beta=2.5,gamma_beta_ratio=0.4")
    assert resolve_parameters(choice, PreferenceSettings()) == {"beta": 2.5, "gamma": 1.0}


@every_loss
def test_a_loss_declares_what_beta_scales(name: str) -> None:
    assert re.match("sums|means over tokens", LOSSES[name].convention)


def test_losses_that_depend_on_all_pairs_declare_it() -> None:
    coupled = {name for name, loss in LOSSES.items() if loss.population}
    assert coupled == {"aot", "aot_unpaired", "kto", "bco", "sft", "cpo", "orpo", "rpo"}


@every_loss
def test_a_loss_has_a_title_a_formula_and_a_dated_source(name: str) -> None:
    loss = LOSSES[name]
    assert loss.title
    assert re.search(r"[\(−]", loss.formula)
    assert re.search(r"20\d\d, arXiv \d{4}\.\d{5}", loss.source)


@every_loss
def test_the_parameters_are_the_defaults_of_both_functions(name: str) -> None:
    loss = LOSSES[name]
    declared = {parameter.name: parameter.default for parameter in loss.parameters}
    for function in (loss.compute, loss.weight):
        signature = inspect.signature(function).parameters.values()
        assert {item.name: item.default for item in signature if item.default is not item.empty} == declared


@every_loss
def test_the_weight_takes_the_inputs_of_the_loss(name: str) -> None:
    loss = LOSSES[name]
    required = [item.name for item in inspect.signature(loss.weight).parameters.values() if item.default is item.empty]
    assert tuple(required) == loss.inputs


@every_loss
def test_every_default_lies_in_its_range(name: str) -> None:
    assert all(parameter.low <= parameter.default <= parameter.high for parameter in LOSSES[name].parameters)


@every_loss
def test_a_logarithmic_range_is_positive(name: str) -> None:
    assert all(parameter.low > 0 for parameter in LOSSES[name].parameters if parameter.scale == "log")


def test_exactly_these_losses_are_reference_free() -> None:
    free = {name for name, loss in LOSSES.items() if not loss.needs_reference}
    assert free == {"simpo", "alphapo", "slic", "sft", "cpo", "orpo"}


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("dpo", LossChoice("dpo", {})),
        (" simpo : gamma = 0.8", LossChoice("simpo", {"gamma": 0.8})),
        ("simpo:gamma=0.8,beta=2.5", LossChoice("simpo", {"gamma": 0.8, "beta": 2.5})),
        ("dpo:beta=1e-2,label_smoothing=0", LossChoice("dpo", {"beta": 0.01, "label_smoothing": 0.0})),
        ("ipo:beta=10", LossChoice("ipo", {"beta": 10.0})),
    ],
)
def test_a_loss_option_is_parsed(text: str, choice: LossChoice) -> None:
    assert parse_choice(text) == choice


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("dop", f"There is no loss 'dop'. Did you mean 'dpop' or 'dpo'? Choose from: {ALL}."),
        ("dpo:gamma=1", "Loss dpo has no parameter 'gamma'. It has: beta, label_smoothing."),
        ("dpo:beta=high", "--loss dpo:beta=high: 'high' is not a number. Write --loss simpo:gamma=0.8."),
        ("dpo:beta=", "--loss dpo:beta=: '' is not a number. Write --loss simpo:gamma=0.8."),
        ("dpo:beta", "--loss dpo:beta: '=' is missing. Write --loss simpo:gamma=0.8."),
        ("dpo:beta=0", "Loss dpo: beta = 0 is out of range. Choose a value from 0.001 to 10."),
        ("dpo:beta=-1", "Loss dpo: beta = -1 is out of range. Choose a value from 0.001 to 10."),
        ("dpo:beta=nan", "Loss dpo: beta = nan is out of range. Choose a value from 0.001 to 10."),
        ("dpo:label_smoothing=0.6", "Loss dpo: label_smoothing = 0.6 is out of range. Choose a value from 0 to 0.5."),
    ],
)
def test_an_invalid_loss_option_is_reported(text: str, told: str) -> None:
    with pytest.raises(UsageError, match=f"^{re.escape(told)}$"):
        parse_choice(text)


@pytest.mark.parametrize(("name", "reason"), [("rpo_sq", "a reward model"), ("rpo_bwd_kl", "a reward model")])
def test_a_loss_that_no_ledger_can_give_is_refused_with_the_reason(name: str, reason: str) -> None:
    with pytest.raises(UsageError, match=f"Loss {name} cannot be computed from a ledger") as refused:
        parse_choice(name)
    assert reason in refused.value.hint


def test_an_unknown_loss_is_reported_with_a_list_of_losses() -> None:
    with pytest.raises(UsageError, match=r"^There is no loss 'nonesuch'. Choose from: dpo, ipo, simpo, alphapo, "):
        find_loss("nonesuch")


def test_the_common_beta_is_the_default_of_losses_with_a_reference() -> None:
    preferences = PreferenceSettings(beta=0.3)
    assert resolve_parameters(LossChoice("ipo"), preferences) == {"beta": 0.3}
    assert resolve_parameters(LossChoice("dpo", {"beta": 0.2}), preferences) == {"beta": 0.2, "label_smoothing": 0.0}


def test_the_common_beta_does_not_apply_to_simpo() -> None:
    assert resolve_parameters(LossChoice("simpo"), PreferenceSettings(beta=0.3)) == {"beta": 2.0, "gamma": 0.5}
