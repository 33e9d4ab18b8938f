"""A model that is split among processes gives the log-probs of the whole model."""

from __future__ import annotations

import copy
import importlib.util
import os
import pickle
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from prefscope.errors import ModelError
from prefscope.scoring.checkpoints import Checkpoint
from prefscope.scoring.engine import forward
from prefscope.scoring.logps import token_logps_and_collisions
from prefscope.scoring.self_check import follow
from prefscope.scoring.splitting import refuse_machine, refuse_unsplittable, splits_layers
from prefscope.settings import ModelSettings
from tests.numerics.families import (
    NATS_A_TOKEN,
    PACKED,
    VOCABULARY,
    as_loaded,
    plain_logps,
    random_model,
    related_sequences,
    token_pool,
)

pytestmark = pytest.mark.exhaustive

RANKS = 2
SPLITTABLE = [name for name, config in PACKED.items() if splits_layers(config.get_text_config())]
"""Depends on the installed transformers, whose plans grow with its releases."""
# Rank 0: told what to load and score, it writes down what it found.
RANK_0 = """
import pickle, sys, torch
torch.set_num_threads(1)
from prefscope.process_exit import leave
from prefscope.scoring import split_vocabulary
from prefscope.scoring.engine import forward
from prefscope.scoring.logps import token_logps, token_logps_and_collisions
from prefscope.scoring.ranks import Load, Ranks
from prefscope.scoring.self_check import check, follow
wanted, sequences, pool, models = pickle.loads(sys.stdin.buffer.read())
ranks, found, widths = Ranks({ranks}, torch.device("cpu")), dict(), set()
softmax = split_vocabulary._below_largest
split_vocabulary._below_largest = lambda logits: (widths.add(logits.shape[-1]), softmax(logits))[1]
for name, checkpoint in wanted.items():
    model = ranks.load(Load(checkpoint, models, "float32"))
    verdict = check(model, pool)
    follow(model, verdict.path)
    measures = token_logps, token_logps_and_collisions
    found[name] = verdict, [forward(model, verdict.path, sequences, measure) for measure in measures], sorted(widths)
    widths.clear()
sys.stdout.buffer.write(pickle.dumps(found))
leave(0)
"""


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Checkpoint]:
    folder = tmp_path_factory.mktemp("models")
    for name in SPLITTABLE:
        random_model(PACKED[name]).save_pretrained(folder / name)
    return {name: Checkpoint(name, folder / name) for name in SPLITTABLE}


@pytest.fixture(scope="module")
def split(checkpoints: Mapping[str, Checkpoint]) -> Mapping[str, Any]:
    """Return what two processes found of each model: verdict, log-probs, and how many logits each made a position."""
    asked = (checkpoints, related_sequences(), token_pool(), ModelSettings("", tp=RANKS))
    told = subprocess.run(
        [sys.executable, "-c", RANK_0.format(ranks=RANKS)],
        input=pickle.dumps(asked),
        stdout=subprocess.PIPE,
        check=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )
    found: Mapping[str, Any] = pickle.loads(told.stdout)  # noqa: S301 (our own)
    return found


@pytest.mark.parametrize("name", SPLITTABLE)
def test_two_processes_pack_a_model_and_give_the_log_probs_of_its_plain_forward(
    name: str, split: Mapping[str, Any]
) -> None:
    verdict, (logps, _), _ = split[name]
    module = random_model(PACKED[name])
    assert (verdict.path, verdict.reason) == ("packed", "")
    for found, sequence in zip(logps, related_sequences(), strict=True):
        assert found.tolist() == pytest.approx(plain_logps(module, sequence), abs=NATS_A_TOKEN)


@pytest.mark.parametrize("name", SPLITTABLE)
def test_two_processes_compute_the_sum_of_squared_probabilities_at_each_token(
    name: str, split: Mapping[str, Any]
) -> None:
    _, (_, both), _ = split[name]
    whole = as_loaded(random_model(PACKED[name]))
    follow(whole, "packed")
    expected = forward(whole, "packed", related_sequences(), token_logps_and_collisions)
    for found, wanted in zip(both, expected, strict=True):
        assert np.abs(found - wanted).max(initial=0.0) < NATS_A_TOKEN


