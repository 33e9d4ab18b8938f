"""Which pairs of a data set are scored, in which order of responses, and how they are truncated."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prefscope.ledger.table import Ledger, load_ledger
from prefscope.settings import PreferenceSettings

pytestmark = pytest.mark.slow

Program = Callable[..., tuple[int, str, str]]
Rows = list[dict[str, Any]]


@pytest.fixture
def score(program: Program, pairs: Path, models: list[str]) -> Callable[..., Ledger]:
    """Return a function that scores the short pairs with extra options and returns the ledger."""

    def call(*options: str) -> Ledger:
        code, _, told = program("score", pairs, *models, "-o", "out.parquet", *options)
        assert code == 0, told
        return load_ledger("out.parquet")

    return call


def test_exchanging_the_responses_negates_every_margin(
    program: Program, rows: Rows, models: list[str], scored: Ledger, write_jsonl: Callable[..., Path]
) -> None:
    exchanged = [row | {"chosen": row["rejected"], "rejected": row["chosen"]} for row in rows]
    data = write_jsonl("exchanged.jsonl", exchanged)
    assert program("score", data, *models, "--no-cache", "-o", "out.parquet")[0] == 0
    margins = load_ledger("out.parquet").derived(PreferenceSettings())["margins"]
    np.testing.assert_allclose(margins, -scored.derived(PreferenceSettings())["margins"], atol=1e-5)


def test_a_limit_takes_the_first_pairs(score: Callable[..., Ledger], scored: Ledger) -> None:
    ledger = score("--limit", "2")
    assert ledger.stored["row"].tolist() == [0, 1]
    assert ledger.stored["pair_id"].tolist() == scored.stored["pair_id"].tolist()[:2]


def test_a_limit_beyond_the_data_takes_all_pairs(score: Callable[..., Ledger]) -> None:
    assert score("--limit", "100").num_pairs == 6


def test_a_sample_is_the_same_for_the_same_seed_and_keeps_the_order_of_rows(score: Callable[..., Ledger]) -> None:
    first, again = (score("--sample", "3", "--seed", "7").stored["row"].tolist() for _ in range(2))
    assert first == again == sorted(set(first))
    assert len(first) == 3


def test_another_seed_draws_another_sample(score: Callable[..., Ledger]) -> None:
    drawn = {tuple(score("--sample", "3", "--seed", str(seed)).stored["row"].tolist()) for seed in range(4)}
    assert len(drawn) > 1


def test_a_sample_larger_than_the_data_takes_all_pairs(score: Callable[..., Ledger]) -> None:
    assert score("--sample", "100").num_pairs == 6


def test_max_length_truncates_and_flags_longer_pairs(score: Callable[..., Ledger], scored: Ledger) -> None:
    cut = score("--max-length", "24")
    whole = [len(scored.pair(i)["chosen_tokens"]) for i in range(6)]
    for i in range(6):
        pair = cut.pair(i)
        shortened = len(pair["chosen_tokens"]) < whole[i] or len(pair["rejected_tokens"]) < len(
            scored.pair(i)["rejected_tokens"]
        )
        assert ("truncated" in pair["flags"]) == shortened
    assert any("truncated" in flags for flags in cut.stored["flags"])


def test_a_response_truncated_at_its_end_is_flagged_as_having_no_end_token(score: Callable[..., Ledger]) -> None:
    flags = [text.split(";") for text in score("--max-length", "16").stored["flags"]]
    assert [found for found in flags if "truncated" in found and "no_eos" not in found] == []


def test_keeping_the_end_keeps_responses_and_truncates_prompts(score: Callable[..., Ledger], scored: Ledger) -> None:
    cut = score("--max-length", "24", "--truncation", "keep_end")
    truncated = [i for i in range(6) if "truncated" in cut.stored["flags"][i]]
    assert truncated
    for i in truncated:
        whole, kept = scored.pair(i)["chosen_tokens"], cut.pair(i)["chosen_tokens"]
        assert kept == whole[-len(kept) :]
        assert "no_eos" not in cut.stored["flags"][i]


def test_a_prompt_that_fills_max_length_leaves_nothing_to_score_and_is_flagged(
    score: Callable[..., Ledger],
) -> None:
    ledger = score("--max-length", "4")
    assert {"nothing_scored", "truncated"} <= set(ledger.stored["flags"][0].split(";"))
    assert ledger.stored["policy_chosen_logps"][0] == 0.0
    assert ledger.stored["chosen_num_tokens"][0] == 0


def test_identical_and_empty_responses_are_scored_and_flagged(
    program: Program, rows: Rows, models: list[str], write_jsonl: Callable[..., Path]
) -> None:
    empty = [{"role": "assistant", "content": ""}]
    data = write_jsonl("odd.jsonl", [rows[0] | {"chosen": rows[0]["rejected"]}, rows[1] | {"rejected": empty}])
    assert program("score", data, *models, "-o", "out.parquet")[0] == 0
    ledger = load_ledger("out.parquet")
    assert ledger.stored["flags"].tolist() == ["identical", "empty"]
    assert ledger.derived(PreferenceSettings())["outcome"].tolist()[0] == "tie"


def test_a_custom_chat_template_replaces_that_of_the_model(score: Callable[..., Ledger], scored: Ledger) -> None:
    Path("own.jinja").write_text("{% for m in messages %}{{ m['content'] }}<|end|>{% endfor %}")
    ledger = score("--chat-template", "own.jinja")
    assert ledger.manifest["tokenization"]["template_hash"] != scored.manifest["tokenization"]["template_hash"]
    assert ledger.stored["policy_chosen_logps"].tolist() != scored.stored["policy_chosen_logps"].tolist()
    assert ledger.pair(0)["chosen_tokens"] == scored.pair(0)["chosen_tokens"]


def test_plain_text_is_scored_without_a_template_and_ends_with_eos(
    program: Program, models: list[str], write_jsonl: Callable[..., Path]
) -> None:
    data = write_jsonl("plain.jsonl", [{"prompt": "Say hi. ", "chosen": "Hi.", "rejected": "Bye."}])
    assert program("score", data, *models, "-o", "out.parquet")[0] == 0
    pair = load_ledger("out.parquet").pair(0)
    assert pair["chosen_tokens"][-1] == pair["rejected_tokens"][-1] == "<|end|>"
    assert "".join(pair["chosen_tokens"][:-1]).strip() == "Hi."


def test_a_pair_id_identifies_content_and_duplicates_share_it(
    program: Program, rows: Rows, models: list[str], write_jsonl: Callable[..., Path]
) -> None:
    data = write_jsonl("twice.jsonl", [rows[0], rows[1], rows[0] | {"note": "again"}])
    assert program("score", data, *models, "-o", "out.parquet", "-o", "out.jsonl")[0] == 0
    found = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert found[0]["pair_id"] == found[2]["pair_id"] != found[1]["pair_id"]
    assert found[0]["margins"] == found[2]["margins"]
    assert [row["note"] for row in found] == ["", "", "again"]
