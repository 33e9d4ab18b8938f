"""Every loss of the installed TRL's DPOTrainer has the same value here, pair by pair, on any log-probs and lengths."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from trl.experimental.cpo import CPOTrainer
from trl.experimental.orpo import ORPOTrainer
from trl.trainer.dpo_trainer import DPOTrainer

from prefscope.ledger.columns import COLLISION_LOGPS, LOGPS, NUM_TOKENS, TAIL_LOGPS
from prefscope.preference import losses as _losses  # noqa: F401 (registers the losses)
from prefscope.preference.registry import find_loss

pytestmark = pytest.mark.slow

MEANS = st.floats(-4.0, -0.01)
"""Of the log-probs of a response's tokens."""
SHIFTS = st.floats(-1.0, 1.0)
"""Of the reference's from the policy's."""
LENGTHS = st.integers(1, 12)
BETAS = st.floats(0.01, 2.0)
SMOOTHING = st.floats(0.001, 0.45)


@dataclass(frozen=True)
class Pairs:
    """Token log-probs of some pairs, for both sides and both models, shape (length,) each."""

    policy: tuple[list[torch.Tensor], list[torch.Tensor]]
    ref: tuple[list[torch.Tensor], list[torch.Tensor]]
    collisions: tuple[list[torch.Tensor], list[torch.Tensor]]
    """log Σ π² of the policy at each token."""

    @property
    def columns(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return the ledger's columns."""
        models = (self.policy, self.ref)
        sums = [[float(one.sum()) for one in side] for model in models for side in model]
        counts = [[float(len(one)) for one in side] for side in self.policy]
        shorter = [min(len(one), len(other)) for one, other in zip(*self.policy, strict=True)]
        tails = [
            [float(one[kept:].sum()) for one, kept in zip(side, shorter, strict=True)]
            for model in models
            for side in model
        ]
        sure = [[float(one.sum()) for one in side] for side in self.collisions]
        names = (*LOGPS, *NUM_TOKENS, *TAIL_LOGPS, *COLLISION_LOGPS)
        return {name: np.array(values) for name, values in zip(names, (*sums, *counts, *tails, *sure), strict=True)}

    def of(self, pair: int) -> Pairs:
        """Return one pair alone."""
        sides = [([model[0][pair]], [model[1][pair]]) for model in (self.policy, self.ref, self.collisions)]
        return Pairs(sides[0], sides[1], sides[2])

    def __len__(self) -> int:
        return len(self.policy[0])


@st.composite
def some_pairs(draw: st.DrawFn) -> Pairs:
    number = draw(st.integers(1, 5))
    policy: tuple[list[torch.Tensor], list[torch.Tensor]] = ([], [])
    ref: tuple[list[torch.Tensor], list[torch.Tensor]] = ([], [])
    collisions: tuple[list[torch.Tensor], list[torch.Tensor]] = ([], [])
    for _ in range(number):
        for side in (0, 1):
            tokens = draw(st.lists(MEANS, min_size=1, max_size=12))
            policy[side].append(torch.tensor(tokens, dtype=torch.float64))
            ref[side].append(policy[side][-1] + draw(SHIFTS))
            collisions[side].append(torch.full((len(tokens),), draw(MEANS), dtype=torch.float64))
    return Pairs(policy, ref, collisions)


def trl_loss(pairs: Pairs, loss_type: str, dtype: torch.dtype = torch.float64, **settings: Any) -> float:
    """Return the results of TRL's `_compute_loss` for a batch, with log-probs passed in place of a model."""
    rows = [*pairs.policy[0], *pairs.policy[1]]
    longest = max(map(len, rows))
    logps = torch.zeros(len(rows), longest, dtype=dtype)
    mask = torch.zeros(len(rows), longest + 1, dtype=torch.long)  # a token of prompt goes before
    for i, row in enumerate(rows):
        logps[i, : len(row)] = row.to(dtype)
        mask[i, 1 : len(row) + 1] = 1
    zeros, collisions = torch.zeros_like(logps), torch.zeros_like(logps)
    for i, row in enumerate([*pairs.collisions[0], *pairs.collisions[1]]):
        collisions[i, : len(row)] = row.to(dtype)
    outputs = SimpleNamespace(
        log_probs=logps, entropy=zeros, mean_logits=zeros, is_top1=zeros.bool(), log_sum_sq_probs=collisions
    )

    def model(**_: Any) -> Any:
        return outputs

    model.training = False  # type: ignore[attr-defined]
    trainer = SimpleNamespace(
        model=model,
        accelerator=SimpleNamespace(device="cpu", gather=lambda x: x, gather_for_metrics=lambda x: x),
        loss_types=[loss_type],
        loss_weights=[1.0],
        precompute_ref_logps=True,
        aux_loss_enabled=False,
        use_weighting=False,
        ld_alpha=None,
        _metrics=defaultdict(lambda: defaultdict(list)),
        _total_train_tokens=0,
        beta=0.1,
        label_smoothing=0.0,
        f_divergence_type="reverse_kl",
        f_alpha_divergence_coef=0.5,
        args=SimpleNamespace(discopop_tau=settings.pop("discopop_tau", 0.05)),
    )
    given_inputs = settings.pop("inputs", {})
    vars(trainer).update(settings)
    inputs = {
        "input_ids": torch.ones_like(mask),
        "attention_mask": mask,
        "completion_mask": mask,
        "ref_chosen_logps": torch.stack([row.sum() for row in pairs.ref[0]]).to(dtype),
        "ref_rejected_logps": torch.stack([row.sum() for row in pairs.ref[1]]).to(dtype),
    } | given_inputs
    return float(DPOTrainer._compute_loss(trainer, model, inputs, return_outputs=False))  # type: ignore[arg-type, no-untyped-call]


def our_losses(pairs: Pairs, name: str, **parameters: float) -> list[float]:
    loss = find_loss(name)
    values: list[float] = loss.compute(*(pairs.columns[column] for column in loss.inputs), **parameters).tolist()
    return values


PAIRWISE = (
    "sigmoid",
    "hinge",
    "ipo",
    "nca_pair",
    "bco_pair",
    "sppo_hard",
    "apo_zero",
    "apo_down",
    "sigmoid_norm",
)


def ld_logps(pairs: Pairs, alpha: float) -> dict[str, torch.Tensor]:
    """Return the reference's sums as TRL precomputes them with `ld_alpha`."""
    found = {}
    for name, side in zip(("ref_chosen_logps", "ref_rejected_logps"), pairs.ref, strict=True):
        shorter = [min(len(one), len(other)) for one, other in zip(*pairs.ref, strict=True)]
        sums = [one[:kept].sum() + alpha * one[kept:].sum() for one, kept in zip(side, shorter, strict=True)]
        found[name] = torch.stack(sums)
    return found


@given(pairs=some_pairs(), beta=BETAS, alpha=st.floats(0.0, 1.0))
def test_ld_dpo_matches_trl(pairs: Pairs, beta: float, alpha: float) -> None:
    ours = our_losses(pairs, "ld_dpo", beta=beta, alpha=alpha)
    theirs = [
        trl_loss(one, "sigmoid", beta=beta, ld_alpha=alpha, inputs=ld_logps(one, alpha))
        for one in map(pairs.of, range(len(pairs)))
    ]
    assert ours == pytest.approx(theirs, rel=1e-6, abs=1e-6)


@given(pairs=some_pairs(), beta=BETAS)
def test_wpo_matches_trl(pairs: Pairs, beta: float) -> None:
    theirs = [trl_loss(pairs.of(i), "sigmoid", beta=beta, use_weighting=True) for i in range(len(pairs))]
    assert our_losses(pairs, "wpo", beta=beta) == pytest.approx(theirs, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("loss_type", PAIRWISE)
@given(pairs=some_pairs(), beta=BETAS)
def test_per_pair_losses_match_trl(loss_type: str, pairs: Pairs, beta: float) -> None:
    ours = our_losses(pairs, "ipo_trl" if loss_type == "ipo" else loss_type, beta=beta)
    theirs = [trl_loss(pairs.of(i), loss_type, beta=beta) for i in range(len(pairs))]
    assert ours == pytest.approx(theirs, rel=1e-6, abs=1e-6)


@given(pairs=some_pairs(), beta=BETAS, label_smoothing=SMOOTHING)
def test_trl_ignores_the_label_smoothing_of_its_sigmoid(pairs: Pairs, beta: float, label_smoothing: float) -> None:
    theirs = trl_loss(pairs, "sigmoid", beta=beta, label_smoothing=label_smoothing)
    assert np.mean(our_losses(pairs, "dpo", beta=beta)) == pytest.approx(theirs, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("loss_type", ["exo_pair", "robust"])
@given(pairs=some_pairs(), beta=BETAS, label_smoothing=SMOOTHING)
def test_losses_with_label_smoothing_match_trl(
    loss_type: str, pairs: Pairs, beta: float, label_smoothing: float
) -> None:
    ours = our_losses(pairs, loss_type, beta=beta, label_smoothing=label_smoothing)
    knobs: dict[str, Any] = {"beta": beta, "label_smoothing": label_smoothing}
    theirs = [trl_loss(pairs.of(i), loss_type, **knobs) for i in range(len(pairs))]
    # TRL makes ε a float32, so its logarithm is off by that much.
    assert ours == pytest.approx(theirs, rel=1e-6, abs=1e-5)


@given(pairs=some_pairs(), beta=BETAS, tau=st.floats(0.02, 1.0))
def test_discopop_matches_trl(pairs: Pairs, beta: float, tau: float) -> None:
    ours = our_losses(pairs, "discopop", beta=beta, tau=tau)
    theirs = [trl_loss(pairs.of(i), "discopop", beta=beta, discopop_tau=tau) for i in range(len(pairs))]
    assert ours == pytest.approx(theirs, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("loss_type", ["aot", "aot_unpaired"])
@given(pairs=some_pairs(), beta=BETAS, label_smoothing=SMOOTHING)
def test_losses_over_all_pairs_match_trl_with_one_batch(
    loss_type: str, pairs: Pairs, beta: float, label_smoothing: float
) -> None:
    ours = our_losses(pairs, loss_type, beta=beta, label_smoothing=label_smoothing)
    theirs = trl_loss(pairs, loss_type, beta=beta, label_smoothing=label_smoothing)
    assert np.mean(ours) == pytest.approx(theirs, rel=1e-6, abs=1e-6)


@given(pairs=some_pairs())
def test_the_mean_sft_loss_matches_trls_mean_over_tokens(pairs: Pairs) -> None:
    assert np.mean(our_losses(pairs, "sft")) == pytest.approx(trl_loss(pairs, "sft"), rel=1e-6)


@given(pairs=some_pairs(), beta=BETAS, alpha=st.floats(0.0, 5.0))
def test_the_mean_rpo_loss_matches_trls_sum_of_sigmoid_and_sft(pairs: Pairs, beta: float, alpha: float) -> None:
    theirs = trl_loss(pairs, "sigmoid", beta=beta, loss_types=["sigmoid", "sft"], loss_weights=[1.0, alpha])
    assert np.mean(our_losses(pairs, "rpo", beta=beta, alpha=alpha)) == pytest.approx(theirs, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "divergence"), [("dpo_forward_kl", "forward_kl"), ("dpo_js", "js_divergence")], ids=["forward KL", "JS"]
)
@given(pairs=some_pairs(), beta=BETAS)
def test_divergences_match_trl(name: str, divergence: str, pairs: Pairs, beta: float) -> None:
    theirs = [trl_loss(pairs.of(i), "sigmoid", beta=beta, f_divergence_type=divergence) for i in range(len(pairs))]
    assert our_losses(pairs, name, beta=beta) == pytest.approx(theirs, rel=1e-6, abs=1e-6)


@given(pairs=some_pairs(), beta=BETAS, alpha=st.floats(0.0, 2.0))
def test_alpha_divergences_match_trl_in_float32(pairs: Pairs, beta: float, alpha: float) -> None:
    settings: dict[str, Any] = {"beta": beta, "f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": alpha}
    theirs = [trl_loss(pairs.of(i), "sigmoid", torch.float32, **settings) for i in range(len(pairs))]
    ours = our_losses(pairs, "dpo_alpha", beta=beta, alpha=alpha)
    if abs(alpha - 1.0) > 1e-3:  # nearer, float32 cancels
        assert ours == pytest.approx(theirs, rel=2e-3, abs=1e-4)


# TRL's trainers without a reference


@given(pairs=some_pairs(), beta=BETAS, label_smoothing=SMOOTHING)
def test_cpo_matches_trl(pairs: Pairs, beta: float, label_smoothing: float) -> None:
    ours = our_losses(pairs, "cpo", beta=beta, label_smoothing=label_smoothing, alpha=0.0)
    assert ours == pytest.approx(cpo_losses(pairs, "sigmoid", beta, label_smoothing=label_smoothing), rel=1e-6)


@given(pairs=some_pairs(), beta=BETAS, gamma=st.floats(0.0, 2.0), alpha=st.floats(-0.9, 0.9))
@settings(max_examples=50)
def test_simpo_and_alphapo_match_trl(pairs: Pairs, beta: float, gamma: float, alpha: float) -> None:
    theirs = cpo_losses(pairs, "simpo", beta, simpo_gamma=gamma)
    assert our_losses(pairs, "simpo", beta=beta, gamma=gamma) == pytest.approx(theirs, rel=1e-6, abs=1e-9)
    if abs(alpha) > 1e-3:  # nearer, TRL's power of a probability cancels
        theirs = cpo_losses(pairs, "simpo", beta, simpo_gamma=gamma, alpha=alpha)
        ours = our_losses(pairs, "alphapo", beta=beta, gamma=gamma, alpha=alpha)
        assert ours == pytest.approx(theirs, rel=1e-6, abs=1e-6)


def cpo_losses(pairs: Pairs, loss_type: str, beta: float, **settings: float) -> list[float]:
    """Return TRL's losses of its CPO trainer, without the likelihood."""
    knobs = {"label_smoothing": 0.0, "simpo_gamma": 0.0, "alpha": 0.0, **settings}
    trainer = SimpleNamespace(
        beta=beta, loss_type=loss_type, accelerator=SimpleNamespace(device="cpu"), cpo_alpha=0.0, **knobs
    )
    chosen, rejected = (
        torch.stack([row.mean() if loss_type == "simpo" else row.sum() for row in side]) for side in pairs.policy
    )
    losses: list[float] = CPOTrainer.cpo_loss(trainer, chosen, rejected)[0].tolist()  # type: ignore[arg-type]
    return losses


@given(pairs=some_pairs(), beta=BETAS)
def test_orpo_odds_match_trl(pairs: Pairs, beta: float) -> None:
    trainer = SimpleNamespace(beta=beta, accelerator=SimpleNamespace(device="cpu"))
    means = (torch.stack([row.mean() for row in side]) for side in pairs.policy)
    theirs = -ORPOTrainer.odds_ratio_loss(trainer, *means)[0]  # type: ignore[arg-type]
    ours = np.array(our_losses(pairs, "orpo", beta=beta)) - np.array(our_losses(pairs, "sft"))
    assert ours.tolist() == pytest.approx(theirs.tolist(), rel=1e-4, abs=1e-4)  # TRL computes it in float32


def test_the_harness_reproduces_the_published_value() -> None:
    tokens = [[torch.full((count,), total / count, dtype=torch.float64)] for total, count in ((-50, 20), (-60, 30))]
    refs = [[torch.full((count,), total / count, dtype=torch.float64)] for total, count in ((-52, 20), (-58, 30))]
    pairs = Pairs((tokens[0], tokens[1]), (refs[0], refs[1]), (tokens[0], tokens[1]))
    assert math.isclose(trl_loss(pairs, "sigmoid"), 0.513015, abs_tol=1e-6)
