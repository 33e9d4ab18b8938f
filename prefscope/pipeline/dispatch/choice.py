"""Which dispatcher a run gets."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch

from prefscope.events import Noted
from prefscope.pipeline.dispatch.here import BatchScorer, Here
from prefscope.pipeline.dispatch.job import Job
from prefscope.pipeline.dispatch.unit import Dispatcher, Emit
from prefscope.pipeline.dispatch.workers import Workers
from prefscope.pipeline.residents import Residents, ScoredModel

GPUS = "CUDA_VISIBLE_DEVICES"


@contextmanager
def open_dispatcher(residents: Residents, models: Sequence[ScoredModel], emit: Emit) -> Iterator[Dispatcher]:
    """Give a dispatcher for models that are resident together; its workers are gone afterwards."""
    workers = residents.settings.dispatch.workers
    if workers is None:
        yield Here(BatchScorer(residents, {model.role: model for model in models}, emit))
        return
    residents.release()
    emit(Noted(f"{workers} workers, each with its own copy of the weights" if workers > 1 else "1 worker"))
    threads = residents.settings.compute.threads or max((os.cpu_count() or 1) // workers, 1)
    job = Job(
        residents.settings,
        residents.device,
        residents.dtype,
        residents.groups,
        residents.together,
        residents.token_ids,
        tuple(models),
        threads,
    )
    crew = Workers(job, tuple(_environment(residents.device, number) for number in range(workers)), emit)
    try:
        yield crew
    finally:
        crew.close()


def _environment(device: torch.device, number: int) -> Mapping[str, str]:
    """Return the environment of a worker, which sees one of several GPUs unless one was asked for by its number."""
    if device != torch.device("cuda"):
        return os.environ
    visible = os.environ.get(GPUS, "").split(",") if os.environ.get(GPUS) else None
    gpus = visible or [str(gpu) for gpu in range(torch.cuda.device_count())]
    return os.environ | {GPUS: gpus[number % len(gpus)]}
