"""The driver process of Ray: receives units and returns the actors' answers. The only module that imports Ray.

Ray places the actors, assigns GPUs, restarts actors and retries units; it does not know what a unit is or when it is
done. It runs in its own process and session, because it writes to stdout and leaves processes behind when it is
killed; killing the session ends them all.
"""

from __future__ import annotations

import faulthandler
import os
import pickle
import shutil
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from prefscope.errors import ModelError, PrefscopeError, ResourceError
from prefscope.subprocesses import end_with_starter
from prefscope.version import __version__

EXIT_BUG = 70
LOCAL_STORE_BYTES = 256 << 20
MOST_DEATHS_WHILE_LOADING = 16


@dataclass(frozen=True, slots=True)
class Request:
    """A request to compute units."""

    job: bytes
    """A pickled `RayJob`; unpickled only after the version has been checked."""
    units: tuple[bytes, ...]
    """Pickled payloads of the units: turns, or the number of a shard."""
    cluster: Cluster
    tries: int
    in_flight: int
    """Units that an actor holds at the same time; if one crashes the actor, the others have to be retried, too."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """The cluster to use, and its resources per worker."""

    address: str | None
    """Address of a running cluster; None to start a local one."""
    workers: int | None
    """Number of actors; None for as many as fit into the cluster."""
    gpus: float
    cpus: int
    folder: str
    """Folder for Ray's own files, if it is started here."""


def main() -> int:
    """Answer requests until there are no more, and return the exit code."""
    connection, started_in = Connection(int(sys.argv[1])), str(Path.cwd())
    os.chdir(sys.argv[2])  # Ray's workers import Python files of the driver's folder, where a download may be
    end_with_starter(lambda: _clean_up(sys.argv[2]))
    os.environ |= {
        "RAY_BACKEND_LOG_LEVEL": "fatal",
        "RAY_USAGE_STATS_ENABLED": "0",  # disables telemetry
        "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    }
    import ray

    try:
        while True:
            request: Request = connection.recv()
            workers = _connect(request.cluster)
            connection.send(workers)
            for answer in _answers(request, workers, started_in):
                connection.send(answer)
            connection.send(None)
    except EOFError:
        return 0
    except PrefscopeError as error:
        connection.send(error)
    except Exception as error:  # noqa: BLE001 (Ray raises errors of any kind)
        traceback.print_exc()
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        hint = "Run the same command again to continue from here."
        connection.send(ResourceError(f"Ray failed ({first})", hint=hint))
    finally:
        ray.shutdown()
    return 0


def _connect(cluster: Cluster) -> int:
    """Start Ray or join a cluster, unless that is done, and return the number of workers.

    Raises:
        ResourceError: If there is no cluster at the address, or it is too small.
    """
    import ray

    if not ray.is_initialized():
        quiet = {"logging_level": "error", "log_to_driver": False, "configure_logging": True}
        if cluster.address is None:
            cpus = max(os.cpu_count() or 1, (cluster.workers or 1) * cluster.cpus)
            local = {"num_cpus": cpus, "include_dashboard": False, "_temp_dir": cluster.folder}
            ray.init(address="local", object_store_memory=LOCAL_STORE_BYTES, **local, **quiet)
        else:
            try:
                ray.init(address=cluster.address, **quiet)
            except (ConnectionError, RuntimeError, ValueError) as error:
                raise ResourceError(
                    "No Ray cluster found", where=cluster.address, hint="Start one with `ray start --head`."
                ) from error
    has = ray.cluster_resources()
    gpus, cpus = has.get("GPU", 0.0), has.get("CPU", 0.0)
    room = int(min(cpus // cluster.cpus, gpus // cluster.gpus if cluster.gpus else cpus))
    wanted = cluster.workers or max(room, 1)
    if room < wanted:
        raise ResourceError(
            f"The Ray cluster has {cpus:g} CPUs and {gpus:g} GPUs, but {wanted} workers need "
            f"{wanted * cluster.cpus} and {wanted * cluster.gpus:g}",
            where=cluster.address or "",
            hint="Lower --workers, --cpus-per-worker or --gpus-per-worker.",
        )
    return wanted


def _answers(request: Request, workers: int, started_in: str) -> Iterator[tuple[int, bytes]]:
    """Yield the answers to units, each with the number of its unit; units that crashed their actors are left out.

    Paths are relative to the folder that this process was started in, if Ray was started here, too.
    """
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.max_errored_blocks = -1  # the caller notices which units have no answer
    if hasattr(context, "max_consecutive_actor_init_deaths"):
        context.max_consecutive_actor_init_deaths = MOST_DEATHS_WHILE_LOADING
    items = [{"number": number, "unit": unit} for number, unit in enumerate(request.units)]
    pool = ray.data.ActorPoolStrategy(
        min_size=workers, max_size=workers, max_tasks_in_flight_per_actor=request.in_flight
    )
    found = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
        _ScoreUnits,
        fn_constructor_kwargs={
            "version": __version__,
            "job": request.job,
            **({"folder": started_in} if request.cluster.address is None else {}),
        },
        batch_size=None,
        num_cpus=request.cluster.cpus,
        num_gpus=request.cluster.gpus,
        compute=pool,
        max_restarts=-1,
        max_task_retries=request.tries - 1,
    )
    for block in found.iter_batches(batch_size=None, prefetch_batches=0):
        yield from zip(block["number"].tolist(), block["answer"].tolist(), strict=True)


class _ScoreUnits:
    """An actor, which loads the models once and then scores units."""

    def __init__(self, version: str, job: bytes, folder: str | None = None) -> None:
        self.scorer: Any = None
        self.error: PrefscopeError | None = None
        try:
            if folder is not None:
                os.chdir(folder)
            if version != __version__:
                raise ModelError(
                    f"A node of the cluster has prefscope {__version__}, but this machine has {version}",
                    hint="Install the same version on all nodes.",
                )
            self.scorer = pickle.loads(job).scorer()  # noqa: S301 (the driver's)
        except PrefscopeError as error:
            self.error = error

    def __call__(self, batch: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
        """Return the answers to units: results, or a `PrefscopeError`."""
        answers = []
        for unit in batch["unit"]:
            try:
                answers.append(self.error or self.scorer.score(pickle.loads(unit)))  # noqa: S301 (the driver's)
            except PrefscopeError as error:
                answers.append(error)
            finally:
                faulthandler.cancel_dump_traceback_later()
        return {"number": list(batch["number"]), "answer": [pickle.dumps(answer) for answer in answers]}


def _clean_up(folder: str) -> None:
    """End all other processes of the session, and delete Ray's files."""
    end_session(os.getsid(0), spare=os.getpid())
    shutil.rmtree(folder, ignore_errors=True)


def end_session(session: int, spare: int = -1) -> None:
    """Kill all processes of a session, except one to spare; some of Ray's processes do not exit by themselves."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError):
            process = int(stat.parent.name)
            of = int(stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[3])
            if of == session and process != spare:
                os.kill(process, 9)


if __name__ == "__main__":  # imported under its real name, so that actors find the class
    from prefscope.pipeline.dispatch.ray_driver import main as start
    from prefscope.process_exit import run_and_exit

    run_and_exit(start)
