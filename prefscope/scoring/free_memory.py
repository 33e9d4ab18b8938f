"""Measures a GPU's free memory in a process of its own, because a process that has looked holds some of it."""

from __future__ import annotations

import os
import sys
from multiprocessing.connection import Connection

import torch

from prefscope.errors import ResourceError
from prefscope.folders import worker_log
from prefscope.process_exit import run_and_exit
from prefscope.scoring.memory import available_bytes
from prefscope.subprocesses import end_with_starter, module_command, start_child

COMMAND = module_command("prefscope.scoring.free_memory")


def free_bytes_elsewhere(device: torch.device) -> int:
    """Return a device's free memory in bytes, without using any of it in this process.

    Raises:
        ResourceError: If the other process fails.
    """
    child = start_child(COMMAND, worker_log(f"{os.getpid()}-memory"), arguments=[str(device)])
    free: int | None = None
    try:
        free = int(child.connection.recv())
    except (EOFError, OSError) as error:
        raise ResourceError(
            f"The free memory of {device} could not be measured", where=child.where, hint="See the log for the reason."
        ) from error
    finally:
        child.end(keep_log=free is None)
    return free


def main() -> int:
    """Send the free memory of a device, and return the exit code."""
    end_with_starter()
    Connection(int(sys.argv[1])).send(available_bytes(torch.device(sys.argv[2])))
    return 0


if __name__ == "__main__":
    run_and_exit(main)
