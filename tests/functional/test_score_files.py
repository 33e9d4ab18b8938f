"""`score` on data sets of several files, of several splits, and on what prefscope itself wrote."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prefscope.ledger.table import load_ledger

pytestmark = pytest.mark.slow

Program = Callable[..., tuple[int, str, str]]
Rows = list[dict[str, Any]]


def turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


ROWS = [
    {"prompt": [turn("user", f"q{i}")], "chosen": [turn("assistant", "a")], "rejected": [turn("assistant", f"b{i}")]}
    for i in range(3)
]


def write(name: str, rows: Rows) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("data", [["data"], ["data/*.jsonl"], ["data/a.jsonl", "data/b.jsonl"]])
def test_shards_of_a_data_set_are_scored_like_one_file(program: Program, data: list[str]) -> None:
    write("data/a.jsonl", ROWS[:2])
    write("data/b.jsonl", ROWS[2:])
    assert program("score", write("whole.jsonl", ROWS), "-o", "whole.parquet")[0] == 0
    assert program("score", *data, "-o", "shards.parquet")[0] == 0
    whole, shards = load_ledger("whole.parquet"), load_ledger("shards.parquet")
    for column in ("row", "pair_id", "policy_chosen_logps", "ref_rejected_logps"):
        assert whole.stored[column].tolist() == shards.stored[column].tolist()
    files = [Path(shards.pair(i)["source_file"]).name for i in range(3)]
    assert (files, shards.stored["line"].tolist()) == (["a.jsonl", "a.jsonl", "b.jsonl"], [1, 2, 1])


def test_a_bad_row_of_a_shard_is_named_with_its_file(program: Program) -> None:
    write("data/a.jsonl", ROWS)
    write("data/b.jsonl", [{"prompt": "q", "rejected": "b"}])
    code, _, told = program("score", "data")
    assert code == 2
    assert "  b.jsonl:1: `chosen` is missing; columns found: prompt, rejected" in told


def test_layouts_that_differ_between_shards_are_reported(program: Program) -> None:
    write("data/a.jsonl", ROWS[:1])
    write("data/b.jsonl", [{"question": "q", "chosen": "a", "rejected": "b"}])
    code, _, told = program("score", "data", "-o", "x.parquet")
    assert code == 0
    layouts = "TRL explicit prompt in a.jsonl; question, input or context with chosen and rejected in b.jsonl"
    assert f"data: its files have different layouts: {layouts}" in told


def test_splits_are_not_mixed_and_one_can_be_selected(program: Program) -> None:
    write("data/train.jsonl", ROWS[:2])
    write("data/test.jsonl", ROWS[2:])
    code, _, told = program("score", "data")
    assert (code, "contains several splits: `test`, `train`. Name one with --split test" in told) == (2, True)
    assert program("score", "data", "--split", "test", "-o", "x.parquet")[0] == 0
    assert load_ledger("x.parquet").num_pairs == 1


def test_output_never_replaces_a_file_of_the_data_set(program: Program) -> None:
    files = [write(f"data/{name}.jsonl", ROWS[:1]) for name in "ab"]
    for data in (["data"], ["data/*.jsonl"], files):
        code, _, told = program("score", *data, "-o", "data/b.jsonl")
        assert (code, "is also an input" in told) == (2, True)
    program("score", "data", "-o", "x.parquet")
    code, _, told = program("curate", "x.parquet", "-o", "data/b.jsonl")
    assert (code, "this is the data set that was scored" in told) == (2, True)
    assert files[1].read_text(encoding="utf-8") == json.dumps(ROWS[0]) + "\n"


@pytest.mark.parametrize("command", ["score", "lint", "doctor"])
def test_a_ledger_is_refused_as_a_data_set_but_can_be_curated_into_one(program: Program, command: str) -> None:
    program("score", write("a.jsonl", ROWS), "-o", "x.parquet")
    code, _, told = program(command, "x.parquet")
    assert code == 2
    assert "x.parquet: is a prefscope ledger, not a data set" in told
    assert "prefscope curate x.parquet -o data.jsonl" in told
    program("curate", "x.parquet", "-o", "data.jsonl")
    assert Path("data.jsonl").read_bytes() == Path("a.jsonl").read_bytes()


@pytest.mark.parametrize("name", ["x.csv", "x.jsonl", "flat.parquet"])
def test_an_exported_table_is_not_scored_as_a_data_set(program: Program, name: str, samples: Path) -> None:
    program("score", write("a.jsonl", ROWS), "-o", "x.parquet")
    program("export", "x.parquet", "-o", name, "--texts")
    models = ("--policy", samples / "tiny-policy", "--ref", samples / "tiny-ref")
    code, _, told = program("score", name, *models)
    assert code == 2
    assert "this table was exported by prefscope, and its texts are formatted for display" in told


def test_remarks_on_rows_are_reported_once_with_their_count(program: Program) -> None:
    rows = [row | {"system_prompt": "Be brief."} for row in ROWS]
    told = "a.jsonl: `system_prompt` is not used (TRL does not use it either)"
    for command in ("score", "lint"):
        _, _, err = program(command, write("a.jsonl", rows))
        assert [line for line in err.splitlines() if line.startswith(told)] == [
            f"{told}; system=system_prompt in --map makes it the system turn (3 rows, first in line 1)"
        ]


def test_a_mapped_system_prompt_becomes_the_system_turn(program: Program) -> None:
    rows = [row | {"system_prompt": "Be brief."} for row in ROWS]
    mapping = "prompt=prompt,chosen=chosen,rejected=rejected,system=system_prompt"
    assert program("score", write("a.jsonl", rows), "--map", mapping, "-o", "x.parquet")[0] == 0
    assert load_ledger("x.parquet").pair(0)["prompt"] == "[system]\nBe brief.\n\n[user]\nq0"
