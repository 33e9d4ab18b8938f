"""Models whose rotary frequencies depend on the longest sequence of a batch: each is computed as in a new model."""

from __future__ import annotations

import numpy as np
import pytest
from transformers import LlamaConfig

from prefscope.scoring.engine import forward
from prefscope.scoring.self_check import check
from prefscope.scoring.sequences import TokenSequence
from tests.numerics.families import NATS_A_TOKEN, SIZE, VOCABULARY, as_loaded, plain_logps, random_model, token_pool

LIMIT = 16
LENGTHS = (12, 40, 24, LIMIT, 60, LIMIT + 1, 12)
ROPE = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0}


def test_frequencies_do_not_depend_on_previously_computed_sequences() -> None:
    config = LlamaConfig(**(SIZE | {"max_position_embeddings": LIMIT, "rope_parameters": dict(ROPE)}))
    model = as_loaded(random_model(config))
    verdict = check(model, token_pool())
    assert (verdict.path, verdict.alone) == ("padded", True)
    generator = np.random.default_rng(0)
    for length in LENGTHS:
        sequence = TokenSequence(generator.integers(VOCABULARY, size=length).astype(np.int32), 4)
        (found,) = forward(model, verdict.path, [sequence])
        assert found == pytest.approx(plain_logps(random_model(config), sequence), abs=NATS_A_TOKEN)
