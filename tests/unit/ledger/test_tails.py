"""Log-probs of responses beyond the length of the shorter one, computed by hand from those of their tokens."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prefscope.errors import UsageError
from prefscope.ledger.columns import TAIL_LOGPS
from prefscope.ledger.table import load_ledger
from prefscope.settings import LossChoice, PreferenceSettings

Write = Callable[..., Path]
LD_DPO = PreferenceSettings(0.1, (LossChoice("ld_dpo", {"alpha": 0.0}),), explicit=True)


def pair(chosen: list[float], rejected: list[float]) -> dict[str, Any]:
    """Return a pair whose reference has half of each token's log-prob."""
    tokens = {
        "chosen_tokens": ["a"] * len(chosen),
        "rejected_tokens": ["b"] * len(rejected),
        "policy_chosen_token_logps": chosen,
        "policy_rejected_token_logps": rejected,
        "ref_chosen_token_logps": [value / 2 for value in chosen],
        "ref_rejected_token_logps": [value / 2 for value in rejected],
    }
    sums = (sum(chosen), sum(rejected), sum(chosen) / 2, sum(rejected) / 2)
    return {"logps": sums, "chosen_num_tokens": len(chosen), "rejected_num_tokens": len(rejected), **tokens}


PAIRS = [pair([-1.0, -2.0, -3.0], [-4.0]), pair([-1.0], [-2.0]), pair([-1.0], [-2.0, -6.0, math.nan])]


@pytest.mark.parametrize("groups", [1, 2])
def test_the_tail_is_the_excess_of_the_longer_response(write_pairs: Write, groups: int) -> None:
    ledger = load_ledger(write_pairs(PAIRS, groups=groups))
    found = [ledger.stored[name].tolist() for name in TAIL_LOGPS]
    assert found[0] == [-5.0, 0.0, 0.0]
    assert found[1][:2] == [0.0, 0.0]
    assert math.isnan(found[1][2])
    assert found[2] == [-2.5, 0.0, 0.0]


def test_ld_dpo_without_tails_is_dpo_of_the_common_length(write_pairs: Write) -> None:
    ledger = load_ledger(write_pairs(PAIRS[:2]))
    margin = 0.1 * ((-1.0 + 0.5) - (-4.0 + 2.0))
    assert ledger.derived(LD_DPO)["ld_dpo_loss"][0] == pytest.approx(math.log1p(math.exp(-margin)))
    assert ledger.only(ledger.stored["chosen_num_tokens"] > 1).derived(LD_DPO)["ld_dpo_loss"].size == 1


def test_tails_need_a_ledger_with_tokens(write_pairs: Write) -> None:
    ledger = load_ledger(write_pairs([{"logps": (-1.0, -2.0, -1.0, -2.0)}]))
    with pytest.raises(UsageError, match="loss ld_dpo needs token log-probs, which this ledger does not have"):
        ledger.derived(LD_DPO)