@pytest.mark.parametrize("name", SPLITTABLE)
def test_no_process_has_the_logits_of_the_whole_vocabulary(name: str, split: Mapping[str, Any]) -> None:
    _, _, widths = split[name]
    assert widths == [VOCABULARY // RANKS]


@pytest.mark.parametrize(
    "plan", [None, {}, {"embed_tokens": "embedding_rowwise"}], ids=["no plan", "an empty one", "embeddings alone"]
)
def test_a_family_whose_layers_transformers_cannot_split_is_refused(plan: dict[str, str] | None) -> None:
    config: Any = copy.deepcopy(PACKED["llama, tied head"])
    config.base_model_tp_plan = plan
    with pytest.raises(ModelError, match="cannot split the layers of a llama model"):
        refuse_unsplittable(Checkpoint("llama", Path("llama")), config, RANKS)


def test_most_families_can_be_split() -> None:
    assert {"llama, tied head", "qwen3", "mixtral, experts", "gemma2, soft caps and a window"} <= set(SPLITTABLE)


@pytest.mark.parametrize(
    ("processes", "hint"), [(3, "Use --tp 2."), (4, "Use --tp 2.")], ids=["no divisor", "a divisor of one of them"]
)
def test_heads_that_do_not_divide_are_refused_with_working_numbers(processes: int, hint: str) -> None:
    with pytest.raises(ModelError, match="4 and 2 attention and key heads") as told:
        refuse_unsplittable(Checkpoint("llama", Path("llama")), PACKED["llama, tied head"], processes)
    assert told.value.hint == hint


def test_a_missing_accelerate_is_reported_with_its_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ModelError, match="needs the package accelerate"):
        refuse_machine(torch.device("cpu"), RANKS)


def test_an_adapter_is_refused_with_the_advice_to_merge_it() -> None:
    adapter = Checkpoint("adapter", Path("adapter"), base=Checkpoint("base", Path("base")))
    with pytest.raises(ModelError, match=r"cannot split an adapter.*merge_and_unload"):
        refuse_unsplittable(adapter, PACKED["llama, tied head"], RANKS)


# Both ranks, in which every device has kernels in plain torch; rank 0 writes what it found to stdout, rank 1 to stderr.
WITH_KERNELS = """
import sys
from prefscope.scoring import fused, fused_parts
from tests.numerics.substitutes import substitutes
calls = []
fused.find_kernels, fused_parts.MANY_ROWS = lambda _: substitutes(calls), 5
"""
RANK_1_FUSED = (
    WITH_KERNELS
    + """
from prefscope.scoring.rank_process import main
from prefscope.process_exit import run_and_exit
from prefscope.scoring import rank_process
forward = rank_process.forward
def watched(*arguments):
    calls.clear()
    forward(*arguments)
    sys.stderr.write(f"calls: {sorted(set(calls))}\\n")
rank_process.forward = watched
run_and_exit(main)
"""
)
RANK_0_FUSED = (
    WITH_KERNELS
    + """
import pickle, torch
torch.set_num_threads(1)
from prefscope.process_exit import leave
from prefscope.scoring import ranks
from prefscope.scoring.engine import forward
from prefscope.scoring.self_check import check, follow
checkpoint, sequences, pool, models, rank_1 = pickle.loads(sys.stdin.buffer.read())
ranks.COMMAND = (sys.executable, "-c", rank_1)
model = ranks.Ranks(2, torch.device("cpu")).load(ranks.Load(checkpoint, models, "float32"))
verdict = check(model, pool)
sys.stdout.buffer.write(pickle.dumps((verdict, forward(model, verdict.path, sequences))))
leave(0)
"""
)


def test_a_split_model_uses_fused_kernels_in_every_process(checkpoints: Mapping[str, Checkpoint]) -> None:
    name = "llama, untied head"
    asked = (checkpoints[name], related_sequences(), token_pool(), ModelSettings("", tp=RANKS), RANK_1_FUSED)
    told = subprocess.run(
        [sys.executable, "-c", RANK_0_FUSED],
        input=pickle.dumps(asked),
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    assert told.returncode == 0, told.stderr.decode()[-3000:]
    verdict, found = pickle.loads(told.stdout)  # noqa: S301 (our own)
    assert (verdict.path, verdict.kernels, verdict.unfused) == ("packed", "triton 3.9.0", "")
    module = random_model(PACKED[name])
    for ours, sequence in zip(found, related_sequences(), strict=True):
        np.testing.assert_allclose(ours, plain_logps(module, sequence), rtol=0, atol=NATS_A_TOKEN)
    assert b"calls: ['gate', 'norm', 'rotary']" in told.stderr
