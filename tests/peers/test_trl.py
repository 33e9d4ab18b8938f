"""Results compared with the installed TRL's DPOTrainer.evaluate, on the same pairs and checkpoints, in float32."""

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

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")]

BETA = 0.1
SMOOTHING = 0.01
SMOOTHED = frozenset({"exo_pair", "robust", "aot", "aot_unpaired"})
NAMES = [
    *("sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot", "aot_unpaired"),
    *("apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm"),
]
"""TRL's; `ipo` is `ipo_trl` here."""
LOSSES = {name: "ipo_trl" if name == "ipo" else find_loss(name).name for name in NAMES}
BATCH = 8
MOST_ROWS = 24
"""Of a batch of TRL."""
LONGEST = 96
"""The length in tokens that sequences are truncated to."""
TIE = 1e-5
FAR_FROM_ROUNDING = 0.01
CONTEXT = 900
Row = dict[str, Any]


def fitting_rows(rows: list[Row], tokenizer: PreTrainedTokenizerBase) -> list[Row]:
    """Return the rows that fit the tiny models' context, shortest first: prefscope truncates to it, TRL does not."""
    sizes = [len(ids) for ids in tokenizer([json.dumps(row) for row in rows], verbose=False)["input_ids"]]
    return [rows[i] for i in np.argsort(sizes) if sizes[i] < CONTEXT]


def largest_divisor(number: int, limit: int) -> int:
    """Return a batch size without a smaller last batch, since TRL averages batch means."""
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
        per_device_eval_batch_size=largest_divisor(len(rows), MOST_ROWS),
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
    """Return prefscope's table of the rows."""
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
    """Write an adapter of the base whose every weight has an effect."""
    torch.manual_seed(0)
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "down_proj"], task_type="CAUSAL_LM")
    adapter = get_peft_model(load(base), config)
    for name, weight in adapter.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.05)
    adapter.save_pretrained(str(folder))


def disagreements(ours: pd.DataFrame, trl: Mapping[str, Mapping[str, float]]) -> dict[str, tuple[float, float]]:
    """Return prefscope's and TRL's values of those of the seven summary keys that differ by more than the tolerance."""
    tokens = {side: ours[f"{side}_num_tokens"].mean() for side in ("chosen", "rejected")}
    means = {
        "rewards/margins": (ours["margins"].mean(), BETA * 1e-5 * (tokens["chosen"] + tokens["rejected"])),
        **{f"logps/{side}": (ours[f"policy_{side}_logps"].mean(), 1e-5 * tokens[side]) for side in tokens},
        **{f"rewards/{side}": (ours[f"{side}_rewards"].mean(), BETA * 1e-5 * tokens[side]) for side in tokens},
    }
    accuracy = (ours["margins"] > 0).mean()
    ties = (ours["margins"].abs() < TIE).mean()
    found = []
    for name, metrics in trl.items():
        theirs = {key.removeprefix("eval_"): value for key, value in metrics.items()}
        found += [
            (name, key, ours, theirs[key], 1e-4 * abs(theirs[key]) + least) for key, (ours, least) in means.items()
        ]
        found.append((name, "rewards/accuracies", accuracy, theirs["rewards/accuracies"], ties + 1e-6))
        loss = ours[f"{LOSSES[name]}_loss"].mean()
        found.append((name, "loss", loss, theirs["loss"], 1e-5 * (1 + abs(theirs["loss"]))))
    return {
        f"{key} of {name}": (mean, theirs) for name, key, mean, theirs, most in found if not abs(mean - theirs) <= most
    }


def as_texts(pair: PreferencePair) -> Row:
    """Return a conversation as plain texts."""
    return {
        "prompt": readable(pair.prompt) + "\n\n",
        "chosen": readable(pair.chosen),
        "rejected": readable(pair.rejected),
    }


