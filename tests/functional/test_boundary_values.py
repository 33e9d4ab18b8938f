"""Invalid values in untrusted files: refused with a message where they enter, never a traceback."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Program = Callable[..., tuple[int, str, str]]
GIVEN: dict[str, Any] = {
    "prompt": "p",
    "chosen": "c",
    "rejected": "r",
    "policy_chosen_logps": -1.0,
    "policy_rejected_logps": -2.0,
    "ref_chosen_logps": -1.5,
    "ref_rejected_logps": -2.5,
}
BRACKETS = "[" * 100_000


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"policy_chosen_logps": 3.0}, "policy_chosen_logps is 3.0, but the log of a probability is never above 0"),
        ({"policy_chosen_logps": "-1_000"}, "policy_chosen_logps is '-1_000', not a number"),
        ({"policy_chosen_logps": "-\u0661"}, "policy_chosen_logps is '-\u0661', not a number"),
        ({"policy_chosen_logps": -(10**400)}, "policy_chosen_logps is a number of 401 digits, which is too large"),
        ({"chosen_num_tokens": 2.5}, "chosen_num_tokens is 2.5, not a number of tokens"),
        ({"chosen_num_tokens": 1e400}, "chosen_num_tokens is inf, not a number of tokens"),
        ({"chosen_num_tokens": 1e300}, "chosen_num_tokens is 1e+300, not a number of tokens"),
        ({"pair_id": 5}, "pair_id is a number, not text"),
        (
            {"flags": "bogus"},
            "flags has 'bogus', which is not a flag of prefscope; rename the column if it is your own",
        ),
        ({"ref_chosen_logps": None}, "ref_chosen_logps is missing"),
        (
            {"ref_chosen_logps": None, "ref_rejected_logps": None},
            "the reference's log-probs are missing, but other rows have them",
        ),
    ],
)
def test_an_invalid_existing_log_prob_makes_its_row_bad(program: Program, changed: dict[str, Any], told: str) -> None:
    Path("given.jsonl").write_text(json.dumps(GIVEN) + "\n" + json.dumps(GIVEN | changed) + "\n", encoding="utf-8")
    code, _, err = program("score", "given.jsonl", "-o", "out.parquet")
    assert code == 2
    assert f"  given.jsonl:2: {told}" in err.splitlines()


def test_a_row_without_a_reference_among_others_can_be_skipped(program: Program) -> None:
    rows = [GIVEN, GIVEN | {"ref_chosen_logps": None, "ref_rejected_logps": None}]
    Path("given.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    code, _, err = program("score", "given.jsonl", "-o", "out.parquet", "--skip-bad-rows")
    assert code == 0
    assert "1 row of log-probs, with a reference" in err


def test_a_row_without_a_reference_in_one_of_several_files_is_named_with_its_file(program: Program) -> None:
    Path("first.jsonl").write_text(json.dumps(GIVEN) + "\n", encoding="utf-8")
    bare = GIVEN | {"ref_chosen_logps": None, "ref_rejected_logps": None}
    Path("second.jsonl").write_text(json.dumps(GIVEN) + "\n" + json.dumps(bare) + "\n", encoding="utf-8")
    code, _, err = program("score", "first.jsonl", "second.jsonl", "-o", "out.parquet")
    assert code == 2
    assert "  second.jsonl:2: the reference's log-probs are missing, but other rows have them" in err.splitlines()


@pytest.mark.parametrize(
    "marks",
    [
        BRACKETS,
        '{"format": 1, "marks": [{"pair_id": 5, "occurrence": 0, "decision": "keep", "note": ""}]}',
        '{"format": 1, "marks": [{"pair_id": "a", "occurrence": 1e400, "decision": "keep", "note": ""}]}',
    ],
    ids=["brackets", "pair_id", "occurrence"],
)
def test_unreadable_marks_are_refused(program: Program, marks: str) -> None:
    Path("given.jsonl").write_text(json.dumps(GIVEN) + "\n", encoding="utf-8")
    program("score", "given.jsonl", "-o", "out.parquet")
    Path("out.marks.json").write_text(marks)
    code, _, err = program("export", "out.parquet", "-o", "-", "--where", "mark(any)")
    assert (code, err.startswith("prefscope: out.marks.json: these marks cannot be read")) == (2, True)


@pytest.mark.parametrize("terms", ["+".join(["1"] * 2000) + " > 0", " and ".join(["margin > 0"] * 5000), "(" * 10_000])
def test_a_filter_of_thousands_of_parts_is_refused(program: Program, terms: str) -> None:
    Path("given.jsonl").write_text(json.dumps(GIVEN) + "\n", encoding="utf-8")
    program("score", "given.jsonl", "-o", "out.parquet")
    code, _, err = program("export", "out.parquet", "-o", "-", "--where", terms)
    assert (code, "nested too deeply" in err) == (2, True)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("seed = 1.5", "the value of 'seed' is 1.5, not a whole number"),
        ("beta = true", "the value of 'beta' is True, not a text or a number"),
        ("x = " + BRACKETS, "this settings file cannot be read"),
        ("limit = " + "9" * 5000, "this settings file cannot be read"),
    ],
    ids=["fraction", "switch", "brackets", "digits"],
)
def test_settings_of_the_wrong_type_are_refused(program: Program, text: str, told: str) -> None:
    Path("prefscope.toml").write_text(text)
    code, _, err = program("losses")
    assert code == 2
    assert f"prefscope: prefscope.toml: {told}" in err


@pytest.mark.parametrize(
    ("file", "key", "value"),
    [
        ("tokenizer_config.json", "model_max_length", []),
        ("config.json", "rope_parameters", 5),
        ("config.json", "max_position_embeddings", []),
    ],
)
def test_a_config_with_a_value_of_the_wrong_type_is_refused(
    program: Program, samples: Path, file: str, key: str, value: object
) -> None:
    shutil.copytree(samples / "tiny-policy", "model")
    config = json.loads(Path("model", file).read_text())
    Path("model", file).write_text(json.dumps(config | {key: value}))
    code, _, err = program("score", samples / "pairs.jsonl", "--policy", "model", "--ref", samples / "tiny-ref")
    assert code == 2, err


def test_a_chat_template_that_never_ends_is_refused(program: Program, samples: Path) -> None:
    code, _, err = program("score", samples / "pairs.jsonl", "--chat-template", "/dev/zero")
    assert (code, err) == (2, "prefscope: /dev/zero: the chat template has more than 1,048,576 characters.\n")
