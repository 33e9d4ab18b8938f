"""`prefscope explain`: lines and tables, a stable JSON object, and refusals that say which rows there are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

Program = Callable[..., tuple[int, str, str]]


@pytest.fixture
def demo(samples: Path) -> Path:
    return samples / "demo.parquet"


def test_a_row_is_explained_in_words_and_tables(program: Program, demo: Path) -> None:
    code, out, err = program("explain", demo, 115)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "row 115, line 116, pair bc9d1bf0b9d63a47"
    assert lines[1].startswith("Ranked wrong by 0.234: the policy lowered the chosen response")
    assert [line for line in lines if line in {"By region", "By sentence"}] == ["By region", "By sentence"]


def test_the_json_has_every_part_and_they_add_up(program: Program, demo: Path, samples: Path) -> None:
    code, out, _ = program("explain", demo, 153, "--against", samples / "demo-early.parquet", "--json")
    value = json.loads(out)
    assert code == 0
    assert list(value) == [
        *("row", "line", "pair_id", "reward", "margin", "chosen_reward", "rejected_reward", "words", "gross", "length"),
        *("kl", "regions", "sentences", "noise_floor", "run_b", "course", "tokens", "nearest"),
    ]
    assert value["reward"] == {"name": "implicit", "beta": 0.1, "per_token": False}
    for parts in ("regions", "sentences"):
        assert sum(one["effect"] for one in value[parts]) == pytest.approx(value["margin"], abs=1e-9)
    assert value["run_b"]["margin"] + sum(one["change"] for one in value["sentences"]) == pytest.approx(value["margin"])
    assert [(one["row"], one["similarity"]) for one in value["nearest"]] == [(77, 1.0)]


def test_beta_scales_every_part(program: Program, demo: Path) -> None:
    one, ten = (
        json.loads(program("explain", demo, 46, "--json", "--beta", beta)[1])["regions"] for beta in ("0.1", "1.0")
    )
    assert [part["effect"] * 10 for part in one] == pytest.approx([part["effect"] for part in ten])


@pytest.mark.parametrize("row", ["170", "-1", "99999999999999999999"])
def test_an_unknown_row_is_refused_with_the_rows_there_are(program: Program, demo: Path, row: str) -> None:
    code, out, err = program("explain", demo, "--", row)
    assert (code, out) == (2, "")
    assert f"there is no row {row}. Its rows are 0 to 169." in err


def test_a_row_that_is_no_number_is_refused(program: Program, demo: Path) -> None:
    code, _, err = program("explain", demo, "first")
    assert code == 2
    assert "Invalid value for 'ROW'" in err


def test_a_ledger_is_not_compared_with_itself(program: Program, demo: Path) -> None:
    code, _, err = program("explain", demo, 0, "--against", demo)
    assert code == 2
    assert "This ledger is named twice" in err or "this ledger is named twice" in err
