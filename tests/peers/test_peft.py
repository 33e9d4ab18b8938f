"""Adapters of every kind that PEFT loads give the numbers of PEFT, and their base those of the published base."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import AutoTokenizer

from prefscope.errors import ModelError, UsageError
from prefscope.folders import sample_data
from prefscope.pipeline import candidates
from prefscope.scoring import models as loading
from prefscope.scoring import probe
from prefscope.scoring.adapters import checksum
from tests.functional.runs import Outcome, committed, run, settings_of
from tests.peers.adapters import (
    ADAPTERS,
    ADDITIVE,
    NEW_TOKENS,
    load_base,
    load_by_peft,
    save_adapter,
    save_with_added_tokens,
    untied_base,
)

NATS = 5e-5
EFFECT = 0.05
ADDED = "added tokens"
ROWS = [
    ("Name a fruit.\n", "An apple, of course.", "Stone."),
    ("What is 2+2?\n", "It is 4.", "I cannot say, because numbers are hard."),
    ("Say hi to Bob.\n", "Hi Bob!", "Bye."),
]
Sums = NDArray[np.float64]
pytestmark = [
    pytest.mark.exhaustive,
    pytest.mark.filterwarnings("ignore::UserWarning"),  # PEFT's, about what it saves and how it could be merged
]


@pytest.fixture(autouse=True)
def _few_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(probe, "ENOUGH_SECONDS", 0)
    keys = ("prompt", "chosen", "rejected")
    lines = [json.dumps(dict(zip(keys, row, strict=True))) + "\n" for row in ROWS]
    (tmp_path / "data.jsonl").write_text("".join(lines), encoding="utf-8")


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    return {
        "tied": sample_data() / "tiny-ref",
        "untied": untied_base(tmp_path_factory.mktemp("bases") / "untied"),
    }


@pytest.fixture(scope="module")
def published(bases: Mapping[str, Path]) -> Mapping[str, Sums]:
    """Return the log-probs of each base alone."""
    return {name: sums_of(load_base(base), base) for name, base in bases.items()}


def sums_of(model: Any, tokenizer_folder: Path) -> Sums:
    """Return the log-probs of all responses from a model's own logits, one sequence at a time."""
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    found = []
    for prompt, *responses in ROWS:
        start = len(tokenizer(prompt)["input_ids"])
        for response in responses:
            ids = torch.tensor(tokenizer(prompt + response + tokenizer.eos_token)["input_ids"])
            with torch.no_grad():
                logps = model(input_ids=ids[None]).logits[0].double().log_softmax(-1)
            found.append(float(logps[start - 1 : -1].gather(-1, ids[start:, None]).sum()))
    return np.array(found)


def sums_in(outcome: Outcome, role: str) -> Sums:
    """Return the log-probs of all responses from a ledger."""
    sides = [outcome.table[f"{role}_{side}_logps"].to_numpy() for side in ("chosen", "rejected")]
    return np.stack(sides, axis=1).ravel()


def saved(name: str, base: Path) -> Path:
    return save_with_added_tokens(base, Path.cwd()) if name == ADDED else save_adapter(name, base, Path.cwd())


def scored(policy: Path, ref: Path | str | None, cache: str = "cache") -> Outcome:
    return run(settings_of(policy, ref, data=Path("data.jsonl"), cache=cache))


EVERY = [*ADAPTERS, ADDED]


@pytest.mark.parametrize("name", [name for name in EVERY if name != "lora with repeated layers"])
def test_an_adapter_is_scored_as_in_peft_and_its_base_as_published(
    name: str, bases: Mapping[str, Path], published: Mapping[str, Sums]
) -> None:
    base = bases["untied"]
    adapter = saved(name, base)
    expected = sums_of(load_by_peft(adapter, base), base)
    outcome = scored(adapter, base)
    assert sums_in(outcome, "policy") == pytest.approx(expected, abs=NATS)
    assert np.abs(expected - published["untied"]).max() > EFFECT
    assert sums_in(outcome, "ref") == pytest.approx(published["untied"], abs=NATS)
    kept = committed()
    assert sums_in(scored(base, "none"), "policy") == pytest.approx(published["untied"], abs=NATS)
    assert committed() == kept


