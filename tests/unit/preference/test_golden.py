"""The worked examples of the formulas, on plain floats, NumPy and torch."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from prefscope.preference.arrays import Array
from prefscope.preference.losses import dpo_loss, ipo_loss, simpo_loss
from prefscope.preference.registry import find_loss
from prefscope.preference.rewards import implicit_reward, outcomes

# A learnt pair, and one won by lowering both responses: (A, B) by ledger column.
PAIRS = {
    "policy_chosen_logps": (-50.0, -50.0),
    "ref_chosen_logps": (-52.0, -46.0),
    "policy_rejected_logps": (-60.0, -80.0),
    "ref_rejected_logps": (-58.0, -70.0),
    "chosen_num_tokens": (20.0, 20.0),
    "rejected_num_tokens": (30.0, 30.0),
    "chosen_kl_ref_policy": (1.5, 6.25),
    "rejected_kl_ref_policy": (4.0, 2.5),
}


class Golden(NamedTuple):
    """A loss and its values on the pairs A and B."""

    loss: str
    parameters: dict[str, float]
    values: tuple[float, float]


GOLDEN = {
    "sigmoid": Golden("dpo", {"beta": 0.1}, (0.513015, 0.437488)),
    "cDPO": Golden("dpo", {"beta": 0.1, "label_smoothing": 0.1}, (0.553015, 0.497488)),
    "ipo": Golden("ipo", {"beta": 0.1}, (92.16, 88.36)),
    "ipo_azar": Golden("ipo_azar", {"beta": 0.1}, (1.0, 1.0)),
    "ipo_trl": Golden("ipo_trl", {"beta": 0.1}, (23.361111, 23.684444)),
    "simpo": Golden("simpo", {"beta": 2.0, "gamma": 0.5}, (1.701413, 0.779949)),
    "robust": Golden("robust", {"beta": 0.1, "label_smoothing": 0.1}, (0.463015, 0.362488)),
    "hinge": Golden("hinge", {"beta": 0.1}, (0.6, 0.4)),
    "exo": Golden("exo_pair", {"beta": 0.1, "label_smoothing": 1e-3}, (2.099226, 1.798271)),
    "nca": Golden("nca_pair", {"beta": 0.1}, (1.296278, 1.326154)),
    "bco_pair": Golden("bco_pair", {"beta": 0.1}, (1.196278, 1.226277)),
    "sppo_hard": Golden("sppo_hard", {"beta": 0.1}, (18.0, 106.0)),
    "apo_zero": Golden("apo_zero", {"beta": 0.1}, (0.900332, 0.867629)),
    "apo_down": Golden("apo_down", {"beta": 0.1}, (0.951146, 0.755656)),
    "discopop": Golden("discopop", {"beta": 0.1, "tau": 0.05}, (0.670267, 0.548811)),
    "sigmoid_norm": Golden("sigmoid_norm", {"beta": 0.1}, (0.684849, 0.686503)),
    "CPO sigmoid": Golden("cpo", {"beta": 0.1, "alpha": 0.0}, (0.313262, 0.048587)),
    "DPOP": Golden("dpop", {"beta": 0.1, "lambda_": 50.0}, (0.513015, 19.4)),
    "TDPO1": Golden("tdpo1", {"beta": 0.1}, (0.620957, 0.320047)),
    "TDPO2": Golden("tdpo2", {"beta": 0.1, "alpha": 0.5}, (0.565071, 0.374993)),
    "TDPO2 with other parameters": Golden("tdpo2", {"beta": 0.3, "alpha": 0.25}, (0.309915, 0.117582)),
    "R-DPO": Golden("rdpo", {"beta": 0.1, "alpha": 0.05}, (0.744397, 0.644397)),
}
FOUR_SUMS = "policy_chosen_logps, policy_rejected_logps, ref_chosen_logps, ref_rejected_logps"
NUMPY_DTYPES = [np.float32, np.float64]
TORCH_DTYPES = [torch.float32, torch.float64]

golden = pytest.mark.parametrize("case", GOLDEN.values(), ids=GOLDEN)
MARGINS, SIGMOIDS = (0.4, 0.6), (0.401312, 0.354344)
SCORES = {"dpo_js": (2.0, 5.981895), "dpo_forward_kl": (7.253721, 21971.867645)}
"""δ, the difference of a divergence's scores."""
LOG_ODDS = (-0.559763, 0.180302)
"""Of ORPO, chosen against rejected."""
LIKELIHOOD = 2.5
"""−p_w/n_w of both pairs, beside which ORPO has the odds."""
MAKERS: dict[str, tuple[Callable[[float], Any], float]] = {
    "float": (float, 1e-6),
    "NumPy float64": (partial(np.array, dtype=np.float64), 1e-6),
    "NumPy float32": (partial(np.array, dtype=np.float32), 5e-6),
    "torch float64": (partial(torch.tensor, dtype=torch.float64), 1e-6),
    "torch float32": (partial(torch.tensor, dtype=torch.float32), 5e-6),
}
"""How to make a number of each kind, and the tolerance of results, absolute and relative."""

