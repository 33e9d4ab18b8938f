"""The main program of a process that holds a part of each model and follows rank 0 (ranks.py) until that exits."""

from __future__ import annotations

import sys
import traceback
from multiprocessing.connection import Connection

import torch
from torch.distributed import TCPStore  # type: ignore[attr-defined]  # exported, but not by name

from prefscope.process_exit import run_and_exit
from prefscope.scoring.engine import forward
from prefscope.scoring.models import LanguageModel
from prefscope.scoring.ranks import HOST, Call, Load, RankPlace, join, load_part
from prefscope.scoring.self_check import follow
from prefscope.subprocesses import end_with_starter


def main() -> int:
    """Run calls until rank 0 is gone, and return the exit code."""
    end_with_starter()
    connection = Connection(int(sys.argv[1]))
    try:
        place: RankPlace = connection.recv()
        torch.set_num_threads(place.threads)
        join(place, TCPStore(HOST, place.port, place.ranks, is_master=False))
        models: list[LanguageModel] = []
        while True:
            call: Call = connection.recv()
            connection.send(_fails(call, models, place.device_here()))
    except (EOFError, OSError):  # rank 0 is gone
        return 0


def _fails(call: Call, models: list[LanguageModel], device: torch.device) -> bool:
    """Run a call, and return whether it failed; it should then have failed in rank 0, too."""
    try:
        if isinstance(call, Load):
            models.append(load_part(call, device)[0])
        else:
            model = models[call.model]
            follow(model, call.path, is_fused=call.is_fused)
            forward(model, call.path, call.sequences, call.measure, call.poisoned)
        if device.type == "cuda":
            torch.cuda.synchronize()  # a reduction that the other ranks never joined would block here
    except Exception:  # noqa: BLE001 (rank 0 decides how to continue after any error)
        traceback.print_exc()
        return True
    return False


if __name__ == "__main__":
    run_and_exit(main)
