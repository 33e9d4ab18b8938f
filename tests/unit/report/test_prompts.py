"""Notes on differences in how two ledgers were tokenized."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prefscope.ledger.table import load_ledger
from prefscope.report.prompts import prompt_cautions

TOKENS = {"tokenizer_hash": "aa", "template_hash": "bb", "profile": "trl", "max_length": 64}
ROLES = {"prompt": "user", "chosen": "assistant", "rejected": "assistant"}
TURNS = json.dumps({side: [{"role": role, "content": f"a {side}"}] for side, role in ROLES.items()})
Write = Callable[..., Path]


def cautions(write_pairs: Write, a: dict[str, Any], b: dict[str, Any], **pair: Any) -> list[str]:
    paths = [
        write_pairs([{"logps": (-1.0, -2.0, -1.0, -2.0), **pair}], manifest={"tokenization": tokens}, name=name)
        for name, tokens in (("a.parquet", a), ("b.parquet", b))
    ]
    return prompt_cautions(load_ledger(paths[0]), load_ledger(paths[1]))


@pytest.mark.parametrize(
    ("change", "caution"),
    [
        ({}, []),
        ({"tokenizer_hash": "cc"}, ["the prompts differ: A and B have different tokenizers"]),
        ({"template_hash": "cc"}, ["the prompts differ: A and B have different chat templates"]),
        ({"profile": "simpo"}, ["the prompts differ: A has the profile trl, B simpo"]),
        ({"max_length": 32}, ["sequences are truncated to 64 tokens in A, to 32 in B"]),
    ],
    ids=["the same", "tokenizers", "templates", "profiles", "lengths"],
)
def test_differences_are_named(write_pairs: Write, change: dict[str, Any], caution: list[str]) -> None:
    assert cautions(write_pairs, TOKENS, TOKENS | change, source_json=TURNS, flags="truncated") == caution


def test_templates_do_not_matter_to_plain_text(write_pairs: Write) -> None:
    plain = json.dumps({"prompt": "why?", "chosen": "yes", "rejected": "no"})
    assert cautions(write_pairs, TOKENS, TOKENS | {"template_hash": "cc"}, source_json=plain) == []


def test_lengths_do_not_matter_if_nothing_is_truncated(write_pairs: Write) -> None:
    assert cautions(write_pairs, TOKENS, TOKENS | {"max_length": 32}, source_json=TURNS) == []


def test_a_ledger_that_does_not_say_is_not_compared(write_pairs: Write) -> None:
    assert cautions(write_pairs, {}, TOKENS) == []
