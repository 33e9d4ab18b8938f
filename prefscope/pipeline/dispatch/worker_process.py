"""The main program of a worker process (`--workers`): receives units, returns log-probs.

It communicates over a socket whose file descriptor is its argument. It holds models but no data: if it dies, another
worker gets its unit. It exits when its parent does, which it notices by the end of stdin, and when a batch takes far
longer than expected. Its output goes to a log.
"""

from __future__ import annotations

import faulthandler
import sys
import traceback
from contextlib import closing
from multiprocessing.connection import Connection

import torch

from prefscope.errors import PrefscopeError
from prefscope.pipeline.dispatch.job import Batch, ExamineModel, Job
from prefscope.process_exit import run_and_exit
from prefscope.scoring.store import LogpStore
from prefscope.subprocesses import end_with_starter

EXIT_BUG = 70


def main() -> int:
    """Compute units until there are no more, and return the exit code."""
    end_with_starter()
    connection = Connection(int(sys.argv[1]))
    try:
        asked: Job | ExamineModel = connection.recv()
        job = asked.job if isinstance(asked, ExamineModel) else asked
        torch.set_num_threads(job.threads)
        with LogpStore(None) as store:
            if isinstance(asked, ExamineModel):
                connection.send(job.pool(store, connection.send).examine(asked.candidate))
                return 0
            scorer = job.scorer(store, connection.send)
            scorer.load()
            connection.send(None)  # ready
            while True:
                turns = connection.recv()
                with closing(scorer.scored(turns)) as results:
                    for turn in turns:
                        faulthandler.dump_traceback_later(job.patience(turn.tokens), exit=True)
                        scored = next(results)
                        faulthandler.cancel_dump_traceback_later()
                        connection.send(Batch(scored.found, scored.seconds))
    except PrefscopeError as error:
        connection.send(error)
    except (EOFError, OSError):  # the parent has no more units, or is gone
        return 0
    except Exception:  # noqa: BLE001 (one sequence may have caused it: the parent tries the others)
        traceback.print_exc()
        return EXIT_BUG
    return 0


if __name__ == "__main__":
    run_and_exit(main)
