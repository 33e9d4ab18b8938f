"""In 16 bits, a packed row is about as far from float32 as the plain forward: only rounding differs."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from prefscope.data.records import PreferencePair
from prefscope.scoring.checkpoints import Checkpoint
from prefscope.scoring.engine import forward
from prefscope.scoring.models import LanguageModel, load_model
from prefscope.scoring.self_check import follow
from prefscope.scoring.sequences import TokenSequence
from prefscope.scoring.tokenization import PairTokenizer, TokenizedPair
from prefscope.settings import ModelSettings, TokenizationSettings
from tests.numerics.families import PACKED, VOCABULARY, as_loaded, random_model

pytestmark = pytest.mark.slow

BATCH = 16
MOST = 1.5
"""The errors of packing may be larger than those of the plain forward by this factor."""
dtypes = pytest.mark.parametrize("dtype", ["bfloat16", "float16"])


@pytest.fixture(scope="module")
def bundled(bundled_pairs: list[PreferencePair], tiny_tokenizer: PreTrainedTokenizerBase) -> list[TokenSequence]:
    """Return the sequences of every eighth bundled pair."""
    tokenizer = PairTokenizer(tiny_tokenizer, TokenizationSettings(), 256, frozenset())
    pairs = [item for item in tokenizer.tokenize(bundled_pairs[::8]) if isinstance(item, TokenizedPair)]
    return [side for pair in pairs for side in (pair.chosen, pair.rejected)]


@pytest.fixture(scope="module")
def drawn() -> list[TokenSequence]:
    """Return random pairs of responses to random prompts, for the random families."""
    generator = np.random.default_rng(3)
    prompts = [generator.integers(VOCABULARY, size=12) for _ in range(6)]
    tails = [generator.integers(VOCABULARY, size=50) for _ in range(12)]
    return [TokenSequence(np.concatenate([prompts[i // 2], tail]).astype(np.int32), 12) for i, tail in enumerate(tails)]


def errors(model: LanguageModel, sequences: list[TokenSequence]) -> dict[str, NDArray[np.float32]]:
    """Return, for each forward, how far each token's log-prob is from a float32 forward of the same weights."""
    plain = [forward(model, "padded", [sequence])[0] for sequence in sequences]
    follow(model, "packed")
    starts = range(0, len(sequences), BATCH)
    packed = [logps for i in starts for logps in forward(model, "packed", sequences[i : i + BATCH])]
    follow(model, "padded")
    model.module.float()
    wide = dataclasses.replace(model, dtype="float32")
    expected = np.concatenate([forward(wide, "padded", [sequence])[0] for sequence in sequences])
    return {name: np.abs(np.concatenate(found) - expected) for name, found in (("plain", plain), ("packed", packed))}


@dtypes
def test_the_bundled_policy_packed_is_as_near_to_float32_as_plain(
    samples: Path, bundled: list[TokenSequence], dtype: str
) -> None:
    checkpoint = Checkpoint("tiny-policy", samples / "tiny-policy")
    model = load_model(checkpoint, ModelSettings("tiny-policy"), device=torch.device("cpu"), dtype=dtype)
    found = errors(model, bundled)
    assert len(found["packed"]) > 3000
    assert np.median(found["packed"]) <= MOST * np.median(found["plain"])
    assert np.quantile(found["packed"], 0.95) <= MOST * np.quantile(found["plain"], 0.95)


@dtypes
@pytest.mark.parametrize(
    "family",
    [
        "gemma2, soft caps and a window",
        "mistral, a window in all layers",
        "gpt_oss, sinks, experts and a window",
        "deepseek_v3, latent attention",
    ],
)
def test_windows_soft_caps_sinks_and_narrow_values_packed_are_as_near_to_float32_as_plain(
    family: str, drawn: list[TokenSequence], dtype: str
) -> None:
    found = errors(as_loaded(random_model(PACKED[family], getattr(torch, dtype))), drawn)
    assert np.median(found["packed"]) <= MOST * np.median(found["plain"])
    assert np.quantile(found["packed"], 0.95) <= MOST * np.quantile(found["plain"], 0.95)
