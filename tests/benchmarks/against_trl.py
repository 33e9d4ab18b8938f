"""Numbers and speed of `prefscope score` against TRL's own `DPOTrainer.evaluate`, on the same pairs and checkpoints.

    python tests/benchmarks/against_trl.py DATA --policy ADAPTER --ref CHECKPOINT [--limit N] [--batch 8 4]

Method: DATA is a preference file whose layout is TRL's (prompt, chosen and rejected as message lists). Both run in this
one process, in float32 on the CPU, without truncation, with the same number of threads: first TRL once for every batch
size, then prefscope with an empty store. loading is not timed on either side; TRL's time is `eval_runtime`, prefscope's
is `scoring_seconds`, the sum over its batches of forward pass and commit. TRL is given the reference explicitly (a
PeftModel without one would copy its own adapter), and a number of pairs that the batch size divides (it averages batch
means). The last figures are in README.md beside this file.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer

from prefscope import score
from prefscope.events import Event, Finished
from prefscope.report.summary import summarise
from prefscope.settings import ComputeSettings, DataSettings, PreferenceSettings

KEYS = ("loss", "rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies")
LOGPS = ("logps/chosen", "logps/rejected")


def run_trl(
    rows: list[dict[str, Any]], policy: str, ref: str, batch: int, *, dtype: str = "float32", device: str = "cpu"
) -> dict[str, float]:
    """Return TRL's evaluation metrics."""
    base = AutoModelForCausalLM.from_pretrained(ref, dtype=getattr(torch, dtype))
    is_adapter = (Path(policy) / "adapter_config.json").is_file()
    model = (
        PeftModel.from_pretrained(base, policy)
        if is_adapter
        else AutoModelForCausalLM.from_pretrained(policy, dtype=getattr(torch, dtype))
    )
    data = Dataset.from_list(rows)
    arguments = DPOConfig(
        output_dir=tempfile.mkdtemp(),
        per_device_eval_batch_size=batch,
        bf16=dtype == "bfloat16",
        use_cpu=device == "cpu" or not torch.cuda.is_available(),
        max_length=None,
        report_to=[],
        beta=0.1,
        disable_tqdm=True,
    )
    trainer = DPOTrainer(
        model=model,
        ref_model=AutoModelForCausalLM.from_pretrained(ref, dtype=getattr(torch, dtype)),
        args=arguments,
        train_dataset=data,
        eval_dataset=data,
        processing_class=AutoTokenizer.from_pretrained(ref),
    )
    return {name.removeprefix("eval_"): float(value) for name, value in trainer.evaluate().items()}


def run_prefscope(data: str, policy: str, ref: str, limit: int) -> tuple[dict[str, float], float]:
    """Return our metrics under TRL's names, and the seconds that scoring took."""
    seconds = 0.0

    def listen(event: Event) -> None:
        nonlocal seconds
        if isinstance(event, Finished):
            seconds = event.scoring_seconds

    folder = tempfile.mkdtemp()
    ledger = score(
        data,
        policy,
        ref,
        data_settings=DataSettings("", limit=limit),
        compute=ComputeSettings(cache_dir=folder),
        output=Path(folder) / "ledger.parquet",
        emit=listen,
    )
    summary = summarise(ledger, PreferenceSettings())
    metrics = {name: spread.mean for name, spread in summary.metrics.items()}
    return metrics | {"rewards/accuracies": summary.accuracy or 0.0}, seconds


def main() -> None:
    """Print the metrics side by side and the times."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data")
    parser.add_argument("--policy", required=True)
    parser.add_argument("--ref", required=True)
    parser.add_argument("--limit", type=int, default=112)
    parser.add_argument("--batch", type=int, nargs="+", default=[8])
    arguments = parser.parse_args()
    with Path(arguments.data).open(encoding="utf-8") as stream:
        rows = [json.loads(line) for line in stream][: arguments.limit]
    rows = [{key: row[key] for key in ("prompt", "chosen", "rejected")} for row in rows]
    theirs: dict[str, float] = {}
    times: dict[str, float] = {}
    for batch in arguments.batch:
        theirs = run_trl(rows, arguments.policy, arguments.ref, batch)
        times[f"TRL, batch {batch}"] = theirs["runtime"]
    ours, times["prefscope"] = run_prefscope(arguments.data, arguments.policy, arguments.ref, arguments.limit)
    for name in (*KEYS, *LOGPS):
        print(f"{name:20} TRL {theirs[name]:16.8f}   prefscope {ours[name]:16.8f}   {ours[name] - theirs[name]:+.2e}")
    for name, seconds in times.items():
        print(f"{name:14} {seconds:8.1f} s   {seconds / times['prefscope']:.2f} x prefscope's time")


if __name__ == "__main__":
    main()
