"""Log-probs computed elsewhere become a ledger without a model."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prefscope.ledger.columns import LOGPS, NUM_TOKENS
from prefscope.ledger.table import Ledger, load_ledger
from prefscope.settings import PreferenceSettings

Program = Callable[..., tuple[int, str, str]]
A = {
    "policy_chosen_logps": -50.0,
    "policy_rejected_logps": -60.0,
    "ref_chosen_logps": -52.0,
    "ref_rejected_logps": -58.0,
}
COUNTS = {"chosen_num_tokens": 20, "rejected_num_tokens": 30}
TEXTS = {"prompt": "Hi?", "chosen": "Hi.", "rejected": "No."}
POLICY_ONLY = {name: A[name] for name in LOGPS[:2]}


def write(name: str, rows: list[dict[str, Any]]) -> Path:
    path = Path(name)
    with path.open("w", newline="", encoding="utf-8") as stream:
        if path.suffix == ".csv":
            writer = csv.DictWriter(stream, rows[0])
            writer.writeheader()
            writer.writerows(rows)
        else:
            stream.writelines(json.dumps(row) + "\n" for row in rows)
    return path


@pytest.mark.parametrize("name", ["given.csv", "given.jsonl"])
@pytest.mark.parametrize("texts", [{}, TEXTS], ids=["no texts", "texts"])
def test_existing_log_probs_make_a_ledger_without_a_model(program: Program, name: str, texts: dict[str, str]) -> None:
    code, out, told = program("score", write(name, [A | COUNTS | texts]), "-o", "out.parquet", "--json")
    ledger = load_ledger("out.parquet")
    assert code == 0
    assert "The file already has log-probs, so no model is run." in told
    assert {column: ledger.stored[column].tolist() for column in (*LOGPS, *NUM_TOKENS)} == {
        column: [value] for column, value in (A | COUNTS).items()
    }
    assert {column: ledger.pair(0)[column] for column in TEXTS} == (texts or dict.fromkeys(TEXTS, ""))
    assert json.loads(out)["metrics"]["rewards/margins"] == pytest.approx(0.4)
    assert [loss["name"] for loss in json.loads(out)["losses"]] == ["dpo", "ipo", "simpo"]
    assert ledger.manifest["models"] == {}


@pytest.mark.parametrize("name", ["given.csv", "given.jsonl"])
@pytest.mark.parametrize(
    ("row", "losses"),
    [(A, ["dpo", "ipo"]), (POLICY_ONLY | COUNTS, ["simpo"]), (POLICY_ONLY, [])],
    ids=["no counts", "no reference", "neither"],
)
def test_only_losses_that_the_existing_log_probs_allow_are_shown(
    program: Program, name: str, row: dict[str, float], losses: list[str]
) -> None:
    code, out, told = program("score", write(name, [row]), "-o", "out.parquet", "--json")
    assert code == 0, told
    assert [loss["name"] for loss in json.loads(out)["losses"]] == losses


def test_existing_log_probs_without_a_reference_make_a_ledger_without_one(program: Program) -> None:
    program("score", write("given.jsonl", [POLICY_ONLY | COUNTS]), "-o", "out.parquet", "--loss", "simpo")
    ledger = load_ledger("out.parquet")
    assert not ledger.has_reference
    assert list(ledger.derived(PreferenceSettings())) == ["simpo_loss"]


def test_the_summary_names_the_origin_of_existing_log_probs(program: Program) -> None:
    code, out, _ = program("score", write("given.jsonl", [A | COUNTS]))
    assert code == 0
    assert out.startswith("log-probs from the file; no model was run\n1 pairs of given.jsonl   beta 0.1\n")


def test_an_export_reads_back_as_the_same_numbers(program: Program, scored: Ledger) -> None:
    program("export", scored.path, "-o", "first.csv", "--texts")
    assert program("score", "first.csv", "-o", "second.csv", "--texts", "--json")[0] == 0
    assert Path("first.csv").read_text(encoding="utf-8") == Path("second.csv").read_text(encoding="utf-8")


def test_an_export_reads_back_with_its_flags(program: Program) -> None:
    row = A | COUNTS | {"pair_id": "0123456789abcdef", "flags": "truncated;no_eos"}
    program("score", write("given.csv", [row]), "-o", "out.parquet")
    assert load_ledger("out.parquet").stored["flags"].tolist() == ["truncated;no_eos"]


def test_extra_columns_are_kept_and_computed_ones_are_not(program: Program) -> None:
    row = A | COUNTS | TEXTS | {"rating": 3, "tags": ["a"], "margins": 9.0, "dpo_loss": 9.0, "pair_id": "x" * 16}
    program("score", write("given.jsonl", [row]), "-o", "out.parquet")
    ledger = load_ledger("out.parquet")
    assert ledger.extra_columns == {"rating": "integer", "tags": "json"}
    assert ledger.stored["pair_id"].tolist() == ["x" * 16]


def test_columns_unknown_to_the_ledger_are_kept_if_there_are_no_texts(program: Program) -> None:
    program("score", write("given.jsonl", [A | {"id": "a", "prompt": "only this"}]), "-o", "out.parquet")
    assert load_ledger("out.parquet").extra_columns == {"id": "text"}


@pytest.mark.parametrize(("name", "value"), [("given.csv", "nan"), ("given.csv", "-inf"), ("given.jsonl", math.nan)])
def test_an_existing_log_prob_that_is_not_finite_flags_its_pair(
    program: Program, name: str, value: float | str
) -> None:
    rows: list[dict[str, Any]] = [A | COUNTS, A | COUNTS | {"ref_rejected_logps": value}]
    code, out, _ = program("score", write(name, rows), "-o", "out.parquet", "--json")
    assert code == 0
    assert load_ledger("out.parquet").stored["flags"].tolist() == ["", "non_finite"]
    assert json.loads(out)["flags"] == {"non_finite": 1}
    assert json.loads(out)["metrics"]["rewards/margins"] == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (A | {"policy_rejected_logps": ""}, "  given.csv:3: policy_rejected_logps is missing"),
        (A | {"ref_chosen_logps": "much"}, "  given.csv:3: ref_chosen_logps is 'much', not a number"),
    ],
    ids=["missing", "no number"],
)
def test_a_row_without_a_log_prob_is_reported_with_its_line(program: Program, row: dict[str, Any], told: str) -> None:
    code, out, err = program("score", write("given.csv", [A, row]))
    assert (code, out) == (2, "")
    assert told in err.splitlines()


def test_a_token_count_that_is_not_a_whole_number_is_refused(program: Program) -> None:
    code, _, err = program("score", write("given.csv", [A | COUNTS | {"chosen_num_tokens": 2.5}]))
    assert code == 2
    assert "  given.csv:2: chosen_num_tokens is 2.5, not a number of tokens" in err.splitlines()


def test_unreadable_texts_beside_log_probs_are_reported(program: Program) -> None:
    rows: list[dict[str, Any]] = [A | TEXTS, A | TEXTS | {"chosen": 5}]
    code, _, err = program("score", write("given.jsonl", rows), "-o", "out.parquet")
    assert code == 0
    assert (
        "given.jsonl: the texts of 1 row cannot be read; the first is line 2: `chosen` is a number, not text or " in err
    )


def test_a_policy_scores_a_file_even_if_it_has_log_probs(
    program: Program, models: list[str], rows: list[dict[str, Any]], scored: Ledger
) -> None:
    data = write("given.jsonl", [row | A for row in rows])
    assert program("score", data, *models, "-o", "out.parquet")[0] == 0
    ledger = load_ledger("out.parquet")
    assert ledger.stored["policy_chosen_logps"].tolist() == scored.stored["policy_chosen_logps"].tolist()
    assert ledger.extra_columns["data_policy_chosen_logps"] == "number"


def test_an_empty_rejected_response_keeps_the_other_texts(program: Program) -> None:
    texts = {"prompt": "why", "chosen": "so", "rejected": ""}
    program("score", write("given.jsonl", [A | COUNTS | texts]), "-o", "out.parquet")
    pair = load_ledger("out.parquet").pair(0)
    assert {name: pair[name] for name in texts} == texts
