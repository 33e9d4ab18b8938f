"""The forward mode of a model is determined once and stored; a model that cannot be packed is padded with a note."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, BloomConfig, PretrainedConfig, PreTrainedTokenizerBase, Qwen3NextConfig

from prefscope.data.records import PreferencePair
from prefscope.folders import store_path
from prefscope.pipeline import model_pool
from prefscope.scoring import probe
from prefscope.scoring.engine import start_batch
from prefscope.scoring.tokenization import PairTokenizer, TokenizedPair
from prefscope.settings import TokenizationSettings
from tests.functional.runs import (
    NATS_A_TOKEN,
    POLICY,
    REF,
    Loads,
    Outcome,
    full_above,
    largest_difference,
    run,
    settings_of,
)

pytestmark = pytest.mark.slow

Program = Callable[..., tuple[int, str, str]]
PAIRS = 12
CONTEXT = 1024
SIZE: dict[str, Any] = {
    "vocab_size": 2048,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "initializer_range": 0.2,
    "bos_token_id": None,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
PADDED: dict[str, tuple[PretrainedConfig, str]] = {
    "qwen3_next": (
        Qwen3NextConfig(
            **SIZE,
            intermediate_size=64,
            num_key_value_heads=2,
            max_position_embeddings=CONTEXT,
            head_dim=8,
            num_experts=4,
            num_experts_per_tok=2,
            moe_intermediate_size=32,
            shared_expert_intermediate_size=32,
            linear_num_key_heads=2,
            linear_num_value_heads=4,
            linear_key_head_dim=8,
            linear_value_head_dim=8,
            layer_types=["linear_attention", "full_attention"],
        ),
        "it has linear_attention layers",
    ),
    "bloom": (BloomConfig(**SIZE), "it has its own attention code"),
}


@pytest.fixture(autouse=True)
def _short_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "ENOUGH_SECONDS", 0)


@pytest.fixture
def examined(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that is filled with the checks and probes that run."""
    made: list[str] = []

    def watched(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def watch(*args: Any, **kwargs: Any) -> Any:
            made.append(name)
            return call(*args, **kwargs)

        return watch

    for name in ("check", "probe"):
        monkeypatch.setattr(model_pool, name, watched(name, getattr(model_pool, name)))
    return made


@pytest.fixture(params=PADDED)
def kind(request: pytest.FixtureRequest) -> str:
    """Return each family of model that must be padded."""
    return str(request.param)


@pytest.fixture
def folder(kind: str, tiny_tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> Path:
    """Return a random model of that family with the tiny tokenizer, as a checkpoint folder."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(PADDED[kind][0], attn_implementation="eager")
    model.save_pretrained(tmp_path / kind)
    tiny_tokenizer.save_pretrained(tmp_path / kind)
    return tmp_path / kind


def change_store(statement: str, *values: Any) -> None:
    with closing(sqlite3.connect(store_path("cache"))) as database:
        assert database.execute(statement, values).rowcount > 0
        database.commit()


def verdicts() -> list[str]:
    with closing(sqlite3.connect(store_path("cache"))) as database:
        return [row[0] for row in database.execute("SELECT verdict FROM verdicts ORDER BY key")]


def how(outcome: Outcome) -> list[tuple[str, str, int]]:
    """Return how each model is computed: forward mode, reason and token budget."""
    return [(plan.path, plan.reason, plan.batch_tokens) for plan in outcome.plans.values()]


def test_a_model_is_checked_and_probed_once_and_the_result_is_stored(examined: list[str]) -> None:
    first = run(settings_of(limit=2))
    assert examined == ["check", "probe"] * 2
    second = run(settings_of(limit=4))
    assert examined == ["check", "probe"] * 2
    assert how(second) == how(first) == [("packed", "", 2048)] * 2


def test_a_run_whose_sequences_are_all_in_the_store_loads_no_weights(loads: Loads) -> None:
    run(settings_of(limit=2))
    assert loads.names == [str(POLICY), str(REF)]
    run(settings_of(limit=2))
    assert loads.names == [str(POLICY), str(REF)]


def test_another_dtype_is_checked_separately(examined: list[str]) -> None:
    run(settings_of(ref="none", limit=1))
    run(settings_of(ref="none", limit=1, dtype="bfloat16"))
    assert examined == ["check", "probe"] * 2


SOUND = '{"verdict": {"path": "packed", "reason": ""}, "budget": {"batch_tokens": 2048, "tokens_per_second": 1000.0}}'


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param(SOUND[:70], id="cut short"),
        pytest.param("[]", id="another kind"),
        pytest.param(SOUND.replace(', "tokens_per_second": 1000.0', ""), id="no speed"),
        pytest.param(SOUND.replace("packed", "pbcked"), id="an unknown forward mode"),
        pytest.param(SOUND.replace("2048", '"2048"'), id="a budget that is text"),
        pytest.param(SOUND.replace("1000.0", "0.0"), id="zero tokens per second"),
    ],
)
def test_a_damaged_stored_check_is_repeated(text: str, examined: list[str]) -> None:
    run(settings_of(ref="none", limit=1))
    change_store("UPDATE verdicts SET verdict = ?", text)
    outcome = run(settings_of(ref="none", limit=2))
    assert examined == ["check", "probe"] * 2
    assert how(outcome) == [("packed", "", 2048)]
    (remembered,) = (value for value in map(json.loads, verdicts()) if isinstance(value, dict))  # the other is a speed
    assert (remembered["verdict"]["path"], remembered["budget"]["batch_tokens"]) == ("packed", 2048)


def test_a_model_that_must_be_padded_is_scored_and_the_reason_recorded(
    kind: str, folder: Path, program: Program, samples: Path
) -> None:
    reason = PADDED[kind][1]
    options = ("--policy", folder, "--ref", "none", "--limit", "4", "--cache", "cache", "-o", "out.parquet")
    code, _, told = program("score", samples / "pairs.jsonl", *options)
    assert code == 0
    assert f"\npolicy: computed in padded rows, because {reason}\n" in told
    outcome = run(settings_of(folder, "none", limit=4))
    assert [(plan.path, plan.reason, plan.missing) for plan in outcome.plans.values()] == [("padded", reason, 0)]
    model = outcome.manifest["models"]["policy"]
    assert (model["path"], model["path_reason"]) == ("padded", reason)


def test_a_model_that_must_be_padded_gets_the_numbers_of_a_plain_forward_of_each_sequence(
    folder: Path, tiny_tokenizer: PreTrainedTokenizerBase, bundled_pairs: list[PreferencePair]
) -> None:
    outcome = run(settings_of(folder, "none", limit=4, batch_tokens=1024))
    assert len(outcome.batches) < 8
    model: nn.Module = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenized = PairTokenizer(tiny_tokenizer, TokenizationSettings(), CONTEXT, frozenset()).tokenize(bundled_pairs[:4])
    pairs = [item for item in tokenized if isinstance(item, TokenizedPair)]
    expected = []
    for sequence in (*(pair.chosen for pair in pairs), *(pair.rejected for pair in pairs)):
        ids = torch.from_numpy(sequence.token_ids.astype(np.int64))
        with torch.no_grad():
            logps = model(input_ids=ids[None], use_cache=False).logits[0].log_softmax(-1)
        everything = logps[:-1].gather(-1, ids[1:, None])[:, 0].numpy()
        expected.append(everything[sequence.first_scored - 1 :])
    assert largest_difference(outcome.token_logps("policy"), np.concatenate(expected)) < NATS_A_TOKEN


def test_a_requested_attention_is_used_with_padding_and_gives_the_same_numbers() -> None:
    packed = run(settings_of(ref="none", limit=4))
    padded = run(settings_of(ref="none", limit=4, attn="eager"))
    assert [path for path, *_ in how(packed) + how(padded)] == ["packed", "padded"]
    assert padded.plans["policy"].missing == 8  # the store keeps them apart
    model = padded.manifest["models"]["policy"]
    assert (model["attention"], model["path"]) == ("eager", "padded")
    assert model["path_reason"] == "an attention implementation was requested"
    assert largest_difference(packed.token_logps("policy"), padded.token_logps("policy")) < NATS_A_TOKEN


@pytest.mark.parametrize(("attn", "path"), [("auto", "packed"), ("eager", "padded")])
def test_a_batch_budget_limits_every_batch(attn: str, path: str) -> None:
    outcome = run(settings_of(ref="none", limit=PAIRS, batch_tokens=300, attn=attn))
    assert {(plan.path, plan.batch_tokens) for plan in outcome.plans.values()} == {(path, 300)}
    assert all(batch.computed <= 300 or batch.sequences == 1 for batch in outcome.batches)
    assert any(batch.sequences > 1 for batch in outcome.batches)


def test_a_batch_that_does_not_fit_is_halved_and_later_ones_are_split_in_advance(loads: Loads) -> None:
    settings = settings_of(ref="none", limit=30, batch_tokens=1024)
    expected = run(replace(settings, compute=replace(settings.compute, cache_dir="other")))
    run(settings_of(ref="none", limit=1))  # the model is known now
    sizes: list[int] = []
    loads.hooks.append(full_above(700, sizes))
    outcome = run(settings)
    assert [(event.role, event.batch) for event in outcome.halvings] == [("policy", 0)]
    assert sum(batch.computed > 700 for batch in outcome.batches) > 2
    assert sum(size > 700 for size in sizes) == 1
    assert sum(batch.sequences for batch in outcome.batches) == outcome.plans["policy"].missing  # none is lost
    assert largest_difference(outcome.token_logps("policy"), expected.token_logps("policy")) < NATS_A_TOKEN


def test_a_short_first_half_does_not_cut_later_batches_to_its_size(
    loads: Loads, write_jsonl: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []

    def watch(model: Any, path: Any, sequences: Any, *more: Any) -> Any:
        tried.append(len(sequences))
        return start_batch(model, path, sequences, *more)

    first = {"prompt": "What?", "chosen": " No.", "rejected": " word" * 470}
    others = [{"prompt": f"What of {i}?", "chosen": " some" * 20, "rejected": " thing" * 20} for i in range(24)]
    settings = settings_of(ref="none", data=write_jsonl("pairs.jsonl", [first, *others]), batch_tokens=512)
    whole = run(replace(settings, compute=replace(settings.compute, cache_dir="other"))).batches
    assert whole[0].sequences == 2
    run(settings_of(ref="none", limit=1))
    monkeypatch.setattr("prefscope.pipeline.dispatch.local.start_batch", watch)
    loads.hooks.append(full_above(whole[0].computed - 1, []))
    assert len(run(settings).halvings) == 1
    assert len(tried) <= 2 * len(whole)


@pytest.mark.parametrize("batch_tokens", [None, 256])
def test_running_out_of_memory_in_a_probe_does_not_end_the_run(
    loads: Loads, monkeypatch: pytest.MonkeyPatch, batch_tokens: int | None
) -> None:
    monkeypatch.setattr(probe, "ENOUGH_SECONDS", 3600)
    loads.hooks.append(full_above(500, []))
    outcome = run(settings_of(ref="none", limit=2, batch_tokens=batch_tokens))
    assert outcome.plans["policy"].batch_tokens <= 500
    assert sum(batch.sequences for batch in outcome.batches) == 4


def test_the_budget_depends_on_the_device_and_not_on_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    for seconds in (0, 3600):
        monkeypatch.setattr(probe, "ENOUGH_SECONDS", seconds)
        assert how(run(settings_of(ref="none", limit=1, cache=str(seconds)))) == [("packed", "", 2048)]
