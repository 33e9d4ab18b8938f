"""The numbers of the installed TRL's DPOTrainer.evaluate, on the same pairs and checkpoints, in float32."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer

from prefscope.data.records import PreferencePair, readable
from prefscope.ledger.table import load_ledger
from prefscope.pipeline.run import score
from prefscope.preference.registry import find_loss
from prefscope.settings import (
    ComputeSettings,
    DataSettings,
    LossChoice,
    ModelSettings,
    ScoreSettings,
    TokenizationSettings,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")

BETA = 0.1
SMOOTHING = 0.01
SMOOTHED = frozenset({"exo_pair", "robust", "aot", "aot_unpaired"})
NAMES = [
    *("sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot", "aot_unpaired"),
    *("apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm"),
]
"""TRL's; `ipo` is `ipo_trl` here."""
LOSSES = {name: "ipo_trl" if name == "ipo" else find_loss(name).name for name in NAMES}
BATCH = 24
TIE = 1e-5
FAR_FROM_ROUNDING = 0.01
CONTEXT = 900
Row = dict[str, Any]


def fitting_rows(rows: list[Row], tokenizer: PreTrainedTokenizerBase) -> list[Row]:
    """Return the rows that fit the tiny models' context, to which we cut and TRL does not, shortest first."""
    sizes = [len(ids) for ids in tokenizer([json.dumps(row) for row in rows], verbose=False)["input_ids"]]
    return [rows[i] for i in np.argsort(sizes) if sizes[i] < CONTEXT]


def largest_divisor(number: int, limit: int) -> int:
    """Return a batch size that leaves no smaller last batch: TRL averages batch means."""
    return next(size for size in range(limit, 0, -1) if number % size == 0)


def load(folder: Path) -> PreTrainedModel:
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model


def evaluate(
    rows: list[Row],
    policy: Any,
    ref: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    *,
    max_length: int | None = None,
    loss_types: Sequence[str] = ("sigmoid",),
) -> dict[str, dict[str, float]]:
    """Return TRL's metrics for each loss type; it must keep every row."""
    config = DPOConfig(
        output_dir=str(folder / "trl"),
        beta=BETA,
        max_length=max_length,
        per_device_eval_batch_size=largest_divisor(len(rows), BATCH),
        label_smoothing=SMOOTHING,
        bf16=False,
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
    )
    trainer = DPOTrainer(
        model=policy,
        ref_model=ref,
        args=config,
        train_dataset=Dataset.from_list(rows[:1]),
        eval_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )
    assert isinstance(trainer.eval_dataset, Dataset)
    assert len(trainer.eval_dataset) == len(rows)
    found = {}
    for loss_type in loss_types:
        trainer.loss_types = [loss_type]
        found[loss_type] = trainer.evaluate()
    return found


def our_table(
    rows: list[Row], policy: Path, ref: Path | str, folder: Path, *, max_length: int | None = None
) -> pd.DataFrame:
    """Return our table of the rows."""
    data = folder / "pairs.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    settings = ScoreSettings(
        data=DataSettings(str(data)),
        models=ModelSettings(str(policy), str(ref)),
        tokenization=TokenizationSettings(max_length=max_length),
        compute=ComputeSettings(cache_dir=str(folder / "cache")),
    )
    path = score(settings, lambda _: folder / "ledger.parquet", lambda _: None)
    losses = tuple(
        LossChoice(ours, {"label_smoothing": SMOOTHING} if name in SMOOTHED else {}) for name, ours in LOSSES.items()
    )
    return load_ledger(path).to_pandas(beta=BETA, losses=losses)


def save_random_adapter(base: Path, folder: Path) -> None:
    """Write an adapter of the base whose every weight matters."""
    torch.manual_seed(0)
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "down_proj"], task_type="CAUSAL_LM")
    adapter = get_peft_model(load(base), config)
    for name, weight in adapter.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.05)
    adapter.save_pretrained(str(folder))


