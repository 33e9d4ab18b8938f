"""Models with a second set of rotary frequencies for long sequences: every sequence is computed with the right ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from transformers import Phi3Config, PretrainedConfig

from prefscope.scoring.engine import forward
from prefscope.scoring.forward_mode import ForwardMode
from prefscope.scoring.models import rope_limit
from prefscope.scoring.planning import plan_batches
from prefscope.scoring.self_check import ForwardChoice, check, follow
from prefscope.scoring.sequences import TokenSequence
from tests.numerics.families import (
    NATS_A_TOKEN,
    PACKED,
    SIZE,
    VOCABULARY,
    as_loaded,
    changed,
    largest_difference,
    plain_logps,
    random_model,
    token_pool,
)

LIMIT = 16
ROPE: dict[str, Any] = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "original_max_position_embeddings": LIMIT,
    "short_factor": [1.0, 1.0, 1.0, 1.0],
    "long_factor": [1.0, 3.0, 8.0, 20.0],
}
both_paths = pytest.mark.parametrize("path", ["packed", "padded"])


def longrope() -> PretrainedConfig:
    return Phi3Config(**SIZE, original_max_position_embeddings=LIMIT, rope_parameters=dict(ROPE))


def short_and_long() -> list[TokenSequence]:
    """Return responses to one prompt on both sides of the limit, and unrelated sequences, two of them at the limit."""
    generator = np.random.default_rng(0)
    prompt = generator.integers(VOCABULARY, size=10)
    related = [np.concatenate([prompt, generator.integers(VOCABULARY, size=n)]) for n in (3, 5, 6, 7, 30, 54)]
    others = [generator.integers(VOCABULARY, size=n) for n in (2, LIMIT, LIMIT + 1, 40)]
    every = [*((ids, 10) for ids in related), *((ids, 1) for ids in others)]
    return [TokenSequence(ids.astype(np.int32), start) for ids, start in every]


def scored(path: ForwardMode, *, limit: int | None) -> tuple[list[list[float]], list[list[float]]]:
    """Return the results of the plain forward, and of batches planned with a limit."""
    module, sequences = random_model(longrope()), short_and_long()
    expected = [plain_logps(module, sequence) for sequence in sequences]
    model = as_loaded(module)
    follow(model, path)
    plan = plan_batches(sequences, packed=path == "packed", batch_tokens=10_000, rope_limit=limit)
    found: list[list[float]] = [[] for _ in sequences]
    for number in range(plan.max() + 1):
        members = np.flatnonzero(plan == number).tolist()
        for i, logps in zip(members, forward(model, path, [sequences[i] for i in members]), strict=True):
            found[i] = logps.tolist()
    return found, expected


def test_the_limit_is_the_original_training_context() -> None:
    assert rope_limit(longrope()) == LIMIT


def test_the_limit_is_found_in_a_config_of_the_older_layout() -> None:
    older = {"type": "longrope", "short_factor": ROPE["short_factor"], "long_factor": ROPE["long_factor"]}
    layout = {**SIZE, "original_max_position_embeddings": LIMIT, "rope_theta": 10000.0, "rope_scaling": older}
    assert rope_limit(Phi3Config.from_dict(layout)) == LIMIT


def test_the_limit_of_a_composite_model_is_that_of_its_text_model() -> None:
    config = changed(PACKED["gemma3, with a vision tower"])
    text: Any = config.get_text_config()
    text.rope_parameters = {"full_attention": dict(ROPE), "sliding_attention": {"rope_type": "default"}}
    assert rope_limit(config) == LIMIT


@pytest.mark.parametrize("name", ["llama, tied head", "gemma3, with a vision tower", "gpt2, learnt positions"])
def test_other_models_have_no_limit(name: str) -> None:
    assert rope_limit(PACKED[name]) is None


@both_paths
def test_short_and_long_sequences_get_the_log_probs_of_the_plain_forward(path: ForwardMode) -> None:
    for logps, plain in zip(*scored(path, limit=LIMIT), strict=True):
        assert logps == pytest.approx(plain, abs=NATS_A_TOKEN)


@both_paths
def test_batches_planned_without_the_limit_would_get_other_log_probs(path: ForwardMode) -> None:
    assert largest_difference(*scored(path, limit=None)) > 0.1


def test_a_longrope_model_is_packed() -> None:
    assert check(as_loaded(random_model(longrope())), token_pool()) == ForwardChoice("packed", "")
