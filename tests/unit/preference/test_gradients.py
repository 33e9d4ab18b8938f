"""Every loss's gradient weight matches autograd, for any values of its parameters."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from prefscope.ledger.columns import COLLISION_LOGPS, DIVERGENCE_SUMS, LOGPS, TAIL_LOGPS
from prefscope.preference import losses as _losses  # noqa: F401 (registers the losses)
from prefscope.preference.losses import dpo_loss
from prefscope.preference.registry import LOSSES, Parameter, find_loss

pytestmark = pytest.mark.slow

COUNTS = dict.fromkeys(("chosen_num_tokens", "rejected_num_tokens"), st.integers(1, 400))
GREATEST = {"orpo": -1e-6}
"""The greatest log-prob that a loss is tested with: the odds of a probability of 1 have no gradient."""
SHARES = st.tuples(*[st.floats(0.0, 1.0)] * 3)


def columns_of(name: str) -> st.SearchStrategy[dict[str, float]]:
    """Return the columns of a pair for a loss."""
    logps = st.floats(-500.0, GREATEST.get(name, 0.0))
    sums = dict.fromkeys((*LOGPS, *TAIL_LOGPS, *COLLISION_LOGPS), logps)
    return st.fixed_dictionaries({**sums, **dict.fromkeys(DIVERGENCE_SUMS, st.floats(0.0, 200.0)), **COUNTS})


def value_at(parameter: Parameter, share: float) -> float:
    """Return the parameter's value at a share of its range."""
    if parameter.scale == "linear":
        return parameter.low + share * (parameter.high - parameter.low)
    return min(parameter.low * math.exp(share * math.log(parameter.high / parameter.low)), parameter.high)


def is_smooth(name: str, columns: dict[str, float], parameters: dict[str, float]) -> bool:
    """Return whether a loss is differentiable there: hinges are not at their kink."""
    chosen, rejected = columns["policy_chosen_logps"], columns["policy_rejected_logps"]
    ratio = chosen - columns["ref_chosen_logps"]
    match name:
        case "hinge":
            return not math.isclose(parameters["beta"] * (ratio - rejected + columns["ref_rejected_logps"]), 1.0)
        case "slic":
            return not math.isclose(chosen - rejected, parameters["delta"])
        case "dpop":
            return ratio != 0
        case _:
            return True


@pytest.mark.parametrize("name", list(LOSSES))
@given(data=st.data(), shares=SHARES)
def test_the_weight_is_minus_the_derivative_for_the_chosen_log_prob(
    name: str, data: st.DataObject, shares: tuple[float, float]
) -> None:
    loss = LOSSES[name]
    columns = data.draw(columns_of(name))
    parameters = {knob.name: value_at(knob, share) for knob, share in zip(loss.parameters, shares, strict=False)}
    assume(is_smooth(name, columns, parameters))
    inputs = {column: torch.tensor([columns[column]], dtype=torch.float64) for column in loss.inputs}
    policy = inputs["policy_chosen_logps"].requires_grad_()
    loss.compute(*inputs.values(), **parameters).sum().backward()
    assert policy.grad is not None
    weight = loss.weight(*(columns[column] for column in loss.inputs), **parameters)
    assert weight == pytest.approx(-policy.grad.item(), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("name", [name for name, loss in LOSSES.items() if loss.population])
@given(data=st.data(), shares=SHARES)
def test_the_weight_in_a_batch_is_minus_the_derivative_of_the_summed_loss(
    name: str, data: st.DataObject, shares: tuple[float, float]
) -> None:
    loss = LOSSES[name]
    pairs = data.draw(st.lists(columns_of(name), min_size=2, max_size=6))
    parameters = {knob.name: value_at(knob, share) for knob, share in zip(loss.parameters, shares, strict=False)}
    assume(all(is_smooth(name, columns, parameters) for columns in pairs))
    arrays = {column: np.array([columns[column] for columns in pairs], dtype=np.float64) for column in loss.inputs}
    inputs = {column: torch.from_numpy(values.copy()) for column, values in arrays.items()}
    policy = inputs["policy_chosen_logps"].requires_grad_()
    loss.compute(*inputs.values(), **parameters).sum().backward()
    assert policy.grad is not None
    assert loss.weight(*arrays.values(), **parameters) == pytest.approx(-policy.grad.numpy(), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("beta", [0.1, 0.5, 2.0])
def test_the_dpo_gradient_is_exactly_minus_half_beta_if_policy_equals_reference(beta: float) -> None:
    same = torch.tensor([-7.25], dtype=torch.float64)
    policy = same.clone().requires_grad_()
    dpo_loss(policy, same, same, same, beta=beta).sum().backward()
    assert policy.grad is not None
    assert policy.grad.item() == -beta / 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_margins_have_a_finite_loss_and_gradient(dtype: torch.dtype) -> None:
    policy = torch.tensor([1e5, -1e5], dtype=dtype, requires_grad=True)
    zero = torch.zeros(2, dtype=dtype)
    losses = dpo_loss(policy, zero, zero, zero, beta=0.1)
    losses.sum().backward()
    assert losses.tolist() == pytest.approx([0.0, 1e4], rel=1e-6)
    assert policy.grad is not None
    assert policy.grad.tolist() == pytest.approx([0.0, -0.1], rel=1e-6)


def test_extreme_margins_have_a_finite_weight() -> None:
    assert [find_loss("dpo").weight(value, 0.0, 0.0, 0.0, beta=0.1) for value in (1e5, -1e5)] == [0.0, 0.1]
