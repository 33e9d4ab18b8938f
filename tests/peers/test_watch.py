"""A real training by TRL in another process is watched while it goes on."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from prefscope.settings import ComputeSettings, DataSettings, ModelSettings, ScoreSettings
from prefscope.training.settings import WatchSettings
from prefscope.training.watch import watch

pytestmark = pytest.mark.slow

SECONDS = 120
TRAINING = """
import json, sys
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoTokenizer
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer

data, model, out = sys.argv[1:]
rows = [{name: row[name] for name in ("prompt", "chosen", "rejected")} for row in map(json.loads, open(data))]
settings = DPOConfig(
    out, max_steps=6, save_steps=2, save_only_model=False, per_device_train_batch_size=2, learning_rate=1e-3,
    use_cpu=True, bf16=False, report_to=[],
)
adapter = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
tokenizer = AutoTokenizer.from_pretrained(model)
DPOTrainer(
    model, args=settings, train_dataset=Dataset.from_list(rows), processing_class=tokenizer, peft_config=adapter
).train()
"""


def test_the_checkpoints_of_trl_are_scored_while_it_trains(tmp_path: Path, samples: Path) -> None:
    lines = (samples / "pairs.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    data, out = tmp_path / "pairs.jsonl", tmp_path / "out"
    data.write_text("".join(sorted(lines, key=len)[:8]), encoding="utf-8")
    score = ScoreSettings(
        DataSettings(str(data), sample=500),
        ModelSettings(""),
        compute=ComputeSettings(cache_dir=str(tmp_path / "cache"), threads=1),
    )
    deadline = time.monotonic() + SECONDS

    def pause(_: float) -> None:
        assert time.monotonic() < deadline
        time.sleep(0.05)

    training = subprocess.Popen([sys.executable, "-c", TRAINING, str(data), str(samples / "tiny-ref"), str(out)])
    seen = []
    for watched in watch(WatchSettings(score, str(out), str(tmp_path / "runs")), lambda _: None, pause):
        seen.append((watched.step.step, watched.step.epoch, watched.step.problem))
        if watched.step.step == 6:
            break
    assert training.wait(SECONDS) == 0
    assert seen == [(2, 0.5, ""), (4, 1.0, ""), (6, 1.5, "")]
    state = json.loads((out / "checkpoint-6" / "trainer_state.json").read_text())
    assert (state["global_step"], state["epoch"]) == seen[-1][:2]
