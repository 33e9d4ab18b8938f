"""Each check finds its defect and reports where, and finds nothing in good pairs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from prefscope.data.checks import CHECKS, index_texts, lint_pairs
from prefscope.data.checks.sketch import near_matches, sketch, text_hashes
from prefscope.data.records import BadRow, Message, PreferencePair
from tests.unit.data.checked import CLEAN, conversation, findings, pair, rows_of, sentence


def test_good_pairs_have_no_findings() -> None:
    report = lint_pairs(CLEAN)
    assert (report.pairs, rows_of(report)) == (40, {})
    assert {finding.check.name for finding in report.findings} == CHECKS.keys() - {"leaked_prompts"}


def test_an_empty_data_set_is_not_an_error() -> None:
    assert rows_of(lint_pairs([])) == {}


def changed(row: int, **texts: Any) -> PreferencePair:
    return dataclasses.replace(CLEAN[row], **texts)


ASKED, CHOSEN, REJECTED = str(CLEAN[3].prompt), str(CLEAN[3].chosen), str(CLEAN[3].rejected)
ODD: dict[str, tuple[str, PreferencePair, str]] = {
    "same pair": ("duplicate_pairs", changed(3), ASKED[:20]),
    "same but for white space": ("duplicate_pairs", changed(3, prompt=f"{ASKED}\n", chosen=f" {CHOSEN}"), ASKED[:20]),
    "nearly the same": (
        "near_duplicate_pairs near_duplicate_prompts",
        changed(3, prompt=ASKED.replace(".", "!"), chosen=CHOSEN.replace(".", "?")),
        ASKED[:20],
    ),
    "same prompt": ("duplicate_prompts", pair(40, ASKED), ASKED[:20]),
    "nearly the same prompt": ("near_duplicate_prompts", pair(40, ASKED.replace(".", " ?")), ASKED[:20]),
    "chosen where another is rejected": (
        "duplicate_prompts chosen_and_rejected",
        pair(40, ASKED, REJECTED, sentence(900)),
        ASKED[:20],
    ),
    "identical": ("identical_responses", pair(40, chosen="Yes.", rejected="Yes. \n"), "Yes."),
    "empty": ("empty_responses", pair(40, "Why?", chosen=" \n"), "chosen to Why?"),
    "prompt repeated": (
        "repeated_prompt",
        pair(40, "What is the capital of France?", "Q: What is the capital of France? Paris."),
        "chosen: Q: What is the capital of France? Paris.",
    ),
    "chatml": ("templated_text", pair(40, "<|im_start|>user\nHi<|im_end|>"), "<|im_start|>user\nHi<|im_end|>"),
    "llama 2": ("templated_text", pair(40, "<s>[INST] Hi [/INST]"), "<s>[INST] Hi [/INST]"),
    "llama 3": ("templated_text", pair(40, chosen="Hello there.<|eot_id|>"), "Hello there.<|eot_id|>"),
    "mistral's end": ("templated_text", pair(40, rejected="Hello there.</s>"), "Hello there.</s>"),
    "gemma": ("templated_text", conversation(40, ("user", "<start_of_turn>user Hi")), "<start_of_turn>user Hi"),
    "deepseek": ("templated_text", pair(40, "<｜User｜>Hi"), "<｜User｜>Hi"),
    "a transcript": ("templated_text", pair(40, "\n\nHuman: Hi\n\nAssistant:"), "Human: Hi\n\nAssistant:"),
    "two users": (
        "role_order",
        conversation(40, ("user", "Hi"), ("user", "You there?")),
        "chosen: two user turns in a row: You there?",
    ),
    "late system": (
        "role_order",
        conversation(40, ("user", "Hi"), ("system", "Be brief.")),
        "chosen: the system message is not first: Hi",
    ),
    "assistant begins": (
        "role_order",
        conversation(40, ("assistant", "Hello"), ("user", "Hi")),
        "chosen: the assistant speaks first: Hi",
    ),
    "answer after an answer": (
        "role_order",
        conversation(40, ("user", "Hi"), ("assistant", "Hello")),
        "chosen: two assistant turns in a row: Hi",
    ),
    "user turn scored": (
        "role_order",
        pair(
            40, (Message("user", "Hi"),), (Message("assistant", "A"), Message("user", "B"), Message("assistant", "C"))
        ),
        "chosen: a user turn is scored: Hi",
    ),
    "ends with a tool": (
        "role_order",
        pair(40, (Message("user", "Hi"),), (Message("assistant", "A", {"tool_calls": [{}]}), Message("tool", "B"))),
        "chosen: it ends with tool: Hi",
    ),
    "replacement character": ("encoding_damage", pair(40, "caf\ufffd au lait"), "caf\ufffd au lait"),
    "utf-8 read as latin-1": ("encoding_damage", pair(40, chosen="cafÃ© au lait"), "cafÃ© au lait"),
    "an apostrophe read as cp1252": ("encoding_damage", pair(40, "itâ€™s so"), "itâ€™s so"),
    "cyrillic read as latin-1": ("encoding_damage", pair(40, "Ð¿ÑÐ¸Ð²ÐµÑ"), "Ð¿ÑÐ¸Ð²ÐµÑ"),
    "null": ("encoding_damage", pair(40, "a\0b"), "a\0b"),
    "c1 control": ("encoding_damage", pair(40, "a\x93b"), "a\x93b"),
    "half a character": ("encoding_damage", pair(40, "a\ud83db"), "a\ud83db"),
}


@pytest.mark.parametrize(("names", "odd", "told"), ODD.values(), ids=ODD)
def test_a_defect_of_one_pair_gives_exactly_its_finding(names: str, odd: PreferencePair, told: str) -> None:
    report = lint_pairs([*CLEAN, dataclasses.replace(odd, row=40, line=41)])
    assert rows_of(report) == {name: [40] for name in names.split()}
    assert report.checks_of(40) == tuple(name for name in CHECKS if name in names.split())
    (example,) = findings(report)[names.split(maxsplit=1)[0]].found.examples
    assert example.line == 41
    assert example.excerpt.startswith(told)


WELL = {
    "french in capitals": pair(40, "« CAFÉ » “CAFÉ” À ÉTÉ. Â propos, Ã. NÃO: “SÃO”"),
    "cyrillic": pair(40, "Привет, как дела?"),
    "a marker that is talked about": pair(40, "What does [INST] mean in a llama prompt?"),
    "html": pair(40, "Use <s>this</s> tag, a[i] and <b>that</b>."),
    "short prompt said again": pair(40, "Hello", "Hello there."),
    "prompt quoted later": pair(40, "What is the capital?", f"{sentence(950)} You asked: What is the capital?"),
    "tools": pair(
        40,
        (
            Message("system", "S"),
            Message("user", "Hi"),
            Message("assistant", "", {"tool_calls": [{}]}),
            Message("tool", "4"),
        ),
        (Message("assistant", "4"),),
        (Message("assistant", "5"),),
    ),
    "a tool call in place of words": pair(
        40,
        (Message("user", "Hi"),),
        (Message("assistant", "", {"tool_calls": [{}]}),),
        (Message("assistant", "No."),),
    ),
    "a system message that many share": conversation(40, ("system", str(CLEAN[0].prompt)), ("user", "Hi")),
}


@pytest.mark.parametrize("well", WELL.values(), ids=WELL)
def test_unusual_but_valid_pairs_have_no_findings(well: PreferencePair) -> None:
    assert rows_of(lint_pairs([*CLEAN, well])) == {}


def test_both_pairs_of_a_contradiction_are_reported_with_each_others_lines() -> None:
    report = lint_pairs([*CLEAN, pair(40, CLEAN[7].prompt, CLEAN[7].rejected, CLEAN[7].chosen)])
    assert rows_of(report) == {"contradictions": [7, 40]}
    examples = findings(report)["contradictions"].found.examples
    assert [(example.line, example.like) for example in examples] == [(8, "line 41"), (41, "line 8")]


def test_bad_rows_are_counted_beside_the_findings_in_good_rows() -> None:
    report = lint_pairs([BadRow(0, 1, "the line is not JSON"), *(dataclasses.replace(p, row=p.row + 1) for p in CLEAN)])
    assert (report.pairs, rows_of(report)) == (40, {"bad_rows": [0]})
    (example,) = findings(report)["bad_rows"].found.examples
    assert (example.line, example.excerpt) == (1, "the line is not JSON")


def test_exact_and_near_copies_of_prompts_of_another_data_set_are_found() -> None:
    other = [pair(50), pair(51, CLEAN[5].prompt), pair(52, str(CLEAN[9].prompt).replace(".", " ?"))]
    report = lint_pairs(CLEAN, against=index_texts(other))
    assert rows_of(report) == {"leaked_prompts": [5, 9]}
    found = findings(report)["leaked_prompts"].found
    assert found.detail == "1 exact, 1 near"
    assert [(example.line, example.like) for example in found.examples] == [(6, "line 52 there"), (10, "line 53 there")]


def test_the_similarity_of_fingerprints_estimates_that_of_the_texts() -> None:
    text = sentence(1, 400)
    half = text[: 2 * len(text)]
    some, others = ({one[i : i + 8] for i in range(len(one) - 7)} for one in (text, half))
    likeness = (sketch([text_hashes(text)]) == sketch([text_hashes(half)])).mean()
    assert likeness == pytest.approx(len(some & others) / len(some | others), abs=0.2)
    assert (sketch([text_hashes("a b")]) == sketch([text_hashes(" A\n B")])).all()
    assert (sketch([text_hashes("a")]) == sketch([text_hashes("b")])).sum() == 0


def test_exactly_the_similar_texts_are_found_among_many() -> None:
    texts = [sentence(seed, 60) for seed in range(300)]
    texts[200] = texts[100].replace("river", "brook", 1)
    found = near_matches(np.array([sketch([text_hashes(text)]) for text in texts]), None, 0.8)
    assert found == {200: 100}


def test_the_bundled_pairs_have_exactly_the_planted_defects(
    bundled_pairs: list[PreferencePair],
) -> None:
    report = lint_pairs(bundled_pairs)
    assert rows_of(report) == {
        "duplicate_pairs": [122, 150],
        "contradictions": [77, 153],
        "identical_responses": [159],
    }
    notes: Callable[[int], str] = lambda row: str(bundled_pairs[row].columns["note"])  # noqa: E731
    assert [notes(row).split(":")[0] for row in (122, 150, 153, 159)] == [
        "duplicate",
        "duplicate",
        "contradiction",
        "identical responses",
    ]