every_kind = pytest.mark.parametrize(("make", "tolerance"), MAKERS.values(), ids=MAKERS)
both_pairs = pytest.mark.parametrize("place", [0, 1], ids=["A", "B"])


def compute(case: Golden, columns: dict[str, Any]) -> Array:
    loss = find_loss(case.loss)
    return loss.compute(*(columns[name] for name in loss.inputs), **case.parameters)


def argument_of(loss: Array) -> float:
    """Return the x for which −log σ(x) is the loss."""
    return -math.log(math.expm1(float(loss)))


@golden
@both_pairs
def test_plain_floats_give_the_golden_value_as_a_float(case: Golden, place: int) -> None:
    value = compute(case, {name: values[place] for name, values in PAIRS.items()})
    assert type(value) is float
    assert value == pytest.approx(case.values[place], abs=1e-6)


@golden
@pytest.mark.parametrize("dtype", NUMPY_DTYPES)
def test_numpy_arrays_give_the_golden_values_in_their_own_dtype(case: Golden, dtype: type[np.floating]) -> None:
    values = compute(case, {name: np.array(pair, dtype=dtype) for name, pair in PAIRS.items()})
    assert values.dtype == dtype
    assert values == pytest.approx(case.values, abs=1e-6, rel=4 * float(np.finfo(dtype).eps))


@golden
@pytest.mark.parametrize("dtype", TORCH_DTYPES)
def test_torch_tensors_give_the_golden_values_in_their_own_dtype(case: Golden, dtype: torch.dtype) -> None:
    values = compute(case, {name: torch.tensor(pair, dtype=dtype) for name, pair in PAIRS.items()})
    assert values.dtype == dtype
    assert values.tolist() == pytest.approx(case.values, abs=1e-6, rel=4 * torch.finfo(dtype).eps)


def test_lists_of_numbers_become_float64_arrays() -> None:
    values = compute(GOLDEN["ipo_trl"], {name: list(pair) for name, pair in PAIRS.items()})
    assert values.dtype == np.float64
    assert values == pytest.approx(GOLDEN["ipo_trl"].values, abs=1e-6)


@pytest.mark.parametrize("dtype", TORCH_DTYPES)
def test_integer_token_counts_take_the_dtype_of_the_log_probs(dtype: torch.dtype) -> None:
    columns = {name: torch.tensor(pair, dtype=dtype) for name, pair in PAIRS.items()}
    columns |= {name: torch.tensor(PAIRS[name]).long() for name in ("chosen_num_tokens", "rejected_num_tokens")}
    assert compute(GOLDEN["simpo"], columns).dtype == dtype


