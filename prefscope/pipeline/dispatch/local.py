"""Scoring of batches in this process; all other dispatchers run a `BatchScorer` in each worker.

While a batch is computed, a second thread lays out the next one. A GPU also receives the next batch before the results
of this one are fetched, so that it computes while they are committed.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, pairwise

from prefscope.errors import PrefscopeError
from prefscope.events import Halved
from prefscope.pipeline.dispatch.unit import Answer, Done, Emit, Scored, Turn, Unit
from prefscope.pipeline.model_pool import ModelPool, ScoredModel
from prefscope.scoring.batches import Batch, prepare
from prefscope.scoring.divergences import ModelPair
from prefscope.scoring.engine import start_batch
from prefscope.scoring.forward_pass import Pending
from prefscope.scoring.models import LanguageModel
from prefscope.scoring.planning import computed_tokens
from prefscope.scoring.sequences import TokenSequence

SHARE_TO_FIT = 0.75
"""After a batch did not fit into memory, batches larger than this share of it are split before they are tried."""


@dataclass(frozen=True, slots=True)
class _Started:
    """A batch that is being computed."""

    turn: Turn
    pieces: tuple[Pending, ...]
    at: float


@dataclass(slots=True)
class BatchScorer:
    """Computes batches with models that are in memory together."""

    pool: ModelPool
    models: Mapping[str, ScoredModel]
    """Models by role."""
    emit: Emit
    _limits: dict[str, int] = field(default_factory=dict)
    """Largest batch to try, in tokens, by role; set after a batch did not fit into memory."""
    _latest: dict[str, Batch] = field(default_factory=dict)
    """The latest batch by role, which shows what the model's attention needs."""
    _finished_at: float = 0.0

    def load(self) -> None:
        """Load the models ahead of the first batch.

        Raises:
            PrefscopeError: If a model cannot be loaded.
        """
        for model in self.models.values():
            for one in (model, model.beside):
                if one is not None:
                    with self.pool.loaded(one.candidate):
                        pass

    @property
    def queues(self) -> bool:
        """Whether a batch is started before the results of the previous one are there, as a GPU computes on its own."""
        return self.pool.device.type == "cuda"

    def scored(self, turns: Iterable[Turn]) -> Generator[Scored]:
        """Compute batches, and yield their results in order.

        Raises:
            ResourceError: If a single sequence does not fit into memory; the results of earlier batches come first.
        """
        waiting: _Started | None = None
        with ThreadPoolExecutor(max_workers=1) as thread:
            for turn, laid_out in _one_ahead(self._lay_out(thread, turn) for turn in turns):
                try:
                    started = self._start(turn, laid_out)
                except PrefscopeError:
                    if waiting is not None:
                        yield self._finish(waiting)
                    raise
                if waiting is not None:
                    yield self._finish(waiting)
                waiting = started
                if not self.queues:
                    yield self._finish(waiting)
                    waiting = None
            if waiting is not None:
                yield self._finish(waiting)

    def _lay_out(self, thread: ThreadPoolExecutor, turn: Turn) -> tuple[Turn, Future[Batch]]:
        path, like = self.models[turn.role].verdict.path, self._latest.get(turn.role)
        return turn, thread.submit(prepare, path, turn.sequences, self.pool.device, like)

    def _start(self, turn: Turn, laid_out: Future[Batch]) -> _Started:
        model, role = self.models[turn.role], turn.role
        path = model.verdict.path

        def halved(failed: Sequence[TokenSequence]) -> None:
            limit = int(SHARE_TO_FIT * computed_tokens(failed, packed=path == "packed"))
            self._limits[role] = min(limit, self._limits.get(role, limit))
            self.emit(Halved(role, turn.number, len(failed) // 2))

        def prepared() -> Batch:
            batch = self._latest[role] = laid_out.result()
            return batch

        measure = model.measure
        with self._ready(model) as language_model:
            at = time.perf_counter()
            start = partial(start_batch, language_model, path)
            pieces = [*_within(turn.sequences, self._limits.get(role), packed=path == "packed")]
            if len(pieces) == 1:
                return _Started(turn, (start(turn.sequences, halved, measure, prepared),), at)
            return _Started(turn, tuple(start(piece, halved, measure) for piece in pieces), at)

    @contextmanager
    def _ready(self, model: ScoredModel) -> Iterator[LanguageModel | ModelPair]:
        """Provide a loaded model; for divergences, with its reference."""
        if model.beside is None:
            with self.pool.loaded(model.candidate, model.verdict) as language_model:
                yield language_model
            return
        self.load()
        policy, ref = (partial(self.pool.loaded, one.candidate, one.verdict) for one in (model, model.beside))
        yield ModelPair(policy, ref, self.pool.device, model.beside.measure)

    def _finish(self, started: _Started) -> Scored:
        """Wait for a batch; its time begins when the batch before it was finished, if it was started earlier."""
        found = tuple(chain.from_iterable(piece() for piece in started.pieces))
        began, self._finished_at = max(started.at, self._finished_at), time.perf_counter()
        return Scored(started.turn, found, self._finished_at - began)


def _one_ahead(items: Iterable[tuple[Turn, Future[Batch]]]) -> Iterator[tuple[Turn, Future[Batch]]]:
    """Yield items, each after the next one has been made."""
    for item, _ in pairwise(chain(items, [None])):
        if item is not None:
            yield item


def _within(batch: Sequence[TokenSequence], limit: int | None, *, packed: bool) -> Iterator[Sequence[TokenSequence]]:
    """Yield a batch, halved repeatedly until each piece is within a limit of tokens."""
    if limit is None or len(batch) == 1 or computed_tokens(batch, packed=packed) <= limit:
        yield batch
    else:
        middle = len(batch) // 2
        yield from _within(batch[:middle], limit, packed=packed)
        yield from _within(batch[middle:], limit, packed=packed)


@dataclass(slots=True)
class LocalDispatcher:
    """Computes one batch after the other, in this process."""

    scorer: BatchScorer

    @property
    def width(self) -> int:
        """The number of batches computed at the same time: 1."""
        return 1

    def answers(self, units: Iterable[Unit], tries: int) -> Iterator[Answer]:  # noqa: ARG002 (a crash would end this process)
        """Yield the results of each unit's batches, then its end."""
        for unit in units:
            yield from self.scorer.scored(unit.turns)
            yield Done(unit)
