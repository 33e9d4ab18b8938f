"""Divergences in a ledger: those of the data set's own columns are not prefscope's, and damage is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from prefscope.errors import DamagedLedgerError, UsageError
from prefscope.ledger.columns import DIVERGENCE_SUMS, TOKEN_DIVERGENCES
from prefscope.ledger.table import Ledger
from prefscope.settings import LossChoice, PreferenceSettings
from tests.unit.ledger.test_ledger_damage import pairs

TOKENS = 2
TDPO = PreferenceSettings(losses=(LossChoice("tdpo1"),), explicit=True, weights=True)


def filled(count: int, **changes: Any) -> list[dict[str, Any]]:
    lists: Mapping[str, list[float]] = {column.name: [0.25] * TOKENS for column in TOKEN_DIVERGENCES}
    return [{**one, **dict.fromkeys(DIVERGENCE_SUMS, 0.5), **lists, **changes} for one in pairs(count)]


def test_sums_are_exported_and_part_of_the_losses(write_pairs: Callable[..., Path]) -> None:
    ledger = Ledger(write_pairs(filled(3), groups=2))
    assert ledger.has_divergences
    assert set(DIVERGENCE_SUMS) <= set(ledger.to_pandas().columns)
    assert {"tdpo1_loss", "tdpo1_weight"} <= ledger.derived(TDPO).keys()


def test_a_data_set_s_own_columns_of_these_names_are_no_divergences(write_pairs: Callable[..., Path]) -> None:
    names = (*DIVERGENCE_SUMS, *(column.name for column in TOKEN_DIVERGENCES))
    ledger = Ledger(write_pairs(pairs(2), extra={name: ("text", ["far", None]) for name in names}))
    assert not ledger.has_divergences
    assert set(DIVERGENCE_SUMS) & set(ledger.to_pandas().columns) == set()
    with pytest.raises(UsageError, match="needs KL divergences"):
        ledger.derived(TDPO)
    (own,) = {value for group in ledger.read([f"data_{names[0]}"]) for value in group[f"data_{names[0]}"] if value}
    assert own == "far"


@pytest.mark.parametrize("values", [[0.25], [0.25] * 3, [0.25, None]])
def test_lists_that_do_not_fit_the_tokens_are_refused(
    write_pairs: Callable[..., Path], values: list[float | None]
) -> None:
    path = write_pairs(filled(2, rejected_token_kl_policy_ref=values))
    with pytest.raises(DamagedLedgerError, match="a list in column"):
        Ledger(path).pair(0)
