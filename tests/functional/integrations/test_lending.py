"""A model in training is lent for scoring and given back exactly as it was."""

from __future__ import annotations

import copy
import json
import logging
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import AutoModelForCausalLM

from prefscope.environment import QUIET, UNLESS_SET
from prefscope.errors import ModelError
from prefscope.integrations.lending import language_model, lent, reference_adapter
from prefscope.scoring.engine import score_batch
from prefscope.scoring.models import LanguageModel
from prefscope.scoring.self_check import check, follow
from prefscope.scoring.sequences import TokenSequence

pytestmark = pytest.mark.slow
SEQUENCES = [TokenSequence(np.arange(5, 30, dtype=np.int32), 10), TokenSequence(np.arange(40, 60, dtype=np.int32), 8)]


@pytest.fixture
def trained(samples: Path) -> Any:
    """Return a model in the middle of a training: some parts frozen, with gradients, and a wrapped forward method."""
    model: Any = AutoModelForCausalLM.from_pretrained(samples / "tiny-policy", dtype=torch.float32)
    model.train()
    model.model.layers[0].eval()
    model.model.layers[0].requires_grad_(False)  # noqa: FBT003
    model(input_ids=torch.arange(10)[None], labels=torch.arange(10)[None]).loss.backward()
    wrapped = model.forward
    model.forward = lambda *args, **options: pytest.fail("the wrapper was called") if options else wrapped(*args)
    return model


def score(model: LanguageModel) -> list[np.ndarray[Any, Any]]:
    """Score some tokens as the callback does."""
    with lent(model):
        verdict = check(model, SEQUENCES[0].token_ids)
        assert verdict.path == "packed"
        follow(model, verdict.path)
        return score_batch(model, "packed", SEQUENCES, lambda _: None)


def state_of(model: nn.Module) -> Iterator[Any]:
    """Yield everything that a training depends on."""
    yield [part.training for part in model.modules()]
    yield [(name, one.requires_grad, one.dtype, one.data_ptr()) for name, one in model.named_parameters()]
    yield [None if one.grad is None else one.grad.tolist() for one in model.parameters()]
    yield [(name, one.data_ptr(), one.tolist()) for name, one in model.named_buffers()]
    yield [getattr(getattr(part, "config", None), "_attn_implementation", None) for part in model.modules()]
    yield sorted(vars(model))
    yield torch.get_rng_state().tolist(), random.getstate(), str(np.random.get_state())  # noqa: NPY002 (the trainer's)


def test_scoring_changes_nothing_that_a_training_depends_on(trained: Any) -> None:
    before = [*state_of(trained)]
    score(language_model(trained))
    assert [*state_of(trained)] == before


def test_a_failure_changes_nothing_either(trained: Any) -> None:
    before, model = [*state_of(trained)], language_model(trained)
    unknown = TokenSequence(np.array([1, 10**6], dtype=np.int32), 1)
    with lent(model):
        follow(model, "packed")
        with pytest.raises(ModelError, match="outside the model's vocabulary"):
            score_batch(model, "packed", [unknown], lambda _: None)
    assert [*state_of(trained)] == before


def test_the_numbers_are_those_of_the_model_in_evaluation(trained: Any) -> None:
    found = score(language_model(trained))
    del trained.forward
    trained.eval()
    for sequence, logps in zip(SEQUENCES, found, strict=True):
        ids = torch.from_numpy(sequence.token_ids.astype(np.int64))
        with torch.no_grad():
            logits = trained(input_ids=ids[None]).logits[0, :-1].double().log_softmax(-1)
        expected = logits.gather(-1, ids[1:, None])[sequence.completion_start - 1 :, 0]
        assert np.abs(logps - expected.numpy()).max() < 1e-5