def prompt_size(row: Row, tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the number of tokens in a prompt."""
    text = row["prompt"]
    if not isinstance(text, str):
        text = tokenizer.apply_chat_template(text, add_generation_prompt=True, tokenize=False)
    return len(tokenizer(str(text), add_special_tokens=False)["input_ids"])


@pytest.fixture(scope="module")
def all_rows(bundled_pairs: list[PreferencePair], tiny_tokenizer: PreTrainedTokenizerBase) -> dict[str, list[Row]]:
    """Return the bundled pairs as messages and as plain texts, shortest first."""
    messages = [{key: pair.source[key] for key in ("prompt", "chosen", "rejected")} for pair in bundled_pairs]
    forms = {"messages": messages, "texts": [*map(as_texts, bundled_pairs)]}
    return {form: fitting_rows(rows, tiny_tokenizer) for form, rows in forms.items()}


@pytest.fixture(scope="module")
def batches(all_rows: dict[str, list[Row]], tiny_tokenizer: PreTrainedTokenizerBase) -> dict[str, list[Row]]:
    """Return some of the shorter pairs in each form, one batch; truncated to LONGEST, each has tokens left to score."""
    found = {}
    for form, rows in all_rows.items():
        short = [row for row in rows[: len(rows) // 2] if prompt_size(row, tiny_tokenizer) < LONGEST - 1]
        found[form] = short[:: len(short) // BATCH][:BATCH]
    return found


@pytest.fixture(scope="module")
def adapter(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapter")
    save_random_adapter(samples / "tiny-ref", folder)
    return folder


@pytest.mark.parametrize("kind", ["checkpoint", "adapter"])
@pytest.mark.parametrize("max_length", [None, LONGEST], ids=["whole", "cut"])
@pytest.mark.parametrize("form", ["messages", "texts"])
def test_every_loss_and_summary_key_matches_trl(
    form: str,
    max_length: int | None,
    kind: str,
    batches: dict[str, list[Row]],
    adapter: Path,
    samples: Path,
    tiny_tokenizer: PreTrainedTokenizerBase,
    tmp_path: Path,
) -> None:
    rows, ref = batches[form], samples / "tiny-ref"
    policy = adapter if kind == "adapter" else samples / "tiny-policy"
    loaded = PeftModel.from_pretrained(load(ref), str(adapter)) if kind == "adapter" else load(policy)
    ours = our_table(rows, policy, "base" if kind == "adapter" else ref, tmp_path, max_length=max_length)
    assert ours["margins"].abs().median() > FAR_FROM_ROUNDING
    assert ours["flags"].str.contains("truncated").any() == (max_length is not None)
    trl = evaluate(rows, loaded, load(ref), tiny_tokenizer, tmp_path, max_length=max_length, loss_types=NAMES)
    assert disagreements(ours, trl) == {}


def test_the_summary_of_several_batches_matches_trl(
    all_rows: dict[str, list[Row]], samples: Path, tiny_tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    rows, policy, ref = all_rows["messages"][::2], samples / "tiny-policy", samples / "tiny-ref"
    ours = our_table(rows, policy, ref, tmp_path)
    assert disagreements(ours, evaluate(rows, load(policy), load(ref), tiny_tokenizer, tmp_path)) == {}


def test_pairs_without_scored_tokens_are_those_that_trl_drops(
    all_rows: dict[str, list[Row]], samples: Path, tiny_tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    rows, policy, ref = all_rows["messages"][::3], samples / "tiny-policy", samples / "tiny-ref"
    ours = our_table(rows, policy, ref, tmp_path, max_length=LONGEST)
    scored = ~ours["flags"].str.contains("nothing_scored")
    assert 0 < scored.sum() < len(rows)
    kept = [row for row, keep in zip(rows, scored, strict=True) if keep]
    trl = evaluate(kept, load(policy), load(ref), tiny_tokenizer, tmp_path, max_length=LONGEST)
    assert disagreements(ours[scored], trl) == {}
