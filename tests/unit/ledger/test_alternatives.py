"""Alternatives in a ledger: read as they were written; a damaged or hostile file is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from prefscope.errors import DamagedLedgerError
from prefscope.ledger.columns import RANK_COLUMNS
from prefscope.ledger.table import Ledger
from prefscope.report.token_choices import choices_at, instead
from tests.alternatives import COUNT, alternatives_of
from tests.unit.ledger.test_ledger_damage import pairs, replaced, rewritten

KEPT = {"alternatives": COUNT}
TOKENS = 2


def filled(count: int, **changes: Any) -> list[dict[str, Any]]:
    return [{**one, **alternatives_of(TOKENS, TOKENS), **changes} for one in pairs(count)]


@pytest.fixture
def ledger(write_pairs: Callable[..., Path]) -> Path:
    return write_pairs(filled(6), groups=2, manifest=KEPT)


def test_alternatives_are_read_as_they_were_written(ledger: Path) -> None:
    found = Ledger(ledger).alternatives_of(4)
    assert sorted(found) == [(role, side) for role in ("policy", "ref") for side in ("chosen", "rejected")]
    first = found["policy", "chosen"].at(1)
    assert (first.texts, first.ids, first.rank, first.entropy) == ((" not", " always"), (7, 9), 3, 1.5)
    assert first.logps == pytest.approx((np.log(0.41), np.log(0.22)), rel=1e-3)


def test_the_whole_pair_is_read_without_alternatives(ledger: Path) -> None:
    assert not [name for name in Ledger(ledger).pair(0) if "top_" in name or name.startswith("alternative")]


def test_an_id_without_a_text_is_shown_as_a_number_and_an_empty_place_left_out(
    write_pairs: Callable[..., Path],
) -> None:
    ids = [7, 1000, 9, -1]
    path = write_pairs(filled(1, ref_chosen_top_ids=ids), manifest=KEPT)
    kept = Ledger(path).alternatives_of(0)["ref", "chosen"]
    assert [kept.at(token).texts for token in range(TOKENS)] == [(" not", "<1000>"), (" always",)]


def test_the_largest_rank_is_over_both_responses_and_unknown_if_a_rank_is(write_pairs: Callable[..., Path]) -> None:
    rows = filled(3)
    rows[0] |= {"policy_rejected_token_ranks": [1, 250]}
    rows[1] |= {"policy_chosen_token_ranks": [0, 4]}
    path = write_pairs(rows, manifest=KEPT)
    found = [Ledger(path).stored[name].tolist() for name in RANK_COLUMNS]
    assert found == [[250.0, pytest.approx(np.nan, nan_ok=True), 3.0], [2.0, 2.0, 2.0]]


def test_a_data_set_s_own_columns_of_these_names_are_no_alternatives(write_pairs: Callable[..., Path]) -> None:
    own = {"alternative_ids": ("text", ["a", "b"]), "rank_policy": ("integer", [5, 6])}
    opened = Ledger(write_pairs(pairs(2), extra=own))
    assert opened.alternatives_of(0) == {}
    assert opened.pair(1)["data_alternative_ids"] == "b"
    assert next(opened.read(["data_rank_policy"])) == {"data_rank_policy": [5, 6]}


@pytest.mark.parametrize("count", [21, -1, True, "5", 2.0, None])
def test_an_impossible_number_of_alternatives_is_refused(write_pairs: Callable[..., Path], count: Any) -> None:
    with pytest.raises(DamagedLedgerError, match="in the manifest"):
        Ledger(write_pairs(filled(1), manifest={"alternatives": count}))


HALVES, INTEGERS, TEXTS = pa.list_(pa.float16()), pa.list_(pa.int32()), pa.list_(pa.string())
CHANGES: Mapping[str, tuple[Any, str]] = {
    "missing": (lambda table: table.drop_columns(["ref_chosen_top_ids"]), "column ref_chosen_top_ids"),
    "another type": (replaced("alternative_ids", ["a"] * 6, pa.string()), "column alternative_ids"),
    "no list": (replaced("policy_chosen_token_ranks", [None] * 6, INTEGERS), "a list in column policy_chosen_token_r"),
    "no value": (replaced("alternative_texts", [["a", None]] * 6, TEXTS), "a list in column alternative_texts"),
    "too few ids": (replaced("ref_rejected_top_ids", [[7, 9, 7]] * 6, INTEGERS), "column ref_rejected_top_ids"),
    "too few log-probs": (
        replaced("ref_rejected_top_logps", [np.zeros(3, np.float16)] * 6, HALVES),
        "column ref_rejected_top_logps",
    ),
    "too many texts": (replaced("alternative_texts", [["a", "b", "c"]] * 6, TEXTS), "column alternative_texts"),
    "too many ranks": (replaced("policy_chosen_token_ranks", [[1, 2, 3]] * 6, INTEGERS), "the length of a list"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_hostile_alternatives_are_refused(ledger: Path, change: str) -> None:
    rewrite, part = CHANGES[change]
    with pytest.raises(DamagedLedgerError, match=f"in {part}" if part.startswith("column") else part):
        Ledger(rewritten(ledger, rewrite)).alternatives_of(0)


def test_a_long_hostile_text_is_escaped_and_cut(write_pairs: Callable[..., Path]) -> None:
    path = write_pairs(filled(1, alternative_texts=["\x1b[2J" + 10**6 * "a", " always"]), manifest=KEPT)
    said = instead(choices_at(Ledger(path).alternatives_of(0), "chosen", 0))
    assert said.startswith(f"policy (rank 3): “␛[2J{'a' * 36}…” 41%, “ always” 22%; reference (rank 2): “ always” 37%")


def test_impossible_log_probs_are_shown_without_an_error(write_pairs: Callable[..., Path]) -> None:
    wild = np.array([65504, np.inf, -np.inf, np.nan], dtype=np.float16)
    path = write_pairs(
        filled(1, policy_chosen_top_logps=wild, policy_chosen_token_ranks=[-5, 2**31 - 1]), manifest=KEPT
    )
    said = [instead(choices_at(Ledger(path).alternatives_of(0), "chosen", at)) for at in range(TOKENS)]
    assert said[0].startswith("policy (rank ·): “ not” >99%, “ always” >99%; reference (rank 2)")
    assert said[1].startswith("policy (rank 2,147,483,647): “ not” <1%, “ always” ·; reference")
