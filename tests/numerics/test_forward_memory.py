"""What a forward pass allocates: no mask of a row, logits only of predicting positions, no copy of the head."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import LlamaConfig, PretrainedConfig

from prefscope.scoring import head
from prefscope.scoring.engine import forward
from prefscope.scoring.forward_mode import ForwardMode
from prefscope.scoring.models import LanguageModel
from prefscope.scoring.packing import pack
from prefscope.scoring.self_check import follow
from prefscope.scoring.sequences import TokenSequence
from tests.numerics.families import PACKED, SIZE, as_loaded, plain_logps, random_model
from tests.numerics.made import Made

pytestmark = pytest.mark.slow

VOCABULARY, HIDDEN = 5000, 48
PROMPT, RESPONSES = 1000, (5, 9, 6)
SCORED = sum(RESPONSES)
WIDE_HEAD: dict[str, Any] = {**SIZE, "vocab_size": VOCABULARY, "hidden_size": HIDDEN, "initializer_range": 0.1}
both_paths = pytest.mark.parametrize("path", ["packed", "padded"])
heads = pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])


def wide_headed(dtype: torch.dtype, path: ForwardMode, *, tied: bool = True) -> LanguageModel:
    """Return a model whose head is its largest part, its attention set to a path."""
    model = as_loaded(random_model(LlamaConfig(**WIDE_HEAD, tie_word_embeddings=tied), dtype))
    follow(model, path)
    return model


def responses() -> list[TokenSequence]:
    """Return short responses to a long prompt that share no prefix."""
    generator = np.random.default_rng(0)
    prompt = generator.integers(VOCABULARY, size=PROMPT)
    tails = [np.append(i, generator.integers(VOCABULARY, size=size - 1)) for i, size in enumerate(RESPONSES)]
    return [TokenSequence(np.concatenate([prompt, tail]).astype(np.int32), PROMPT) for tail in tails]


def unrelated(number: int, length: int) -> list[TokenSequence]:
    generator = np.random.default_rng(0)
    return [TokenSequence(generator.integers(100, size=length).astype(np.int32), 1) for _ in range(number)]


def rows_through_the_head(model: LanguageModel, path: ForwardMode, sequences: list[TokenSequence]) -> list[int]:
    """Return the number of hidden states that a forward pass turns into logits, for each chunk."""
    rows: list[int] = []
    linear: nn.Module = model.module.get_output_embeddings()
    with linear.register_forward_pre_hook(lambda _module, args: rows.append(args[0].numel() // HIDDEN)):
        forward(model, path, sequences)
    return rows


@pytest.mark.parametrize("config", [pytest.param(config, id=name) for name, config in PACKED.items()])
def test_no_tensor_of_a_packed_row_grows_with_its_square(config: PretrainedConfig) -> None:
    model = as_loaded(random_model(config))
    follow(model, "packed")
    with Made() as made:
        forward(model, "packed", unrelated(34, 60))
    assert made.largest() < (34 * 60) ** 2 / 4


@heads
def test_no_tensor_of_a_packed_row_is_larger_than_the_logits_of_scored_tokens(*, tied: bool) -> None:
    model = wide_headed(torch.float32, "packed", tied=tied)
    with Made() as made:
        forward(model, "packed", responses())
    assert made.largest() == SCORED * VOCABULARY < PROMPT**2


@heads
@both_paths
def test_logits_are_computed_only_for_scored_tokens(path: ForwardMode, *, tied: bool) -> None:
    model = wide_headed(torch.float32, path, tied=tied)
    with Made() as made:
        forward(model, path, responses())
    assert made.largest(last=VOCABULARY) == SCORED * VOCABULARY


def test_the_plain_forward_computes_all_logits() -> None:
    model, sequence = wide_headed(torch.float32, "padded"), responses()[0]
    with Made() as made:
        plain_logps(model.module, sequence)
    assert made.largest(last=VOCABULARY) == len(sequence.token_ids) * VOCABULARY


@both_paths
def test_only_positions_that_predict_a_scored_token_reach_the_head(path: ForwardMode) -> None:
    assert rows_through_the_head(wide_headed(torch.float32, path), path, responses()) == [SCORED]


def test_a_token_shared_by_several_responses_reaches_the_head_once() -> None:
    ids = [one.token_ids for one in responses()]
    shared = [TokenSequence(np.concatenate([ids[0], tail[-4:]]), PROMPT) for tail in ids]
    assert pack(shared).scored.sum() == RESPONSES[0] + 3 * 4
    model = wide_headed(torch.float32, "packed")
    assert rows_through_the_head(model, "packed", shared) == [RESPONSES[0] + 3 * 4]


@both_paths
def test_the_head_is_applied_in_chunks_that_bound_the_logits(
    path: ForwardMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head, "FEWEST_ROWS", 1)
    monkeypatch.setattr(head, "CHUNK_LOGITS", 8 * VOCABULARY + 7)
    assert rows_through_the_head(wide_headed(torch.float32, path), path, responses()) == [8, 8, 4]


@heads
@both_paths
def test_the_head_weight_is_not_copied_to_float32_in_bfloat16(path: ForwardMode, *, tied: bool) -> None:
    model = wide_headed(torch.bfloat16, path, tied=tied)
    with Made() as made:
        forward(model, path, responses())
    assert SCORED < HIDDEN
    assert made.largest(dtype=torch.float32, last=VOCABULARY) == SCORED * VOCABULARY
    assert (torch.float32, (VOCABULARY, HIDDEN)) not in made.tensors


@both_paths
def test_the_bfloat16_head_runs_in_bfloat16_and_its_softmax_in_float32(path: ForwardMode) -> None:
    model = wide_headed(torch.bfloat16, path)
    seen: list[torch.dtype] = []
    linear: nn.Module = model.module.get_output_embeddings()
    with linear.register_forward_hook(lambda _module, _args, logits: seen.append(logits.dtype)):
        found = forward(model, path, responses())
    assert seen == [torch.bfloat16]
    rounded = [torch.from_numpy(logps).to(torch.bfloat16).float().numpy() for logps in found]
    assert not np.array_equal(np.concatenate(rounded), np.concatenate(found))
