"""Chooses and opens the dispatcher of a run."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch

from prefscope.errors import PrefscopeError, ResourceError
from prefscope.events import Noted
from prefscope.folders import worker_log
from prefscope.pipeline.candidates import Candidate
from prefscope.pipeline.dispatch.job import ExamineModel, Job
from prefscope.pipeline.dispatch.local import BatchScorer, LocalDispatcher
from prefscope.pipeline.dispatch.ray_cluster import RayCluster
from prefscope.pipeline.dispatch.ray_job import RayJob
from prefscope.pipeline.dispatch.unit import Dispatcher, Emit
from prefscope.pipeline.dispatch.workers import COMMAND, Workers
from prefscope.pipeline.model_pool import ModelPool, ScoredModel
from prefscope.pipeline.parts.urls import address
from prefscope.scoring.probe import Budget
from prefscope.scoring.self_check import ForwardChoice
from prefscope.settings import DispatchSettings
from prefscope.subprocesses import start_child

GPUS = "CUDA_VISIBLE_DEVICES"


@contextmanager
def open_dispatcher(
    asked: DispatchSettings, pool: ModelPool, models: Sequence[ScoredModel], emit: Emit
) -> Iterator[Dispatcher]:
    """Open a dispatcher for models that are in memory together, and end its workers afterwards.

    Raises:
        MissingExtraError: If Ray is requested but not installed.
    """
    if not asked.computes_elsewhere:
        yield LocalDispatcher(BatchScorer(pool, {model.role: model for model in models}, emit))
        return
    pool.release()
    dispatcher = (_open_ray if asked.engine == "ray" else _open_workers)(asked, pool, models, emit)
    try:
        yield dispatcher
    finally:
        dispatcher.close()


def _open_ray(asked: DispatchSettings, pool: ModelPool, models: Sequence[ScoredModel], emit: Emit) -> RayCluster:
    folder = None if asked.parts is None else address(asked.parts)
    job = RayJob(_job(asked, pool, models, asked.cpus_per_worker), folder, socket.gethostname())
    cluster = RayCluster(job, asked, pool.device, emit, width=asked.workers or 1)
    cluster.open()
    return cluster


def _open_workers(asked: DispatchSettings, pool: ModelPool, models: Sequence[ScoredModel], emit: Emit) -> Workers:
    workers = asked.workers or 1
    emit(Noted(f"{workers} workers, each with its own copy of the weights" if workers > 1 else "1 worker"))
    job = _job(asked, pool, models, (os.cpu_count() or 1) // workers)
    processes = pool.settings.models.tp
    environments = tuple(_environment(pool.device, number, processes) for number in range(workers))
    return Workers(job, environments, emit)


def _job(asked: DispatchSettings, pool: ModelPool, models: Sequence[ScoredModel], threads: int) -> Job:
    """Return the job of a worker with some CPU threads; the worker computes locally, however the run is dispatched."""
    settings = replace(pool.settings, dispatch=DispatchSettings(patience=asked.patience))
    return Job(
        settings,
        pool.device,
        pool.dtype,
        pool.groups,
        pool.together,
        pool.token_ids,
        pool.sharing,
        tuple(models),
        max((settings.compute.threads or threads) // settings.models.tp, 1),
    )


def _environment(device: torch.device, number: int, processes: int) -> Mapping[str, str]:
    """Return the environment of a worker, limited to its share of the GPUs unless a GPU was chosen by number.

    Args:
        device: The run's device.
        number: Number of the worker.
        processes: Number of GPUs that the worker needs.
    """
    if device != torch.device("cuda"):
        return os.environ
    visible = os.environ.get(GPUS, "").split(",") if os.environ.get(GPUS) else None
    gpus = visible or [str(gpu) for gpu in range(torch.cuda.device_count())]
    first = number % (len(gpus) // processes) * processes
    return os.environ | {GPUS: ",".join(gpus[first : first + processes])}


def examine_in_worker(pool: ModelPool, candidate: Candidate) -> tuple[ForwardChoice, Budget]:
    """Run `ModelPool.examine` in a separate process, the first of those that share the model.

    Raises:
        ResourceError: If the process died.
        PrefscopeError: Any error that the process reports.
    """
    job = _job(pool.settings.dispatch, pool, (), os.cpu_count() or 1)
    environment = _environment(pool.device, 0, pool.settings.models.tp)
    child = start_child(COMMAND, worker_log(f"{os.getpid()}-examination"), environment=environment)
    try:
        child.connection.send(ExamineModel(job, candidate))
        while True:
            received = child.connection.recv()
            if isinstance(received, PrefscopeError):
                raise received
            if isinstance(received, tuple):
                return received
            pool.emit(received)
    except (EOFError, OSError) as error:
        raise ResourceError(
            f"The process that examines the {candidate.role} has died",
            where=child.where,
            hint="See its log for the reason. If memory ran out, a larger --tp needs less of it on each GPU.",
        ) from error
    finally:
        child.end()
