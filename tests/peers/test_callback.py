"""The callback in real trainings by TRL: the same weights as without it, and the same numbers as `score`."""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback, set_seed
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer

from prefscope.errors import ModelError, UsageError
from prefscope.integrations import PreferenceCallback
from prefscope.integrations.live_scoring import LivePairs
from prefscope.ledger.run_folder import RunFolder
from prefscope.ledger.table import Ledger, load_ledger
from prefscope.pipeline.run import score
from prefscope.settings import ComputeSettings, DataSettings, ModelSettings, ScoreSettings

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")]

STEPS, EVERY, SAMPLE = 4, 2, 16
NATS_A_TOKEN = 1e-5
LORA = LoraConfig(r=4, lora_alpha=8, lora_dropout=0.1, target_modules="all-linear", task_type="CAUSAL_LM")

Make = Callable[..., DPOTrainer]


@pytest.fixture
def make(samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Return a function that prepares a short training of the tiny policy, the same each time."""
    monkeypatch.chdir(tmp_path)
    rows = [json.loads(line) for line in (samples / "pairs.jsonl").read_text(encoding="utf-8").splitlines()[:16]]

    def prepare(*, peft: LoraConfig | None = None, **options: Any) -> DPOTrainer:
        set_seed(0)
        arguments: dict[str, Any] = {
            "output_dir": "out",
            "max_steps": STEPS,
            "save_steps": EVERY,
            "logging_steps": 3,
        } | options
        config = DPOConfig(
            learning_rate=1e-3,
            per_device_train_batch_size=2,
            max_length=128,
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
            save_only_model=False,
            **arguments,
        )
        return DPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(samples / "tiny-policy", dtype=torch.float32),
            args=config,
            train_dataset=Dataset.from_list([{k: row[k] for k in ("prompt", "chosen", "rejected")} for row in rows]),
            processing_class=AutoTokenizer.from_pretrained(samples / "tiny-policy"),
            peft_config=peft,
        )

    return prepare


@pytest.fixture
def callback(samples: Path) -> PreferenceCallback:
    return PreferenceCallback(samples / "pairs.jsonl", every=EVERY, sample=SAMPLE, folder="runs", by="split")


def digest(trainer: Any) -> str:
    """Return a hash of all weights."""
    found = hashlib.sha256()
    for name, value in sorted(trainer.model.state_dict().items()):
        found.update(name.encode() + value.numpy().tobytes())
    return found.hexdigest()


def worst(a: Ledger, b: Ledger) -> float:
    """Return the largest difference of a token's log-prob, in nats, between ledgers of the same tokens."""
    assert a.stored["pair_id"].tolist() == b.stored["pair_id"].tolist()
    found = 0.0
    for position in range(a.num_pairs):
        one, other = a.pair(position), b.pair(position)
        assert [one[name] for name in ("chosen_tokens", "flags")] == [
            other[name] for name in ("chosen_tokens", "flags")
        ]
        for name in (name for name in one if name.endswith("token_logps")):
            found = max(found, float(np.abs(np.asarray(one[name]) - np.asarray(other[name])).max()))
    return found


@pytest.mark.parametrize("peft", [None, LORA], ids=["full", "lora"])
def test_a_training_ends_with_the_same_weights_and_its_ledgers_equal_those_of_score(
    make: Make, callback: PreferenceCallback, samples: Path, tmp_path: Path, peft: LoraConfig | None
) -> None:
    plain = make(peft=peft)
    plain.train()
    watched = make(peft=peft, output_dir="watched")
    watched.add_callback(callback)
    watched.train()
    assert digest(watched) == digest(plain)
    assert [one.step for one in callback.folder.steps()] == [2, 4]
    for step, path in callback.folder.scored().items():
        checkpoint, base = f"watched/checkpoint-{step}", str(samples / "tiny-policy")
        models = ModelSettings(checkpoint, base) if peft is None else ModelSettings(checkpoint, None, base)
        data = DataSettings(str(samples / "pairs.jsonl"), sample=SAMPLE)
        settings = ScoreSettings(data, models, compute=ComputeSettings(use_cache=False))
        expected = score(settings, lambda _: tmp_path / "expected.parquet", lambda _: None)
        assert worst(load_ledger(path), load_ledger(expected)) < NATS_A_TOKEN


@pytest.mark.parametrize("method", ["orpo", "cpo"])
def test_trainers_without_a_reference_have_the_model_they_began_with(
    method: str, callback: PreferenceCallback, samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    module = importlib.import_module(f"trl.experimental.{method}")
    config, kind = (getattr(module, f"{method.upper()}{name}") for name in ("Config", "Trainer"))
    rows = [json.loads(line) for line in (samples / "pairs.jsonl").read_text(encoding="utf-8").splitlines()[:4]]
    set_seed(0)
    trainer = kind(
        model=AutoModelForCausalLM.from_pretrained(samples / "tiny-policy", dtype=torch.float32),
        args=config(output_dir="out", max_steps=2, report_to=[], use_cpu=True, max_length=64, save_strategy="no"),
        train_dataset=Dataset.from_list([{k: row[k] for k in ("prompt", "chosen", "rejected")} for row in rows]),
        processing_class=AutoTokenizer.from_pretrained(samples / "tiny-policy"),
    )
    trainer.add_callback(callback)
    trainer.train()
    data = DataSettings(str(samples / "pairs.jsonl"), sample=SAMPLE)
    models = ModelSettings(str(samples / "tiny-policy"), "none")
    settings = ScoreSettings(data, models, compute=ComputeSettings(use_cache=False))
    began_with = load_ledger(score(settings, lambda _: tmp_path / "began.parquet", lambda _: None))
    found = load_ledger(RunFolder(Path("runs")).ledger_path(2))
    for side in ("chosen", "rejected"):
        expected = began_with.stored[f"policy_{side}_logps"]
        assert np.allclose(found.stored[f"ref_{side}_logps"], expected, rtol=0, atol=1e-3)
    assert found.manifest["models"]["ref"]["name"] == "the model before its first step"


class Reporter(TrainerCallback):
    """Stands for W&B, TensorBoard or Trackio: keeps what is logged."""

    def __init__(self) -> None:
        self.logs: list[tuple[int, dict[str, float]]] = []

    def on_log(self, args: Any, state: Any, control: Any, **others: Any) -> None:  # noqa: ARG002
        self.logs.append((state.global_step, dict(others["logs"])))


def test_the_figures_are_logged_through_the_trainer_beside_its_own(make: Make, callback: PreferenceCallback) -> None:
    trainer, reporter = make(), Reporter()
    trainer.add_callback(reporter)
    trainer.add_callback(callback)
    trainer.train()
    ours = {step: logs for step, logs in reporter.logs if "prefscope/accuracy" in logs}
    assert [*ours] == [2, 4]
    (found,) = load_ledger(RunFolder(Path("runs")).ledger_path(4)).rewards(0.1)["margins"].mean(keepdims=True)
    assert ours[4]["prefscope/margin"] == pytest.approx(float(found))
    assert {"prefscope/split=train/accuracy", "prefscope/split=held_out/accuracy"} < {*ours[2]}
    assert [step for step, logs in reporter.logs if "rewards/accuracies" in logs] == [3, 4]  # and the end
    assert [entry["step"] for entry in trainer.state.log_history if "prefscope/loss" in entry] == [2, 4]


def test_the_share_of_the_training_is_told(
    make: Make, callback: PreferenceCallback, capfd: pytest.CaptureFixture[str]
) -> None:
    trainer = make()
    trainer.add_callback(callback)
    trainer.train()
    told = capfd.readouterr().err
    assert "prefscope: following 16 pairs; reference: the trainer's ref_model" in told
    assert "prefscope: step 4: " in told
    assert "of the training's" in told


def test_a_resumed_training_goes_on_with_its_reference(make: Make, callback: PreferenceCallback, samples: Path) -> None:
    trainer = make(max_steps=2)
    trainer.add_callback(callback)
    _without_reference(trainer).train()
    again = make()
    again.add_callback(PreferenceCallback(samples / "pairs.jsonl", every=EVERY, sample=SAMPLE, folder="runs"))
    _without_reference(again).train(resume_from_checkpoint="out/checkpoint-2")
    first, second = (load_ledger(path) for path in callback.folder.ledgers())
    for name in ("ref_chosen_logps", "ref_rejected_logps"):
        assert first.stored[name].tolist() == second.stored[name].tolist()
    assert first.manifest["models"]["ref"] == second.manifest["models"]["ref"]


def test_a_resumed_training_does_not_list_the_steps_that_it_takes_again(
    make: Make, callback: PreferenceCallback, samples: Path
) -> None:
    trainer = make()
    trainer.add_callback(callback)
    trainer.train()
    again = make(max_steps=3, output_dir="out")
    again.add_callback(PreferenceCallback(samples / "pairs.jsonl", every=3, sample=SAMPLE, folder="runs"))
    again.train(resume_from_checkpoint="out/checkpoint-2")
    assert [one.step for one in callback.folder.steps()] == [2, 3]


DATED = (
    "{{ strftime_now('%Y') }}{% for message in messages %}<|im_start|>{{ message['content'] }}<|im_end|>{% endfor %}"
)


def test_the_trainers_tokenizer_keeps_its_template(make: Make, callback: PreferenceCallback) -> None:
    trainer: Any = make(max_steps=2)
    trainer.processing_class.chat_template = DATED
    trainer.add_callback(callback)
    trainer.train()
    assert trainer.processing_class.chat_template == DATED


def test_a_ledger_tells_the_dtype_of_each_model(make: Make, callback: PreferenceCallback) -> None:
    trainer: Any = make(max_steps=2)
    trainer.ref_model.to(torch.bfloat16)
    trainer.add_callback(callback)
    tokenizer = trainer.processing_class
    callback.on_train_begin(
        trainer.args, trainer.state, trainer.control, model=trainer.model, processing_class=tokenizer
    )
    callback.on_train_end(trainer.args, trainer.state, trainer.control)
    (path,) = callback.folder.ledgers()
    models = load_ledger(path).manifest["models"]
    assert (models["policy"]["stored_dtype"], models["ref"]["stored_dtype"]) == ("float32", "bfloat16")


def _without_reference(trainer: Any) -> Any:
    """Let a trainer have no reference of its own, as CPO and ORPO have none, while its loss still computes."""
    reference = trainer.ref_model
    original = trainer.compute_loss

    def compute_loss(*args: Any, **options: Any) -> Any:
        trainer.ref_model = reference
        try:
            return original(*args, **options)
        finally:
            trainer.ref_model = None

    trainer.ref_model, trainer.compute_loss = None, compute_loss
    return trainer


def test_a_run_folder_of_other_pairs_is_refused(make: Make, callback: PreferenceCallback, samples: Path) -> None:
    trainer = make(max_steps=2)
    trainer.add_callback(callback)
    trainer.train()
    other = make()
    other.add_callback(PreferenceCallback(samples / "pairs.jsonl", sample=SAMPLE + 1, folder="runs"))
    with pytest.raises(UsageError, match="made with another sample, seed or rows"):
        other.train()


def test_a_run_folder_of_another_training_is_refused(make: Make, callback: PreferenceCallback) -> None:
    trainer = make(max_steps=2)
    trainer.add_callback(callback)
    trainer.train()
    again = make(max_steps=2)
    again.add_callback(callback)
    with pytest.raises(UsageError, match="checkpoints of another training"):
        again.train()


def test_the_reference_of_a_ledger_is_taken_as_it_is(make: Make, callback: PreferenceCallback, samples: Path) -> None:
    trainer = make(max_steps=2)
    trainer.add_callback(callback)
    trainer.train()
    ledger, again = callback.folder.ledger_path(2), make(max_steps=2)
    pairs = samples / "pairs.jsonl"
    again.add_callback(PreferenceCallback(pairs, every=2, sample=SAMPLE, folder="again", ref_ledger=ledger))
    again.train()
    first, second = load_ledger(ledger), load_ledger(RunFolder(Path("again")).ledger_path(2))
    assert worst(first, second) == 0.0
    assert second.manifest["models"]["ref"]["name"] == f"that of {ledger}"
    less = make(max_steps=2)
    less.add_callback(PreferenceCallback(pairs, every=2, sample=SAMPLE + 1, folder="less", ref_ledger=ledger))
    with pytest.raises(UsageError, match="does not have the reference's token log-probs of all pairs"):
        less.train()


def test_a_failure_is_told_and_the_training_goes_on(
    make: Make, callback: PreferenceCallback, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    plain = make()
    plain.train()
    trainer = make()
    trainer.add_callback(callback)
    scored = LivePairs.score

    def fail_once(pairs: LivePairs, model: Any) -> Any:
        if trainer.state.global_step == EVERY:
            raise torch.OutOfMemoryError("no memory\nis left")
        return scored(pairs, model)

    monkeypatch.setattr(LivePairs, "score", fail_once)
    trainer.train()
    assert digest(trainer) == digest(plain)
    assert [(one.step, one.problem) for one in callback.folder.steps()] == [(2, "no memory"), (4, "")]
    assert "prefscope: step 2 is not scored: no memory" in capfd.readouterr().err


def test_pairs_may_be_rows(make: Make, samples: Path) -> None:
    lines = (samples / "pairs.jsonl").read_text(encoding="utf-8").splitlines()[:5]
    trainer = make(max_steps=2)
    trainer.add_callback(PreferenceCallback(map(json.loads, lines), every=2, folder="runs"))
    trainer.train()
    assert load_ledger(RunFolder(Path("runs")).ledger_path(2)).num_pairs == 5
    assert len(Path("runs/pairs.jsonl").read_text(encoding="utf-8").splitlines()) == 5


@pytest.mark.parametrize(("spread", "what"), [("fsdp", "FSDP"), ("zero", "ZeRO-3")])
def test_trainings_without_a_whole_model_are_refused(
    make: Make, callback: PreferenceCallback, monkeypatch: pytest.MonkeyPatch, spread: str, what: str
) -> None:
    trainer = make()
    trainer.add_callback(callback)
    if spread == "fsdp":
        monkeypatch.setattr(trainer, "is_fsdp_enabled", True)
    else:
        plugin = SimpleNamespace(zero_stage=3)
        monkeypatch.setattr(trainer.accelerator, "state", SimpleNamespace(deepspeed_plugin=plugin))
    state, control = trainer.state, trainer.control
    with pytest.raises(ModelError, match="prefscope watch") as raised:
        callback.on_train_begin(trainer.args, state, control, model=trainer.model, processing_class=None)
    assert what in str(raised.value)
