"""Preference losses by family: registered functions with their formulas, sources and parameters.

Every function is pure and unreduced, and accepts plain floats, NumPy arrays or torch tensors. Arguments are named as in
the ledger: `policy_chosen_logps` and the like are sums over scored tokens in nats, `chosen_num_tokens` and
`rejected_num_tokens` count those tokens. Each loss has a gradient weight, −∂loss/∂policy_chosen_logps, which says how
strongly the pair still raises its chosen response. Formulas use the symbols of `preference/symbols.py`, and h = a − c,
σ for the logistic function, and ε for the label smoothing.
"""

from __future__ import annotations

from prefscope.preference.losses.absolute import apo_down_loss, apo_zero_loss, bco_pair_loss, nca_pair_loss
from prefscope.preference.losses.divergences import dpo_alpha_loss, dpo_forward_kl_loss, dpo_js_loss
from prefscope.preference.losses.logistic import (
    discopop_loss,
    dpo_loss,
    dpop_loss,
    exo_pair_loss,
    hinge_loss,
    rdpo_loss,
    robust_loss,
    sigmoid_norm_loss,
)
from prefscope.preference.losses.population import (
    aot_loss,
    aot_unpaired_loss,
    bco_loss,
    cpo_loss,
    kto_loss,
    orpo_loss,
    rpo_loss,
    sft_loss,
)
from prefscope.preference.losses.reference_free import alphapo_loss, simpo_loss, slic_loss
from prefscope.preference.losses.squared import ipo_azar_loss, ipo_loss, ipo_trl_loss, sppo_hard_loss
from prefscope.preference.losses.token_level import tdpo1_loss, tdpo2_loss
from prefscope.preference.losses.weighted import ld_dpo_loss, wpo_loss

__all__ = [
    "alphapo_loss",
    "aot_loss",
    "aot_unpaired_loss",
    "apo_down_loss",
    "apo_zero_loss",
    "bco_loss",
    "bco_pair_loss",
    "cpo_loss",
    "discopop_loss",
    "dpo_alpha_loss",
    "dpo_forward_kl_loss",
    "dpo_js_loss",
    "dpo_loss",
    "dpop_loss",
    "exo_pair_loss",
    "hinge_loss",
    "ipo_azar_loss",
    "ipo_loss",
    "ipo_trl_loss",
    "kto_loss",
    "ld_dpo_loss",
    "nca_pair_loss",
    "orpo_loss",
    "rdpo_loss",
    "robust_loss",
    "rpo_loss",
    "sft_loss",
    "sigmoid_norm_loss",
    "simpo_loss",
    "slic_loss",
    "sppo_hard_loss",
    "tdpo1_loss",
    "tdpo2_loss",
    "wpo_loss",
]
