"""How busy workers are kept, and what a shard costs the process that hands it out.

    python tests/benchmarks/dispatch.py [--shards 64 --seconds 1 --workers 2]

Method: `Workers` with real processes whose forward pass sleeps for so many seconds, a batch a shard. Busy is the time
slept, over workers times the time from the first answer to the last and one batch more. The cost of a shard is the CPU
time of this process over the answers, with batches that take no time.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time

import numpy as np

from prefscope.folders import sample_data
from prefscope.pipeline.dispatch import workers
from prefscope.pipeline.dispatch.choice import _open_workers
from prefscope.pipeline.dispatch.unit import Scored, Turn, Unit
from prefscope.pipeline.residents import gather
from prefscope.scoring.checkpoints import resolve
from prefscope.scoring.sequences import TokenSequence
from prefscope.scoring.store import LogpStore
from prefscope.settings import DataSettings, DispatchSettings, ModelSettings, ScoreSettings

SLEEPER = """
import sys, time
import numpy as np
from prefscope.pipeline.dispatch import here, worker_process

def sleep(model, path, sequences, *more):
    time.sleep({seconds})
    return [np.zeros(one.num_scored, dtype=np.float32) for one in sequences]

here.score_batch = sleep
sys.exit(worker_process.main())
"""
TOKENS = 2048


def hand_out(shards: int, seconds: float, number: int) -> tuple[float, float, float]:
    """Return how busy the workers were, the CPU seconds a shard cost, and the peak memory in MB."""
    workers.COMMAND = (sys.executable, "-c", SLEEPER.format(seconds=seconds))
    models = ModelSettings(str(sample_data() / "tiny-policy"), "none")
    asked = DispatchSettings(workers=number)
    settings = ScoreSettings(DataSettings(""), models)
    with LogpStore(None) as store:
        ids = np.arange(100, dtype=np.int32)
        residents = gather(settings, store, [resolve(models, print)[0]], ids, lambda _: None)
        judged = [residents.judge(candidate) for candidate in residents.candidates]
        crew = _open_workers(asked, residents, judged, lambda _: None)
        sequence = TokenSequence(np.zeros(TOKENS, dtype=np.int32), 10)
        units = (Unit(shard, (Turn("policy", shard, (sequence,)),)) for shard in range(shards))
        times: list[float] = []
        started_cpu = 0.0
        for answer in crew.answers(units, 3):
            if isinstance(answer, Scored):
                times.append(time.perf_counter())
                started_cpu = started_cpu or time.process_time()
        cost = (time.process_time() - started_cpu) / max(len(times) - 1, 1)
        crew.close()
    span = times[-1] - times[0] + seconds
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return len(times) * seconds / (span * number), cost, peak


def main() -> None:
    """Print both figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--shards", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args()
    busy, _, _ = hand_out(asked.shards, asked.seconds, asked.workers)
    print(f"{asked.shards} shards of {asked.seconds:g} s, {asked.workers} workers: busy {busy:.1%}")
    for shards in (1_000, 10_000):
        _, cost, peak = hand_out(shards, 0.0, asked.workers)
        print(f"{shards:,} empty shards: {cost * 1e3:.2f} ms of CPU a shard, peak memory {peak:,.0f} MB")


if __name__ == "__main__":
    main()
