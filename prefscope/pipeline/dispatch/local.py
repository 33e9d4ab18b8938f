"""Scoring of batches in this process; all other dispatchers run a `BatchScorer` in each worker."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from prefscope.events import Halved
from prefscope.pipeline.dispatch.unit import Answer, Done, Emit, Scored, Turn, Unit
from prefscope.pipeline.model_pool import ModelPool, ScoredModel
from prefscope.scoring.engine import score_batch
from prefscope.scoring.logps import token_logps, token_logps_and_collisions
from prefscope.scoring.planning import computed_tokens
from prefscope.scoring.sequences import TokenSequence

SHARE_TO_FIT = 0.75
"""After a batch did not fit into memory, batches larger than this share of it are split before they are tried."""


@dataclass(slots=True)
class BatchScorer:
    """Computes batches with models that are in memory together."""

    pool: ModelPool
    models: Mapping[str, ScoredModel]
    """Models by role."""
    emit: Emit
    _limits: dict[str, int] = field(default_factory=dict)
    """Largest batch to try, in tokens, by role; set after a batch did not fit into memory."""

    def load(self) -> None:
        """Load the models ahead of the first batch.

        Raises:
            PrefscopeError: If a model cannot be loaded.
        """
        for model in self.models.values():
            with self.pool.loaded(model.candidate):
                pass

    def score(self, turn: Turn) -> Scored:
        """Compute a batch.

        Raises:
            ResourceError: If a single sequence does not fit into memory.
        """
        model, role = self.models[turn.role], turn.role
        path = model.verdict.path

        def halved(failed: Sequence[TokenSequence]) -> None:
            limit = int(SHARE_TO_FIT * computed_tokens(failed, packed=path == "packed"))
            self._limits[role] = min(limit, self._limits.get(role, limit))
            self.emit(Halved(role, turn.number, len(failed) // 2))

        measure = token_logps_and_collisions if model.collides else token_logps
        with self.pool.loaded(model.candidate, model.verdict) as language_model:
            loaded = time.perf_counter()
            measured = [
                found
                for piece in _within(turn.sequences, self._limits.get(role), packed=path == "packed")
                for found in score_batch(language_model, path, piece, halved, measure)
            ]
        return Scored(turn, tuple(measured), time.perf_counter() - loaded)


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
            for turn in unit.turns:
                yield self.scorer.score(turn)
            yield Done(unit)