def test_sixteen_bits_are_not_widened_even_for_a_moment(samples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model: Any = AutoModelForCausalLM.from_pretrained(samples / "tiny-policy", dtype=torch.bfloat16)
    monkeypatch.setattr(
        torch.Tensor, "float", lambda one: pytest.fail("widened") if one.requires_grad else one.to(torch.float32)
    )
    score(language_model(model))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


def test_graphs_of_a_compiled_model_are_neither_used_nor_added(trained: Any) -> None:
    graphs: list[int] = []

    def backend(graph: torch.fx.GraphModule, _: Any) -> Any:
        graphs.append(1)
        return graph.forward

    del trained.forward
    trained.model.norm.compile(backend=backend)
    compiled: Any = torch.compile(trained, backend=backend)
    compiled(input_ids=torch.arange(10)[None])
    count = len(graphs)
    assert count > 0
    score(language_model(compiled))
    compiled(input_ids=torch.arange(10)[None])
    assert len(graphs) == count


def lora(samples: Path) -> PeftModel:
    base: Any = AutoModelForCausalLM.from_pretrained(samples / "tiny-base", dtype=torch.float32)
    model = get_peft_model(base, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.05)
    next(one for name, one in model.named_parameters() if "lora_A" in name).requires_grad_(False)  # noqa: FBT003
    return model


def test_the_reference_of_an_adapter_is_the_model_without_it(samples: Path) -> None:
    peft = lora(samples)
    before, model = [*state_of(peft)], language_model(peft)
    with reference_adapter(model):
        found = score(model)
    assert [*state_of(peft)] == before
    plain = score(language_model(AutoModelForCausalLM.from_pretrained(samples / "tiny-base", dtype=torch.float32)))
    for ours, theirs in zip(found, plain, strict=True):
        assert np.array_equal(ours, theirs)
    assert not np.array_equal(score(model)[0], found[0])


def test_the_reference_is_trls_copy_of_the_first_adapter_where_there_is_one(samples: Path) -> None:
    peft = lora(samples)
    first = score(language_model(peft))
    peft.add_adapter("ref", copy.deepcopy(peft.peft_config["default"]))
    weights = dict(peft.named_parameters())
    for name in [name for name in weights if ".ref." in name]:
        own = weights[name.replace(".ref.", ".default.")]
        weights[name].data.copy_(own.data)
        own.data.add_(0.1)  # the training goes on
    before, model = [*state_of(peft)], language_model(peft)
    with reference_adapter(model):
        found = score(model)
    assert [*state_of(peft)] == before
    assert np.array_equal(found[0], first[0])
    assert not np.array_equal(score(model)[0], first[0])


class DTensor(nn.Parameter):
    """A stand-in for a parameter of FSDP, of which every process has a part."""


def test_weights_that_are_spread_over_processes_are_refused(trained: Any) -> None:
    trained.lm_head.weight = DTensor(trained.lm_head.weight.data)
    with pytest.raises(ModelError, match="prefscope watch"):
        language_model(trained)


WATCHED = """
import json, os, sys
from transformers.utils import logging
def state():
    return [dict(os.environ), logging.get_verbosity(), logging.is_progress_bar_enabled()]
before = state()
{use}
print(json.dumps([before, state()]))
"""
SCORE = """
import prefscope
folder = prefscope.sample_data()
prefscope.score("few.jsonl", folder / "tiny-policy", folder / "tiny-ref", output="out.parquet")
"""
CACHES = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "24", "LRU_CACHE_CAPACITY": "24"}


@pytest.mark.parametrize(("use", "added"), [("import prefscope.integrations", {}), (SCORE, CACHES)])
def test_a_library_leaves_messages_progress_bars_and_environment_of_its_user_as_they_are(
    use: str, added: dict[str, str], samples: Path, tmp_path: Path
) -> None:
    few = (samples / "pairs.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)[:2]
    (tmp_path / "few.jsonl").write_text("".join(few), encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if name not in {*QUIET, *UNLESS_SET, *CACHES}}
    command = [sys.executable, "-c", WATCHED.format(use=use)]
    done = subprocess.run(command, check=True, env=environment, cwd=tmp_path, capture_output=True, text=True)
    (variables, *before), (variables_after, *after) = json.loads(done.stdout)
    assert before == after == [logging.WARNING, True]
    assert variables_after == variables | added
