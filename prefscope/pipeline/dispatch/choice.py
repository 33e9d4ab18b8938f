"""Which dispatcher a run gets."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from prefscope.events import Noted
from prefscope.pipeline.dispatch.here import BatchScorer, Here
from prefscope.pipeline.dispatch.job import Job
from prefscope.pipeline.dispatch.ray_cluster import RayCluster
from prefscope.pipeline.dispatch.ray_job import RayJob
from prefscope.pipeline.dispatch.unit import Dispatcher, Emit
from prefscope.pipeline.dispatch.workers import Workers
from prefscope.pipeline.residents import Residents, ScoredModel
from prefscope.settings import DispatchSettings

GPUS = "CUDA_VISIBLE_DEVICES"


@contextmanager
def open_dispatcher(
    asked: DispatchSettings, residents: Residents, models: Sequence[ScoredModel], emit: Emit
) -> Iterator[Dispatcher]:
    """Give a dispatcher for models that are resident together; its workers are gone afterwards.

    Raises:
        MissingExtraError: Ray is asked for and not installed.
    """
    if asked.engine == "local" and asked.workers is None:
        yield Here(BatchScorer(residents, {model.role: model for model in models}, emit))
        return
    residents.release()
    dispatcher = (_open_ray if asked.engine == "ray" else _open_workers)(asked, residents, models, emit)
    try:
        yield dispatcher
    finally:
        dispatcher.close()


def _open_ray(asked: DispatchSettings, residents: Residents, models: Sequence[ScoredModel], emit: Emit) -> RayCluster:
    folder = None if asked.parts is None else str(Path(asked.parts).resolve())
    job = RayJob(_job(asked, residents, models, asked.cpus_per_worker), folder, socket.gethostname())
    cluster = RayCluster(job, asked, residents.device, emit, width=asked.workers or 1)
    cluster.open()
    return cluster


def _open_workers(asked: DispatchSettings, residents: Residents, models: Sequence[ScoredModel], emit: Emit) -> Workers:
    workers = asked.workers or 1
    emit(Noted(f"{workers} workers, each with its own copy of the weights" if workers > 1 else "1 worker"))
    job = _job(asked, residents, models, max((os.cpu_count() or 1) // workers, 1))
    return Workers(job, tuple(_environment(residents.device, number) for number in range(workers)), emit)


def _job(asked: DispatchSettings, residents: Residents, models: Sequence[ScoredModel], threads: int) -> Job:
    """Return what a worker has to know; it computes by itself, whatever was asked of the run."""
    return Job(
        replace(residents.settings, dispatch=DispatchSettings(patience=asked.patience)),
        residents.device,
        residents.dtype,
        residents.groups,
        residents.together,
        residents.token_ids,
        tuple(models),
        residents.settings.compute.threads or threads,
    )


def _environment(device: torch.device, number: int) -> Mapping[str, str]:
    """Return the environment of a worker, which sees one of several GPUs unless one was asked for by its number."""
    if device != torch.device("cuda"):
        return os.environ
    visible = os.environ.get(GPUS, "").split(",") if os.environ.get(GPUS) else None
    gpus = visible or [str(gpu) for gpu in range(torch.cuda.device_count())]
    return os.environ | {GPUS: gpus[number % len(gpus)]}
