"""The policy's Σ log Σ π², for WPO: stored only if a loss needs it, and equal to that of a plain forward pass."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from prefscope.data.records import PreferencePair
from prefscope.ledger.columns import COLLISION_LOGPS, LOGPS, NUM_TOKENS
from prefscope.ledger.table import load_ledger
from prefscope.scoring.tokenization import PairTokenizer, TokenizedPair
from prefscope.settings import LossChoice, PreferenceSettings, TokenizationSettings

pytestmark = pytest.mark.slow

Program = Callable[..., tuple[int, str, str]]
PAIRS = 3


@pytest.fixture
def pairs(tmp_path: Path, samples: Path) -> Path:
    path = tmp_path / "pairs.jsonl"
    lines = (samples / "pairs.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(lines[:PAIRS]), encoding="utf-8")
    return path


def plainly(samples: Path, pairs: list[PreferencePair]) -> np.ndarray:
    """Return Σ log Σ π² of chosen and rejected of some pairs from plain forward passes in float64. Shape (2, pairs)."""
    model = AutoModelForCausalLM.from_pretrained(samples / "tiny-policy", dtype=torch.float64)
    tokenizer = AutoTokenizer.from_pretrained(samples / "tiny-policy")
    found = PairTokenizer(tokenizer, TokenizationSettings(), None, frozenset()).tokenize(pairs)
    sums: list[list[float]] = [[], []]
    for item in found:
        assert isinstance(item, TokenizedPair)
        for side, sequence in enumerate((item.chosen, item.rejected)):
            ids = torch.from_numpy(sequence.token_ids.astype(np.int64))
            with torch.inference_mode():
                logps = model(ids[None]).logits[0].log_softmax(-1)[sequence.first_scored - 1 : -1]
            sums[side].append(float((logps.exp() ** 2).sum(-1).log().sum()))
    return np.array(sums)


def test_collision_log_probs_equal_those_of_a_plain_forward_pass(
    program: Program, pairs: Path, samples: Path, bundled_pairs: list[PreferencePair], tmp_path: Path
) -> None:
    path = tmp_path / "out.parquet"
    assert program("score", pairs, "--loss", "wpo", "--no-cache", "-o", path)[0] == 0
    ledger = load_ledger(path)
    expected = plainly(samples, bundled_pairs[:PAIRS])
    found = np.array([ledger.stored[name] for name in COLLISION_LOGPS])
    assert found == pytest.approx(expected, abs=1e-3)
    stored = ledger.stored
    means = [
        (stored[logps] - sure) / stored[count]
        for logps, sure, count in zip(LOGPS[:2], expected, NUM_TOKENS, strict=True)
    ]
    settings = PreferenceSettings(0.1, (LossChoice("wpo"), LossChoice("dpo")), explicit=True)
    losses = ledger.derived(settings)
    assert losses["wpo_loss"] == pytest.approx(np.exp(means[0] + means[1]) * losses["dpo_loss"], rel=1e-4)


def test_a_run_without_collision_log_probs_reuses_one_with_them(program: Program, pairs: Path, tmp_path: Path) -> None:
    cache = ("--cache", tmp_path / "cache")
    program("score", pairs, "--loss", "wpo", *cache, "-o", tmp_path / "with.parquet")
    _, _, err = program("score", pairs, *cache, "-o", tmp_path / "without.parquet")
    assert "policy: all 6 sequences are in the store" in err
    with_, without = (load_ledger(tmp_path / f"{name}.parquet") for name in ("with", "without"))
    assert [with_.stored[name].tolist() for name in LOGPS] == [without.stored[name].tolist() for name in LOGPS]
    assert without.missing_input("wpo") == "log Σ π² of each token (score with --loss wpo)"


def test_a_run_with_collision_log_probs_computes_the_missing_ones(
    program: Program, pairs: Path, tmp_path: Path
) -> None:
    cache = ("--cache", tmp_path / "cache")
    program("score", pairs, *cache)
    _, _, err = program("score", pairs, "--loss", "wpo", *cache, "-o", tmp_path / "out.parquet")
    assert "policy: 6 of 6 sequences to compute" in err
    assert "ref: all 6 sequences are in the store" in err
    assert load_ledger(tmp_path / "out.parquet").missing_input("wpo") == ""