def test_a_plain_number_beside_an_array_takes_its_dtype() -> None:
    policy = np.array([-50.0, -60.0], dtype=np.float32)
    assert dpo_loss(policy, -60.0, -52.0, -58.0).dtype == np.float32


@every_kind
@both_pairs
def test_the_dpo_weight_is_beta_times_the_golden_sigma(
    place: int, make: Callable[[float], Any], tolerance: float
) -> None:
    weight = find_loss("dpo").weight(*(make(PAIRS[name][place]) for name in FOUR_SUMS.split(", ")), beta=0.1)
    assert float(weight) / 0.1 == pytest.approx(SIGMOIDS[place], abs=tolerance)


@every_kind
@both_pairs
def test_margins_match_the_golden_values(place: int, make: Callable[[float], Any], tolerance: float) -> None:
    rewards = [
        implicit_reward(make(PAIRS[f"policy_{side}_logps"][place]), make(PAIRS[f"ref_{side}_logps"][place]), beta=0.1)
        for side in ("chosen", "rejected")
    ]
    assert float(rewards[0] - rewards[1]) == pytest.approx(MARGINS[place], abs=tolerance)


@every_kind
@both_pairs
@pytest.mark.parametrize("name", SCORES)
def test_the_scores_of_a_divergence_differ_by_the_golden_delta(
    name: str, place: int, make: Callable[[float], Any], tolerance: float
) -> None:
    delta = SCORES[name][place]
    loss = find_loss(name).compute(*(make(PAIRS[column][place]) for column in FOUR_SUMS.split(", ")), beta=1 / delta)
    assert argument_of(loss) * delta == pytest.approx(delta, rel=tolerance, abs=tolerance)


@every_kind
@both_pairs
def test_orpo_compares_by_the_golden_log_odds(place: int, make: Callable[[float], Any], tolerance: float) -> None:
    loss = find_loss("orpo")
    value = loss.compute(*(make(PAIRS[column][place]) for column in loss.inputs), beta=1.0)
    assert argument_of(value - LIKELIHOOD) == pytest.approx(LOG_ODDS[place], abs=tolerance)


def test_rpo_matches_a_batch_of_trl_0_28() -> None:
    """Sums that TRL 0.28's `concatenated_forward` computed in float64, and the loss of `get_batch_loss_metrics`."""
    policy = np.array([-10.484832188856384, -5.443152191462922]), np.array([-4.1849114036292, -7.481669043516933])
    ref, tokens = (np.array([-6.0, -5.0]), np.array([-4.0, -9.0])), np.array([3, 2])
    found = find_loss("rpo").compute(*policy, *ref, tokens, beta=0.3, alpha=0.7)
    assert float(found.mean()) == pytest.approx(3.5115090866347183, rel=1e-12)


def test_the_implicit_reward_is_beta_times_the_log_ratio() -> None:
    assert implicit_reward(-10.0, -12.0, beta=0.1) == 0.2


def test_outcomes_follow_the_sign_of_the_margin() -> None:
    margins = np.array([0.3, 0.0, -0.0, -1e-300, np.nan, np.inf])
    assert outcomes(margins).tolist() == ["win", "tie", "tie", "loss", "", "win"]


@pytest.mark.parametrize(
    ("function", "signature"),
    [
        (implicit_reward, "policy_logps, ref_logps, beta=0.1"),
        (dpo_loss, f"{FOUR_SUMS}, beta=0.1, label_smoothing=0.0"),
        (ipo_loss, f"{FOUR_SUMS}, beta=0.1"),
        (
            simpo_loss,
            "policy_chosen_logps, policy_rejected_logps, chosen_num_tokens, rejected_num_tokens, beta=2.0, gamma=0.5",
        ),
    ],
)
def test_the_public_signatures_are_the_published_ones(function: Any, signature: str) -> None:
    bare = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in inspect.signature(function).parameters.values()
    ]
    assert ", ".join(map(str, bare)) == signature
