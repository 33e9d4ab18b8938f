"""`prefscope lint`: its output and exit codes."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Program = Callable[..., tuple[int, str, str]]
GOOD = {"prompt": "How tall is the tower?", "chosen": "It is 30 metres tall.", "rejected": "Quite tall, I think."}
OTHER = {"prompt": "Name a river in France.", "chosen": "The Loire.", "rejected": "The Rhine is in Germany."}


def write(name: str, *lines: object) -> Path:
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    Path(name).write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    return Path(name)


def test_good_pairs_exit_with_0_and_list_the_checks(program: Program) -> None:
    code, out, err = program("lint", write("good.jsonl", GOOD, OTHER))
    assert (code, err) == (0, "")
    assert out.startswith("good.jsonl: 2 pairs, 0 failing checks, 0 notes\n\nNothing found by duplicate_pairs, ")


def test_a_finding_has_its_meaning_its_lines_and_advice(program: Program) -> None:
    code, out, _ = program("lint", write("twice.jsonl", GOOD, OTHER, GOOD))
    assert code == 1
    assert (
        "\nFAIL  duplicate_pairs  1 row\n"
        "      The same prompt, chosen and rejected as an earlier pair.\n"
        "      line 3 like line 1: How tall is the tower?\n"
        "      → Keep one of each; repeated pairs count twice in training.\n"
    ) in out


def test_bad_rows_are_a_finding_and_the_others_are_looked_at(program: Program) -> None:
    code, out, _ = program("lint", write("bad.jsonl", GOOD, "{", {"prompt": "x"}, GOOD))
    assert code == 1
    assert "FAIL  duplicate_pairs  1 row\n" in out
    assert "FAIL  bad_rows  2 rows\n" in out
    assert "      line 2: the line is not JSON (Expecting property name" in out


def test_a_file_of_bad_rows_alone_is_refused(program: Program) -> None:
    code, out, _ = program("lint", write("bad.jsonl", {"prompt": "x"}))
    assert code == 1
    assert out.startswith("bad.jsonl: 0 pairs, 1 failing check, 0 notes\n")


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ([], 1),
        (["--fail-on", "none"], 0),
        (["--fail-on", "contradictions"], 0),
        (["--fail-on", "contradictions", "--fail-on", "duplicate_pairs"], 1),
    ],
    ids=["default", "none", "another", "both"],
)
def test_the_exit_code_is_that_of_the_requested_checks(program: Program, options: list[str], code: int) -> None:
    assert program("lint", write("twice.jsonl", GOOD, GOOD), *options)[0] == code


def test_a_note_exits_with_1_only_if_requested(program: Program) -> None:
    data = write("prompts.jsonl", GOOD, GOOD | {"chosen": "30 metres."})
    assert program("lint", data)[0] == 0
    assert program("lint", data, "--fail-on", "duplicate_prompts")[0] == 1


def test_prompts_of_another_file_are_leaks(program: Program) -> None:
    code, out, _ = program("lint", write("train.jsonl", GOOD, OTHER), "--against", write("test.jsonl", OTHER))
    assert code == 1
    assert "FAIL  leaked_prompts  1 row\n" in out
    assert "      line 2 like line 1 there: Name a river in France.\n" in out


def test_json_has_every_check_with_its_rows(program: Program) -> None:
    code, out, _ = program("lint", write("twice.jsonl", GOOD, OTHER, GOOD), "--json")
    report = json.loads(out)
    assert (code, report["schema"], report["source"], report["pairs"]) == (1, 1, "twice.jsonl", 3)
    assert report["checks"]["duplicate_pairs"] == {
        "severity": "fail",
        "meaning": "the same prompt, chosen and rejected as an earlier pair",
        "found": True,
        "count": 1,
        "detail": "",
        "told": "",
        "examples": [{"line": 3, "excerpt": "How tall is the tower?", "like": "line 1"}],
        "figures": {},
        "rows": [2],
    }
    assert [name for name, check in report["checks"].items() if check["found"]] == ["duplicate_pairs"]


def test_standard_input_is_read(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    content = "".join(json.dumps(row) + "\n" for row in (GOOD, GOOD)).encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    code, out, _ = program("lint", "-")
    assert code == 1
    assert out.startswith("stdin: 2 pairs, 1 failing check, 0 notes\n")


def test_lengths_are_counted_in_tokens_of_a_tokenizer(program: Program, samples: Path) -> None:
    data = write("good.jsonl", GOOD, OTHER)
    report = json.loads(program("lint", data, "--tokenizer", samples / "tiny-ref", "--json")[1])
    assert report["checks"]["length_bias"]["figures"]["unit"] == "tokens"


def test_hostile_texts_reach_neither_the_terminal_nor_the_json(program: Program) -> None:
    hostile = GOOD | {"prompt": "\x1b[2J[red]a\x9b\u202eb"}
    data = write("hostile.jsonl", hostile, hostile)
    for options in ([], ["--json"]):
        out = program("lint", data, *options)[1]
        assert "␛[2J[red]a\\u009b\\u202eb" in out.replace("\\\\", "\\")
        assert not {"\x1b", "\x9b", "\u202e"} & {*out}


MISTAKES = {
    "unknown check": (["--fail-on", "nonsense"], "There is no check 'nonsense'. Choose from: duplicate_pairs,"),
    "no such other": (["--against", "nowhere.jsonl"], "nowhere.jsonl: there is no such file."),
    "no tokenizer": (["--tokenizer", "."], ".: this folder has no tokenizer.json."),
    "half a mapping": (["--map", "prompt"], "prompt"),
}


@pytest.mark.parametrize(("options", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_exits_with_2(program: Program, options: list[str], message: str) -> None:
    code, out, err = program("lint", write("good.jsonl", GOOD), *options)
    assert (code, out) == (2, "")
    assert message in err
