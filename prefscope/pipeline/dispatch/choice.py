"""Which dispatcher a run gets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from prefscope.pipeline.dispatch.here import BatchScorer, Here
from prefscope.pipeline.dispatch.unit import Dispatcher, Emit
from prefscope.pipeline.residents import Residents, ScoredModel


@contextmanager
def open_dispatcher(residents: Residents, models: Sequence[ScoredModel], emit: Emit) -> Iterator[Dispatcher]:
    """Give a dispatcher for models that are resident together; its workers are gone afterwards."""
    yield Here(BatchScorer(residents, {model.role: model for model in models}, emit))