@pytest.mark.parametrize("name", EVERY)
def test_an_adapter_as_reference_is_scored_as_in_peft_after_its_base(
    name: str, bases: Mapping[str, Path], published: Mapping[str, Sums]
) -> None:
    base = bases["tied"]
    adapter = saved(name, base)
    expected = sums_of(load_by_peft(adapter, base), base)
    scored(base, "none")
    outcome = scored(base, adapter)
    assert sums_in(outcome, "policy") == pytest.approx(published["tied"], abs=NATS)
    assert sums_in(outcome, "ref") == pytest.approx(expected, abs=NATS)


@pytest.mark.parametrize("name", ["lora", "pissa", "lora that trains all biases", ADDED])
def test_a_disabled_adapter_is_a_separate_reference_never_confused_with_the_base(
    name: str, bases: Mapping[str, Path], published: Mapping[str, Sums]
) -> None:
    base = bases["untied"]
    adapter = saved(name, base)
    peft = load_by_peft(adapter, base)
    with peft.disable_adapter():
        expected = sums_of(peft, base)
    outcome = scored(adapter, "adapter-off")
    assert sums_in(outcome, "ref") == pytest.approx(expected, abs=NATS)
    assert outcome.manifest["models"]["ref"]["name"] == f"{adapter} (adapter off)"
    assert (np.abs(expected - published["untied"]).max() < NATS) == (name in ADDITIVE)
    assert sums_in(scored(base, "none"), "policy") == pytest.approx(published["untied"], abs=NATS)


@pytest.mark.parametrize(
    ("name", "other"),
    [("lora", "dora"), ("pissa", "lora"), ("lora", "olora"), ("pissa", "lora that trains all biases")],
)
def test_two_adapters_of_one_base_do_not_change_each_other(name: str, other: str, bases: Mapping[str, Path]) -> None:
    base = bases["untied"]
    policy, ref = save_adapter(name, base, Path.cwd(), seed=1), save_adapter(other, base, Path.cwd(), seed=2)
    outcome = scored(policy, ref)
    for role, adapter in (("policy", policy), ("ref", ref)):
        assert sums_in(outcome, role) == pytest.approx(sums_of(load_by_peft(adapter, base), base), abs=NATS)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("pissa", "its initialization (pissa) replaces weights of the base"),
        ("lora that trains all biases", "it trains the base's biases"),
        ("lora with repeated layers", "it repeats layers of the base"),
        (ADDED, "it has embeddings or a head of its own"),
    ],
)
def test_a_reference_that_differs_from_a_trainers_causes_a_warning(
    name: str, reason: str, bases: Mapping[str, Path]
) -> None:
    adapter = saved(name, bases["tied"])
    (warning,) = [note for note in scored(adapter, None).notes if note.startswith("Warning")]
    assert warning.startswith(f"Warning: {adapter} is not its base plus an adapter: {reason}. ")
    assert "--ref adapter-off" in warning
    assert not [note for note in scored(adapter, "adapter-off").notes if note.startswith("Warning")]


@pytest.mark.parametrize("name", ["lora", "dora", "lora with a whole head", "ia3"])
def test_an_adapter_that_restores_its_base_when_disabled_causes_no_warning(
    name: str, bases: Mapping[str, Path]
) -> None:
    outcome = scored(saved(name, bases["tied"]), None)
    assert not [note for note in outcome.notes if note.startswith("Warning")]


