"""Column names: those of the data set never hide those of the ledger."""

from __future__ import annotations

import pytest

from prefscope.flags import FLAGS
from prefscope.ledger.columns import DERIVED, DIGESTS, STORED, TEXTS, TOKENS
from prefscope.ledger.names import carried_names
from prefscope.preference.registry import ALIASES, LOSSES

ALL = (*STORED, *TEXTS, *TOKENS, *DERIVED.values())


@pytest.mark.parametrize(
    "name",
    [
        *(column.name for column in ALL),
        *(column.alias for column in ALL if column.alias),
        *(*LOSSES, *ALIASES, "dpo_loss", "my_loss", "x_weight"),
        *("margins_b", "margin_b", "dpo_b", "dpo_loss_b", "outcome_b"),
        *("flag", "mark", "lint", "abs", "true", "false"),
        *DIGESTS,
    ],
)
def test_a_column_with_a_ledger_name_is_stored_as_data_name(name: str) -> None:
    assert carried_names([name]) == {name: f"data_{name}"}


@pytest.mark.parametrize(
    "name", ["category", "loss", "weight", "rows", "data_row", "data_margin", "row_b", "prompt_b", "and", ""]
)
def test_any_other_column_keeps_its_name(name: str) -> None:
    assert carried_names([name]) == {name: name}


@pytest.mark.parametrize("name", ["Row", "MARGIN", " margin", "Dpo ", "LEN_C", "My_Loss"])
def test_a_ledger_name_in_other_case_or_white_space_is_stored_as_data_name(name: str) -> None:
    assert carried_names([name]) == {name: f"data_{name}"}


@pytest.mark.parametrize(
    ("names", "carried"),
    [
        (["margin", "data_margin"], ["data_data_margin", "data_margin"]),
        (["row", "data_row"], ["data_data_row", "data_row"]),
        (["data_row", "row"], ["data_row", "data_data_row"]),
        (["row", "data_row", "data_data_row"], ["data_data_data_row", "data_row", "data_data_row"]),
    ],
)
def test_two_columns_of_the_data_set_never_become_one(names: list[str], carried: list[str]) -> None:
    assert carried_names(names) == dict(zip(names, carried, strict=True))


def test_every_column_has_a_meaning() -> None:
    assert all(column.meaning for column in ALL)


def test_every_log_prob_and_reward_has_a_unit() -> None:
    quantities = [column for column in (*STORED, *TOKENS, *DERIVED.values()) if column.kind in ("number", "logps")]
    assert [column.name for column in quantities if not column.unit] == []


def test_names_and_aliases_are_unique() -> None:
    names = [name for column in ALL for name in (column.name, column.alias) if name]
    assert len(names) == len(set(names))


def test_the_flags_are_the_documented_ones() -> None:
    assert set(FLAGS) == {
        *("truncated", "prefix_mismatch", "double_bos", "no_eos", "empty", "nothing_scored", "identical"),
        *("non_finite", "crashed", "scores_user_turns", "double_eos", "not_rendered", "not_scored"),
    }
