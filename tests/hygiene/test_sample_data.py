"""The bundled samples are as documented: varied pairs, small models."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from prefscope.data.dialects import normalise
from prefscope.data.records import SourceRow

MODELS = ("tiny-policy", "tiny-ref", "tiny-base")


@pytest.fixture(scope="module")
def rows(samples: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (samples / "pairs.jsonl").read_text(encoding="utf-8").splitlines()]


def test_there_are_enough_pairs_of_enough_categories(rows: list[dict[str, Any]]) -> None:
    assert len(rows) >= 160
    assert len({row["category"] for row in rows}) >= 8


def test_some_pairs_have_several_turns_and_some_a_system_prompt(rows: list[dict[str, Any]]) -> None:
    roles = [[message["role"] for message in row["prompt"]] for row in rows]
    assert sum("assistant" in turns for turns in roles) >= 30
    assert sum(turns[0] == "system" for turns in roles) >= 20


def test_prompts_do_not_begin_alike(rows: list[dict[str, Any]]) -> None:
    asked = [next(m["content"] for m in row["prompt"] if m["role"] == "user") for row in rows]
    begins = Counter(" ".join(text.split()[:5]).lower() for text in asked)
    assert {begin: count for begin, count in begins.items() if count > 3} == {}


def test_every_pair_has_a_note_and_some_notes_say_something(rows: list[dict[str, Any]]) -> None:
    assert all(isinstance(row["note"], str) for row in rows)
    assert any(row["note"] for row in rows)


def test_every_row_is_a_preference_pair_of_one_layout(rows: list[dict[str, Any]]) -> None:
    assert {normalise(SourceRow(i, i + 1, row))[1] for i, row in enumerate(rows)} == {"trl"}


def test_there_is_a_training_split_and_an_unseen_one(rows: list[dict[str, Any]]) -> None:
    counts = Counter(row["split"] for row in rows)
    assert set(counts) == {"train", "held_out"}
    assert min(counts.values()) >= 20


@pytest.mark.parametrize("name", MODELS)
def test_a_tiny_model_is_small(samples: Path, name: str) -> None:
    with (samples / name / "model.safetensors").open("rb") as stream:
        header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
    parameters = sum(math.prod(tensor["shape"]) for key, tensor in header.items() if key != "__metadata__")
    assert parameters <= 1_500_000
    assert sum(file.stat().st_size for file in (samples / name).iterdir()) <= 4_000_000


def test_the_tiny_models_share_a_tokenizer_and_a_template(samples: Path) -> None:
    for file in ("tokenizer.json", "chat_template.jinja"):
        assert len({(samples / name / file).read_bytes() for name in MODELS}) == 1
