"""The maximum length: what the models' configs allow, and how --max-length changes it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel

from prefscope.settings import TokenizationSettings
from tests.functional.runs import NATS_A_TOKEN, POLICY, Outcome, run, settings_of

pytestmark = pytest.mark.slow

CONTEXT = 64


def policy_with(**changes: Any) -> Path:
    """Return a copy of the tiny policy with a changed config."""
    folder = Path(shutil.copytree(POLICY, Path("policy").absolute()))
    file = folder / "config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    config.pop("rope_parameters", None)
    file.write_text(json.dumps(config | {"max_position_embeddings": CONTEXT} | changes), encoding="utf-8")
    return folder


def scored(policy: Path, max_length: int | None = None) -> Outcome:
    settings = settings_of(policy, "none", limit=24)
    return run(replace(settings, tokenization=TokenizationSettings(max_length=max_length)))


def warnings(outcome: Outcome) -> list[str]:
    return [note for note in outcome.notes if note.startswith("Warning")]


def lengths(outcome: Outcome) -> int:
    return max(max(map(len, outcome.table[f"{side}_tokens"].to_pylist())) for side in ("chosen", "rejected"))


def test_rotary_scaling_extends_the_context() -> None:
    policy = policy_with(rope_scaling={"rope_type": "linear", "factor": 4.0})
    outcome = scored(policy)
    assert outcome.manifest["tokenization"]["max_length"] == 4 * CONTEXT
    assert lengths(outcome) > CONTEXT
    assert warnings(outcome) == []


def test_scaled_positions_are_scored_as_in_a_plain_forward() -> None:
    policy = policy_with(rope_scaling={"rope_type": "linear", "factor": 4.0})
    outcome = scored(policy)
    tokenizer, model = AutoTokenizer.from_pretrained(policy), AutoModelForCausalLM.from_pretrained(policy)
    row = max(range(24), key=lambda i: len(outcome.table["chosen_tokens"][i]))
    source = json.loads(outcome.table["source_json"][row].as_py())
    text = tokenizer.apply_chat_template(source["prompt"] + source["chosen"], tokenize=False)
    ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
    with torch.inference_mode():
        logps = model(ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0].numpy()
    found = np.asarray(outcome.table["policy_chosen_token_logps"][row].as_py())
    assert ids.shape[1] > CONTEXT
    assert found == pytest.approx(logps[-len(found) :], abs=NATS_A_TOKEN)


def test_a_max_length_beyond_the_context_is_accepted_with_a_warning() -> None:
    policy = policy_with()
    outcome = scored(policy, max_length=200)
    assert outcome.manifest["tokenization"]["max_length"] == 200
    assert lengths(outcome) > CONTEXT
    assert warnings(outcome) == [
        (
            f"Warning: --max-length 200 exceeds the context of {policy}, 64 tokens. "
            "Longer sequences are scored, but the model was not designed for them."
        )
    ]


@pytest.mark.parametrize("max_length", [None, CONTEXT])
def test_sequences_are_truncated_to_the_context_by_default(max_length: int | None) -> None:
    outcome = scored(policy_with(), max_length)
    assert outcome.manifest["tokenization"]["max_length"] == CONTEXT
    assert warnings(outcome) == []


def test_learned_positions_limit_the_context_to_their_table() -> None:
    tokenizer = AutoTokenizer.from_pretrained(POLICY)
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=len(tokenizer), n_embd=16, n_layer=1, n_head=2, n_positions=CONTEXT)
    GPT2LMHeadModel(config).save_pretrained("gpt2")
    tokenizer.save_pretrained("gpt2")
    outcome = scored(Path("gpt2"), max_length=200)
    assert outcome.manifest["tokenization"]["max_length"] == CONTEXT
    assert warnings(outcome) == [
        (
            "Warning: --max-length 200 exceeds the context of gpt2, 64 tokens. "
            "It has no positions beyond that, so sequences are cut to 64 tokens."
        )
    ]