def disagreements(ours: pd.DataFrame, trl: Mapping[str, Mapping[str, float]]) -> dict[str, tuple[float, float]]:
    """Return our mean and TRL's for each summary key in which they differ by more than the tolerance."""
    metrics = {key.removeprefix("eval_"): value for key, value in trl["sigmoid"].items()}
    pairs = []
    for side in ("chosen", "rejected"):
        rounding = 1e-5 * ours[f"{side}_num_tokens"].mean()
        pairs += [
            (f"logps/{side}", ours[f"policy_{side}_logps"].mean(), rounding),
            (f"rewards/{side}", ours[f"{side}_rewards"].mean(), BETA * rounding),
        ]
    both = ours["chosen_num_tokens"].mean() + ours["rejected_num_tokens"].mean()
    pairs.append(("rewards/margins", ours["margins"].mean(), BETA * 1e-5 * both))
    found = [(key, mean, metrics[key], 1e-4 * abs(metrics[key]) + rounding) for key, mean, rounding in pairs]
    ties = (ours["margins"].abs() < TIE).mean()
    accuracies = (ours["margins"] > 0).mean()
    found.append(("rewards/accuracies", accuracies, metrics["rewards/accuracies"], ties + 1e-6))
    losses = {name: (ours[f"{LOSSES[name]}_loss"].mean(), theirs["eval_loss"]) for name, theirs in trl.items()}
    found += [(f"loss of {name}", *both, 1e-5 * (1 + abs(both[1]))) for name, both in losses.items()]
    return {key: (mean, theirs) for key, mean, theirs, tolerance in found if not abs(mean - theirs) <= tolerance}


@pytest.fixture(scope="module")
def conversations(bundled_pairs: list[PreferencePair], tiny_tokenizer: PreTrainedTokenizerBase) -> list[Row]:
    rows = [{key: pair.source[key] for key in ("prompt", "chosen", "rejected")} for pair in bundled_pairs]
    return fitting_rows(rows, tiny_tokenizer)


@pytest.fixture(scope="module")
def texts(bundled_pairs: list[PreferencePair], tiny_tokenizer: PreTrainedTokenizerBase) -> list[Row]:
    rows = [
        {"prompt": readable(pair.prompt) + "\n\n", "chosen": readable(pair.chosen), "rejected": readable(pair.rejected)}
        for pair in bundled_pairs
    ]
    return fitting_rows(rows, tiny_tokenizer)


def test_the_summary_of_conversations_is_trls(
    conversations: list[Row], samples: Path, tiny_tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    policy, ref = samples / "tiny-policy", samples / "tiny-ref"
    ours = our_table(conversations, policy, ref, tmp_path)
    assert ours["margins"].abs().median() > FAR_FROM_ROUNDING
    assert disagreements(ours, evaluate(conversations, load(policy), load(ref), tiny_tokenizer, tmp_path)) == {}


def test_every_loss_of_trl_is_its_evaluation_of_one_batch(
    conversations: list[Row], samples: Path, tiny_tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    rows = conversations[:BATCH]  # some losses depend on all pairs of a batch
    policy, ref = samples / "tiny-policy", samples / "tiny-ref"
    ours = our_table(rows, policy, ref, tmp_path)
    trl = evaluate(rows, load(policy), load(ref), tiny_tokenizer, tmp_path, loss_types=NAMES)
    assert disagreements(ours, trl) == {}


def test_the_summary_of_plain_texts_is_trls(
    texts: list[Row], samples: Path, tiny_tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    policy, ref = samples / "tiny-policy", samples / "tiny-ref"
    ours = our_table(texts, policy, ref, tmp_path)
    assert disagreements(ours, evaluate(texts, load(policy), load(ref), tiny_tokenizer, tmp_path)) == {}


def test_the_summary_of_pairs_cut_to_a_length_is_trls_over_the_pairs_that_trl_keeps(
    conversations: list[Row], samples: Path, tiny_tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    policy, ref = samples / "tiny-policy", samples / "tiny-ref"
    ours = our_table(conversations, policy, ref, tmp_path, max_length=128)
    scored = ~ours["flags"].str.contains("nothing_scored")
    assert ours["flags"].str.contains("truncated").any()
    assert not scored.all()
    rows = [row for row, keep in zip(conversations, scored, strict=True) if keep]
    trl = evaluate(rows, load(policy), load(ref), tiny_tokenizer, tmp_path, max_length=128)
    assert disagreements(ours[scored], trl) == {}


def test_the_summary_of_an_adapter_and_its_base_is_trls(
    conversations: list[Row], samples: Path, tiny_tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    rows = conversations[::2]
    ref, adapter = samples / "tiny-ref", tmp_path / "adapter"
    save_random_adapter(ref, adapter)
    ours = our_table(rows, adapter, "base", tmp_path)
    assert ours["margins"].abs().median() > FAR_FROM_ROUNDING
    policy = PeftModel.from_pretrained(load(ref), str(adapter))
    assert disagreements(ours, evaluate(rows, policy, load(ref), tiny_tokenizer, tmp_path)) == {}
