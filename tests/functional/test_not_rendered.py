"""Content that the chat template omits is flagged, counted and reported everywhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prefscope.ledger.table import load_ledger

pytestmark = pytest.mark.slow

Program = Callable[..., tuple[int, str, str]]
PROMPT = [{"role": "user", "content": "What is 17 + 5?"}]
REASONED = {"role": "assistant", "content": "22", "reasoning_content": "17 + 5: 17 + 3 is 20, plus 2 is 22."}
CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 17, "b": 5}}}
CALLED = {"role": "assistant", "content": "", "tool_calls": [CALL]}
PLAIN = {"role": "assistant", "content": "It is 22."}
ROWS = [
    {"prompt": PROMPT, "chosen": [REASONED], "rejected": [PLAIN]},
    {"prompt": PROMPT, "chosen": [PLAIN], "rejected": [CALLED]},
    {"prompt": PROMPT, "chosen": [PLAIN], "rejected": [{"role": "assistant", "content": "No."}]},
]
LEFT_OUT = "reasoning_content of the response (1), tool_calls of the response (1)"


@pytest.fixture
def data(tmp_path: Path, write_jsonl: Callable[..., Path]) -> Path:
    return write_jsonl(tmp_path / "calls.jsonl", ROWS)


def test_score_warns_flags_and_reports_what_is_not_rendered(program: Program, data: Path, models: list[str]) -> None:
    code, out, err = program("score", data, *models, "-o", "out.parquet")
    assert code == 0
    assert f"Warning: the chat template leaves out parts of 2 pairs, flagged not_rendered: {LEFT_OUT}." in err
    assert f"2 of these are not rendered in full; the chat template left out {LEFT_OUT}" in out.splitlines()
    ledger = load_ledger("out.parquet")
    assert ["not_rendered" in flags for flags in ledger.stored["flags"]] == [True, True, False]
    assert program("export", "out.parquet", "-o", "-", "--where", "flag(not_rendered)")[1].count("\n") == 3


def test_the_doctor_says_what_is_not_rendered(program: Program, data: Path, models: list[str]) -> None:
    code, out, _ = program("doctor", data, *models, "--json")
    assert code == 1
    assert f"2 of 3 pairs are not rendered in full: {LEFT_OUT}" in out


@pytest.mark.parametrize("profile", ["trl-0.24", "simpo", "rewardbench"])
def test_other_profiles_flag_unrendered_messages_too(
    program: Program, data: Path, models: list[str], profile: str
) -> None:
    assert program("score", data, *models, "--profile", profile, "-o", "out.parquet")[0] == 0
    flags: list[Any] = [flags.split(";") for flags in load_ledger("out.parquet").stored["flags"]]
    assert ["not_rendered" in one for one in flags] == [True, True, False]


def test_parts_of_a_run_record_unrendered_messages_too(program: Program, data: Path, models: list[str]) -> None:
    assert program("score", data, *models, "--parts", "parts", "-o", "out.parquet")[0] == 0
    assert load_ledger("out.parquet").manifest["tokenization"]["left_out"] == {
        "response: reasoning_content": 1,
        "response: tool_calls": 1,
    }
