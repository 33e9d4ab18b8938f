"""Watch trainings that write slowly, with killed watchers: python -m tests.campaigns.watched [TRAININGS [SEED]].

A training writes every file of its checkpoints in pieces and keeps only the last few; two watchers of one run folder
are killed or interrupted and started again all the time. Every ledger must be of the checkpoint as it was written, and
what has no ledger must have been deleted.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from random import Random

import numpy as np
from safetensors.numpy import load_file, save_file

from prefscope.folders import sample_data
from prefscope.ledger.run_folder import RunFolder, Step
from prefscope.ledger.table import load_ledger
from prefscope.scoring.checkpoints import Checkpoint, fingerprint
from prefscope.scoring.store import LogpStore

DEFAULTS = ("4", "19")
STEPS, KEPT = 20, 3
MODEL, REF, PAIRS = (sample_data() / name for name in ("tiny-policy", "tiny-ref", "pairs.jsonl"))
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
LONGEST_PAUSE, LONGEST_LIFE = 0.3, 6.0


class Training:
    """A trainer that writes checkpoints as transformers' does, but slowly, and deletes old ones."""

    def __init__(self, folder: Path, random: Random) -> None:
        self.folder, self.output = folder, folder / "out"
        self.fingerprints: dict[int, str] = {}
        self._random = random
        self._weights = load_file(MODEL / "model.safetensors")

    def run(self) -> None:
        """Write all checkpoints."""
        for step in range(1, STEPS + 1):
            self._save(step)
            for old in range(1, step - KEPT + 1):
                shutil.rmtree(self.output / f"checkpoint-{old}", ignore_errors=True)

    def _save(self, step: int) -> None:
        whole = self.folder / "whole"
        whole.mkdir(exist_ok=True)
        (whole / "config.json").write_bytes((MODEL / "config.json").read_bytes())
        weights = {name: value * np.float32(1 + step * 1e-3) for name, value in self._weights.items()}
        save_file(weights, whole / "model.safetensors", metadata={"format": "pt"})
        with LogpStore(None) as store:
            one = Checkpoint("", whole)
            self.fingerprints[step] = fingerprint(one, store, allow_pickle=False, progress=lambda *_: None)
        folder = self.output / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        for file in (whole / "config.json", whole / "model.safetensors", *(MODEL / name for name in TOKENIZER)):
            self._write(folder / file.name, file.read_bytes())
        self._write(folder / "training_args.bin", b"arguments")
        self._write(folder / "optimizer.pt", bytes(1000))
        state = {"global_step": step, "epoch": step / STEPS}
        self._write(folder / "trainer_state.json", json.dumps(state).encode())

    def _write(self, file: Path, data: bytes) -> None:
        cuts = sorted(self._random.randrange(len(data)) for _ in range(self._random.randrange(3)))
        with file.open("wb", buffering=0) as stream:
            for start, stop in zip([0, *cuts], [*cuts, len(data)], strict=True):
                stream.write(data[start:stop])
                time.sleep(self._random.random() * LONGEST_PAUSE)


def start(folder: Path, *more: str) -> subprocess.Popen[bytes]:
    """Start a watcher whose messages are appended to a file."""
    options = ["--checkpoints", "out", "--ref", str(REF), "--sample", "20", "-o", "runs", "--cache", "cache"]
    command = [sys.executable, "-m", "prefscope", "watch", str(PAIRS), *options, "--threads", "1", *more]
    with (folder / "messages").open("ab") as messages:
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
        return subprocess.Popen(command, cwd=folder, stdout=messages, stderr=messages, env=environment)


def disturb(training: threading.Thread, folder: Path, random: Random) -> None:
    """Let two watchers work during a training and end one of them at random moments."""
    watchers = [start(folder), start(folder)]
    while training.is_alive():
        time.sleep(random.random() * LONGEST_LIFE)
        number = random.randrange(len(watchers))
        watchers[number].send_signal(random.choice([signal.SIGKILL, signal.SIGINT]))
        watchers[number].wait()
        watchers[number] = start(folder)
    for watcher in watchers:
        watcher.kill()
        watcher.wait()
    if start(folder, "--once").wait() != 0:
        raise SystemExit((folder / "messages").read_text(encoding="utf-8"))


def outcome(step: Step | None, training: Training, runs: RunFolder) -> str:
    """Return what became of a step of a training."""
    if step is None or step.ledger is None:
        if step is not None and "deleted while it was read" not in step.problem:
            return step.problem
        return "deleted before it was scored"
    manifest = load_ledger(runs.path / step.ledger).manifest
    same = manifest["models"]["policy"]["fingerprint"] == training.fingerprints[step.step]
    return "scored as it was written" if same else "scored otherwise"


def main() -> None:
    """Run the trainings and print the outcomes of their steps."""
    trainings, seed = map(int, [*sys.argv[1:], *DEFAULTS[len(sys.argv) - 1 :]])
    counts: Counter[str] = Counter()
    for number in range(trainings):
        with tempfile.TemporaryDirectory() as name:
            folder, random = Path(name), Random(seed + number)  # noqa: S311 (not for secrets)
            training = Training(folder, random)
            thread = threading.Thread(target=training.run)
            thread.start()
            disturb(thread, folder, Random(seed - number))  # noqa: S311
            runs = RunFolder(folder / "runs")
            steps = {one.step: one for one in runs.steps()}
            counts.update(outcome(steps.get(step), training, runs) for step in range(1, STEPS + 1))
            counts.update("left behind: " + file.name for file in runs.path.glob(".*"))
    for what, count in counts.most_common():
        print(f"{count:>5}  {what}")


if __name__ == "__main__":
    main()
