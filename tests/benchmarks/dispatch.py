"""How busy workers are kept, and what a shard costs the processes that hand it out.

    python tests/benchmarks/dispatch.py [--shards 64 --seconds 1 --workers 2 --empty 1000 10000] [--ray]

Method: `Workers`, or with --ray `RayCluster`, with real workers whose forward pass sleeps for so many seconds, a batch
a shard. Busy is the time slept between two answers, over workers times the time between them: the last and an early
one, by which all workers have begun. The cost of a shard is the CPU time from the first answer to the last, with
batches that take no time, of this process and with Ray of the one that speaks with it. Peak memory is that of both.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from prefscope.folders import sample_data
from prefscope.pipeline.dispatch.choice import open_dispatcher
from prefscope.pipeline.dispatch.unit import Scored, Turn, Unit
from prefscope.pipeline.model_pool import gather
from prefscope.scoring.checkpoints import resolve
from prefscope.scoring.sequences import TokenSequence
from prefscope.scoring.store import LogpStore
from prefscope.settings import DataSettings, DispatchSettings, ModelSettings, ScoreSettings

# What Python runs at its start: a worker's forward pass sleeps.
SLEEPER = """
import sys
if any("worker_process" in argument or "default_worker" in argument for argument in sys.orig_argv):
    import time
    import numpy as np
    from prefscope.pipeline.dispatch import local

    def sleep(model, path, sequences, *more):
        time.sleep({seconds})
        return [np.zeros(one.num_scored, dtype=np.float32) for one in sequences]

    here.score_batch = sleep
"""
TOKENS = 2048
STARTING = 4
"""Shards a worker, by whose end all workers have begun."""


def processor(process: int) -> float:
    """Return the seconds of CPU time that a process has taken so far."""
    fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def speakers() -> list[int]:
    """Return the processes that speak with Ray."""
    lines = [line for line in Path("/proc").glob("[0-9]*/cmdline") if b"ray_driver" in line.read_bytes()]
    return [int(line.parent.name) for line in lines]


def peak(process: int) -> float:
    """Return the peak of a process's resident memory in MB."""
    status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def hand_out(shards: int, seconds: float, dispatch: DispatchSettings) -> tuple[float, float, float]:
    """Return how busy the workers were, the CPU seconds a shard cost, and the peak memory in MB."""
    models = ModelSettings(str(sample_data() / "tiny-policy"), "none")
    settings = ScoreSettings(DataSettings(""), models, dispatch=dispatch)
    with tempfile.TemporaryDirectory() as folder, LogpStore(None) as store:
        (Path(folder) / "sitecustomize.py").write_text(SLEEPER.format(seconds=seconds), encoding="utf-8")
        os.environ["PYTHONPATH"] = os.pathsep.join([folder, str(Path(__file__).parents[2])])
        pool = gather(settings, store, [resolve(models, print)[0]], np.arange(100, dtype=np.int32), lambda _: None)
        judged = [pool.judge(candidate) for candidate in pool.candidates]
        sequence = TokenSequence(np.zeros(TOKENS, dtype=np.int32), 10)
        units = (Unit(shard, (Turn("policy", shard, (sequence,)),), is_whole=True) for shard in range(shards))
        times: list[float] = []
        ours: list[int] = []
        began = 0.0
        with open_dispatcher(dispatch, pool, judged, lambda _: None) as dispatcher:
            for answer in dispatcher.answers(units, 3):
                if isinstance(answer, Scored):
                    times.append(time.perf_counter())
                    ours = ours or [os.getpid(), *speakers()]
                    began = began or sum(map(processor, ours))
            cost = (sum(map(processor, ours)) - began) / max(len(times) - 1, 1)
            memory = sum(map(peak, ours))
    workers = dispatch.workers or 1
    begun = STARTING * workers - 1
    return (len(times) - 1 - begun) * seconds / ((times[-1] - times[begun]) * workers), cost, memory


def main() -> None:
    """Print both figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--empty", type=int, nargs="*", default=[1_000, 10_000])
    parser.add_argument("--ray", action="store_true")
    asked = parser.parse_args()
    dispatch = DispatchSettings(workers=asked.workers, engine="ray" if asked.ray else "local")
    busy, _, _ = hand_out(asked.shards, asked.seconds, dispatch)
    print(f"{asked.shards} shards of {asked.seconds:g} s, {asked.workers} workers: busy {busy:.1%}", flush=True)
    for shards in asked.empty:
        _, cost, memory = hand_out(shards, 0.0, dispatch)
        print(f"{shards:,} empty shards: {cost * 1e3:.2f} ms of CPU a shard, peak memory {memory:,.0f} MB", flush=True)


if __name__ == "__main__":
    main()