@pytest.mark.parametrize("name", ["pissa", "lora that trains all biases", "lora with repeated layers"])
def test_a_base_changed_by_loading_an_adapter_is_not_stored_under_its_key(
    name: str, bases: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    base = bases["untied" if "biases" in name else "tied"]
    adapter = saved(name, base)
    monkeypatch.setattr(candidates, "is_additive", lambda _: True)
    with pytest.raises(ModelError, match=r"loading this adapter changed .* scored together"):
        scored(adapter, base)
    assert committed() == 0


def test_a_checkpoint_modified_while_loading_is_not_scored(
    bases: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = saved("lora", bases["tied"])
    other = save_adapter("lora", bases["tied"], Path.cwd() / "other", seed=1)
    load = loading.load_model

    def load_while_written(*args: Any, **options: Any) -> Any:
        model = load(*args, **options)
        (other / "adapter_model.safetensors").replace(adapter / "adapter_model.safetensors")
        return model

    monkeypatch.setattr(loading, "load_model", load_while_written)
    with pytest.raises(ModelError, match="this checkpoint changed while it was being loaded"):
        scored(adapter, None)
    assert committed() == 0


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (
            {"init_lora_weights": "pissa_niter_4"},
            r"the initialization of this adapter \(pissa_niter_4\) changed its base",
        ),
        ({"init_lora_weights": "lora_ga"}, r"the initialization of this adapter \(lora_ga\) changed"),
        ({"alora_invocation_tokens": [5, 6]}, "this is an activated LoRA"),
        ({"task_type": "SEQ_CLS"}, r"an adapter for a sequence classifier or reward model \(task_type SEQ_CLS\)"),
        ({"task_type": "TOKEN_CLS"}, "this is an adapter for a token classifier"),
    ],
)
def test_an_adapter_without_well_defined_log_probs_is_refused(
    record: dict[str, Any], message: str, bases: Mapping[str, Path]
) -> None:
    adapter = saved("lora", bases["tied"])
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | record))
    with pytest.raises(ModelError, match=message):
        scored(adapter, None)


def test_an_adapter_with_a_weight_unknown_to_its_base_is_refused(bases: Mapping[str, Path]) -> None:
    from safetensors.torch import load_file, save_file

    adapter = saved("lora", bases["tied"])
    file = adapter / "adapter_model.safetensors"
    save_file(load_file(file) | {"base_model.model.vision.q_proj.lora_A.weight": torch.ones(4, 4)}, file)
    with pytest.raises(ModelError, match="1 weights of the adapter have no place in its base"):
        scored(adapter, None)


def test_tokens_added_by_an_adapter_are_not_scored_by_its_base(
    bases: Mapping[str, Path],
) -> None:
    adapter = saved(ADDED, bases["tied"])
    row = {"prompt": "Say it.\n", "chosen": f"<new{NEW_TOKENS - 1}>", "rejected": "No."}
    Path("data.jsonl").write_text(json.dumps(row), encoding="utf-8")
    with pytest.raises(ModelError, match=r"<new4>.*--ref adapter-off"):
        scored(adapter, None)
    assert len(scored(adapter, "adapter-off").table) == 1


def test_an_adapter_without_a_vocabulary_reports_whose_tokenizer_it_uses(
    bases: Mapping[str, Path],
) -> None:
    adapter = saved("lora", bases["tied"])
    (adapter / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    note = f"{adapter} has a tokenizer config but no vocabulary; its base's tokenizer is used unchanged."
    assert note in scored(adapter, None).notes


def test_a_full_checkpoint_has_no_adapter_to_disable(bases: Mapping[str, Path]) -> None:
    with pytest.raises(UsageError, match="--ref adapter-off needs a policy that is an adapter"):
        scored(bases["tied"], "adapter-off")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8])
def test_a_checksum_changes_with_any_bit_and_with_the_order(dtype: torch.dtype) -> None:
    tensor = torch.arange(1, 22).to(dtype)
    sums = {checksum(tensor), checksum(tensor.flip(0)), checksum(tensor[:-1])}
    for place in range(len(tensor)):
        changed = tensor.clone()
        changed[place] += 1
        sums.add(checksum(changed))
    assert len(sums) == 3 + len(tensor)
    assert checksum(tensor.clone()) == checksum(tensor)
