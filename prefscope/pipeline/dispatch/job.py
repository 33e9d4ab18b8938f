"""Messages to and from workers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from prefscope.pipeline.candidates import Candidate
from prefscope.pipeline.dispatch.local import BatchScorer
from prefscope.pipeline.dispatch.unit import Emit
from prefscope.pipeline.model_pool import ModelPool, ScoredModel, Sharing
from prefscope.scoring.store import LogpStore
from prefscope.settings import ScoreSettings

TIMES_LONGER = 10
"""A batch that takes this many times its expected duration is considered hung."""


@dataclass(frozen=True, slots=True)
class Job:
    """Everything that a worker needs before its first unit."""

    settings: ScoreSettings
    device: torch.device
    dtype: str
    groups: tuple[tuple[Candidate, ...], ...]
    together: bool
    token_ids: NDArray[np.int32]
    sharing: Sharing
    models: tuple[ScoredModel, ...]
    threads: int

    def pool(self, store: LogpStore, emit: Emit) -> ModelPool:
        """Return the pool of the models, none of them loaded."""
        return ModelPool(
            self.settings,
            store,
            emit,
            self.device,
            self.dtype,
            self.groups,
            self.together,
            self.token_ids,
            self.sharing,
        )

    def scorer(self, store: LogpStore, emit: Emit) -> BatchScorer:
        """Return the scorer of the models."""
        return BatchScorer(self.pool(store, emit), {model.role: model for model in self.models}, emit)

    def patience(self, tokens: int) -> float:
        """Return the seconds after which a batch of some tokens is considered hung, under the slowest model."""
        speed = min(model.budget.tokens_per_second for model in self.models)
        return max(self.settings.dispatch.patience, TIMES_LONGER * tokens / speed)


@dataclass(frozen=True, slots=True)
class ExamineModel:
    """Asks a worker to examine a model instead of computing units."""

    job: Job
    candidate: Candidate


@dataclass(frozen=True, slots=True)
class Batch:
    """The result of a worker's next batch."""

    found: tuple[NDArray[np.float32], ...]
    seconds: float
