"""The processes that share the work: finding them, waiting for them, and killing them."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from prefscope.pipeline.logp_source import SIDES
from tests.functional.runs import Outcome

# With it a process meets its end at a response of so many tokens.
POISON = """
import os, time
from prefscope.pipeline.dispatch import local
start_batch = local.start_batch
def poisoned(model, path, sequences, *more):
    if any(sequence.num_scored == {length} for sequence in sequences):
        {end}
    return start_batch(model, path, sequences, *more)
local.start_batch = poisoned
"""
either_end = pytest.mark.parametrize(
    "end", ["os.kill(os.getpid(), 9)", "time.sleep(600)"], ids=["it is killed", "it hangs"]
)
XDIST_WORKER = "PYTEST_XDIST_WORKER"
"""The environment variable that names a pytest process; processes that a test starts inherit it."""
finds_processes = pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")
splits_in_two = pytest.mark.skipif(torch.cuda.device_count() == 1, reason="two processes need two GPUs, or none")


def find_unique_length(outcome: Outcome) -> tuple[int, int]:
    """Return a row whose chosen response has a unique number of tokens, and that number."""
    lengths = Counter(length for side in SIDES for length in outcome.table[f"{side}_num_tokens"].to_pylist())
    chosen = enumerate(outcome.table["chosen_num_tokens"].to_pylist())
    return next((row, length) for row, length in chosen if lengths[length] == 1)


def processes_named(*parts: bytes) -> list[int]:
    """Return the processes started by this pytest process with one of these words in their command line."""
    ours = f"{XDIST_WORKER}={os.environ.get(XDIST_WORKER, '')}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            named = any(part in (process / "cmdline").read_bytes() for part in parts)
            variables = (process / "environ").read_bytes().split(b"\0") if named else []
            if named and (ours in variables or XDIST_WORKER not in os.environ):
                found.append(int(process.name))
    return found


def ranks() -> list[int]:
    """Return the processes that hold a part of a model beside their rank 0."""
    return processes_named(b"scoring.rank_process")


def wait_until(condition: Callable[[], object], seconds: float) -> None:
    """Wait until a condition holds, or fail after `seconds`."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it never came"
        time.sleep(0.01)
