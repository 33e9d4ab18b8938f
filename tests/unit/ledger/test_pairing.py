"""Ledgers of the same pairs: which pairs two of them share, and the columns of both side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prefscope.errors import LedgerError, UsageError
from prefscope.ledger.filters import FilterError
from prefscope.ledger.pairing import PairedView, Pairing, load_runs, run_names
from prefscope.ledger.table import Ledger, load_ledger
from prefscope.settings import PreferenceSettings

Write = Callable[..., Ledger]
DEFAULT = PreferenceSettings()


@pytest.fixture
def write(write_pairs: Callable[..., Path]) -> Write:
    """Return a function that writes a ledger of margins (at beta 0.1), whose pairs are named by letters."""

    def call(name: str, letters: str, margins: Sequence[float] | None = None, **options: Any) -> Ledger:
        logps = [(-52.0 + 10 * margin, -60.0, -52.0, -60.0) for margin in margins or [0.0] * len(letters)]
        pairs = [{"pair_id": letter * 16, "logps": four} for letter, four in zip(letters, logps, strict=True)]
        return load_ledger(write_pairs(pairs, name=name, **options))

    return call


def positions(a: Ledger, b: Ledger) -> list[tuple[int, int]]:
    first, second = Pairing(a, b).positions
    return list(zip(first.tolist(), second.tolist(), strict=True))


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ("abc", "abc", [(0, 0), (1, 1), (2, 2)]),
        ("abc", "cab", [(0, 1), (1, 2), (2, 0)]),
        ("abc", "xbz", [(1, 1)]),
        ("abc", "xyz", []),
        ("aba", "aab", [(0, 0), (1, 2), (2, 1)]),
        ("aab", "ba", [(0, 1), (2, 0)]),
        ("a", "aaa", [(0, 0)]),
    ],
    ids=["the same", "another order", "one shared", "none shared", "copies", "a missing copy", "more copies"],
)
def test_pairs_are_joined_by_pair_id_and_occurrence(
    write: Write, a: str, b: str, expected: list[tuple[int, int]]
) -> None:
    assert positions(write("a.parquet", a), write("b.parquet", b, groups=2)) == expected


def test_pairs_missing_from_each_ledger_are_counted(write: Write) -> None:
    pairing = Pairing(write("a.parquet", "abcd"), write("b.parquet", "bx"))
    assert (pairing.num_pairs, pairing.missing) == (1, (1, 3))


def test_a_pair_is_found_in_the_other_ledger_or_none_is_returned(write: Write) -> None:
    pairing = Pairing(write("a.parquet", "abcd"), write("b.parquet", "dxb"))
    assert [pairing.find(position) for position in range(4)] == [None, 2, None, 0]


@pytest.mark.parametrize(("other", "expected"), [("abab", [(0, 1), (1, 2)]), ("abba", [(0, 2), (1, 1)])])
def test_slices_are_joined_like_whole_ledgers(write: Write, other: str, expected: list[tuple[int, int]]) -> None:
    second_half = write("a.parquet", "abab").only(np.array([False, False, True, True]))
    last_three = write("b.parquet", other).only(np.array([False, True, True, True]))
    assert positions(second_half, last_three) == expected


def test_an_empty_ledger_shares_no_pairs(write: Write) -> None:
    a, b = write("a.parquet", "ab"), write("b.parquet", "ab")
    nothing = b.only(np.zeros(2, dtype=np.bool_))
    assert positions(a, nothing) == positions(nothing, a) == []


@pytest.fixture
def view(write: Write) -> PairedView:
    """Return a paired view of two ledgers: pairs a to d with margins −1, +1, 0, +2, and d to b with +4, nan, −3."""
    a = write("a.parquet", "abcd", [-1.0, 1.0, 0.0, 2.0])
    b = write("b.parquet", "dcb", [4.0, math.nan, -3.0], extra={"score": ("number", [1.0, 2.0, 3.0])})
    return PairedView(a, DEFAULT, None, b, Pairing(a, b))


def rows(view: PairedView, expression: str) -> list[int]:
    return np.flatnonzero(view.filter(expression)).tolist()


def test_columns_of_the_other_run_are_aligned_with_the_shown_one_and_nan_if_missing(view: PairedView) -> None:
    assert view.column("margins_b") == pytest.approx([math.nan, -3.0, math.nan, 4.0], nan_ok=True)
    assert view.column("chosen_num_tokens_b") == pytest.approx([math.nan, 20, 20, 20], nan_ok=True)
    assert view.column("outcome_b").tolist() == ["", "loss", "", "win"]
    assert view.column("margins") == pytest.approx([-1.0, 1.0, 0.0, 2.0])


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("margin > 0 and margin_b <= 0", [1]),
        ("margins > 0 and margins_b > 0", [3]),
        ("margin_b > margin", [3]),
        ("not margin_b < 0", [0, 2, 3]),
        ('outcome_b == "loss"', [1]),
        ("dpo_b < 0.1", [3]),
        ("r_chs_b - r_chs > 1", [3]),
        ("len_c_b == len_c", [1, 2, 3]),
        ("logp_c_b == logp_c_b", [1, 3]),
    ],
)
def test_filters_can_use_columns_of_the_other_run(view: PairedView, expression: str, expected: list[int]) -> None:
    assert rows(view, expression) == expected


def test_columns_of_the_other_run_follow_the_knobs(write: Write) -> None:
    a, b = write("a.parquet", "ab", [1.0, 1.0]), write("b.parquet", "ba", [2.0, 3.0])
    wide = PairedView(a, PreferenceSettings(beta=1.0), None, b, Pairing(a, b))
    assert wide.column("margins_b") == pytest.approx([30.0, 20.0])


@pytest.mark.parametrize("name", ["prompt_b", "row_b", "pair_id_b", "score_b", "nonsense_b"])
def test_columns_that_are_equal_in_every_run_are_not_repeated_for_the_other_run(view: PairedView, name: str) -> None:
    with pytest.raises(FilterError, match=f"There is no column {name}"):
        view.filter(f"{name} == {name}")


def test_a_run_without_a_reference_has_no_margin_columns(write_pairs: Callable[..., Path], write: Write) -> None:
    a = write("a.parquet", "ab")
    free = [{"pair_id": "b" * 16, "logps": (-50.0, -60.0, None, None)}]
    b = load_ledger(write_pairs(free, manifest={"has_reference": False}, name="free.parquet"))
    view = PairedView(a, DEFAULT, None, b, Pairing(a, b))
    assert rows(view, "logp_c_b == -50 and simpo_b > 0") == [1]
    with pytest.raises(FilterError, match="There is no column margin_b"):
        view.filter("margin_b > 0")


def test_a_data_set_column_with_such_a_name_is_renamed(write: Write) -> None:
    own: dict[str, Any] = {"margins_b": ("number", [7.0]), "margin_b": ("number", [8.0])}
    a, b = write("a.parquet", "a", [1.0], extra=own), write("b.parquet", "a", [2.0])
    view = PairedView(a, DEFAULT, None, b, Pairing(a, b))
    assert view.column("margins_b") == pytest.approx([2.0])
    assert rows(view, "data_margin_b == 8 and data_margins_b == 7") == [0]
    with pytest.raises(FilterError, match="Write margins_b for prefscope's column, data_margin_b for the data set's"):
        rows(view, "margin_b == 8")


def test_the_margin_of_the_other_run_is_unambiguous_if_the_data_set_has_a_margin(write: Write) -> None:
    own: dict[str, Any] = {"margin": ("number", [7.0])}
    a, b = write("a.parquet", "a", [1.0], extra=own), write("b.parquet", "a", [2.0], extra=own)
    assert rows(PairedView(a, DEFAULT, None, b, Pairing(a, b)), "margin_b > margins") == [0]


def test_runs_are_loaded_in_order(write: Write, tmp_path: Path) -> None:
    write("b.parquet", "ab")
    write("a.parquet", "abc")
    found = load_runs([tmp_path / "b.parquet", tmp_path / "a.parquet"])
    assert [ledger.num_pairs for ledger in found] == [2, 3]


def test_the_same_ledger_twice_is_refused_under_any_path(write: Write, tmp_path: Path) -> None:
    write("a.parquet", "ab")
    (tmp_path / "link.parquet").symlink_to(tmp_path / "a.parquet")
    with pytest.raises(UsageError, match=r"link.parquet: this ledger is named twice. Name each ledger only once\."):
        load_runs([tmp_path / "a.parquet", tmp_path / "link.parquet"])


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="there is no such ledger"):
        load_runs([tmp_path / "gone.parquet"])


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["step-1.parquet", "step-2.parquet"], ["step-1", "step-2"]),
        (["one/x.parquet", "two/x.parquet"], ["one/x", "two/x"]),
        (["one/x.parquet", "two/x.parquet", "y.parquet"], ["one/x", "two/x", "y"]),
    ],
    ids=["files", "folders", "folders of some"],
)
def test_runs_are_named_by_file_and_by_the_folders_that_distinguish_them(
    write: Write, files: list[str], expected: list[str]
) -> None:
    assert run_names([write(name, "a") for name in files]) == expected


def test_runs_that_differ_only_in_the_suffix_are_named_by_their_paths(write: Write, tmp_path: Path) -> None:
    names = run_names([write("x.parquet", "a"), write("x", "a")])
    assert names == [str(tmp_path / "x.parquet"), str(tmp_path / "x")]
