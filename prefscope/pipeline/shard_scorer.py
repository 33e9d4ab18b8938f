"""Scores shards with models that are in memory together: plans batches, and commits results.

Planning and committing happen here, whichever dispatcher computes the batches. As this module does not depend on any
dispatcher, a worker of a cluster can score a shard in the same way.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray

from prefscope.errors import ResourceError
from prefscope.events import BatchScored, LogpsKnown, Noted, Planned
from prefscope.pipeline.dispatch.unit import Dispatcher, Done, Dropped, Emit, Scored, Turn, Unit, finer
from prefscope.pipeline.logp_source import KeyOf, MaybeLogps, stored_logps
from prefscope.pipeline.model_pool import ModelPool, ScoredModel
from prefscope.pipeline.parts.folder import COLLISIONS, PartsFolder
from prefscope.pipeline.shards import Plan, batches_of, estimate, plan_shard
from prefscope.pipeline.spool import SpooledPairs
from prefscope.scoring.alternatives import columns_of
from prefscope.scoring.divergences import COLUMNS as DIVERGENCES
from prefscope.scoring.planning import computed_tokens
from prefscope.scoring.sequences import TokenSequence
from prefscope.scoring.store import LogpStore, alternatives_key, collision_key, divergences_key, sequence_key
from prefscope.settings import ScoreSettings

SUMS_AN_EVENT = 512
ENOUGH_SECONDS = 0.5
TRIES, TRIES_IN_PIECES = 3, 2
"""How often a shard may crash its worker before it is split into batches, and how often each of its pieces may."""
MOST_DROPPED = 16
"""With more shards that crash their workers than this, the cause is probably not in the shards."""


@dataclass(slots=True)
class ShardScorer:
    """Scores shards with models that are in memory together."""

    settings: ScoreSettings
    store: LogpStore
    spool: SpooledPairs
    plan: Plan
    pool: ModelPool
    key: bytes
    """Key of the run, the same when the same work is rerun."""
    emit: Emit
    watched: bool = False
    """Whether to emit sums while the run is in progress."""
    folder: PartsFolder | None = None
    """Where to write a part for every finished shard, if anywhere."""
    scoring_seconds: float = 0.0
    crashed: dict[str, set[bytes]] = field(default_factory=dict)
    """Digests of the sequences that crash every process computing them, by role."""
    _taken: dict[str, tuple[int, float]] = field(default_factory=dict)
    """Tokens computed so far and the seconds they took, by role."""
    _models: dict[str, ScoredModel] = field(default_factory=dict)
    _handed_out: dict[str, int] = field(default_factory=dict)
    """Number of the latest batch, by role."""

    def budget(self, model: ScoredModel) -> int:
        """Return the maximum number of tokens in a forward pass."""
        if model.verdict.alone:
            return 1
        return self.settings.compute.batch_tokens or model.budget.batch_tokens

    @property
    def speeds(self) -> dict[str, float]:
        """Tokens computed per second, for each role whose batches took long enough to tell."""
        return {role: tokens / taken for role, (tokens, taken) in self._taken.items() if taken > ENOUGH_SECONDS}

    def left(self, numbers: Sequence[int], models: Sequence[ScoredModel]) -> dict[int, list[ScoredModel]]:
        """Return the models that still have to score each of some shards; finished shards are left out."""
        folder = self.folder
        if folder is None:
            return {number: [*models] for number in numbers}
        names = [self.plan.names[number] for number in numbers]
        done = {
            model.role: set[str].intersection(*(folder.written(kept, names) for kept in parts_of(model)))
            for model in models
        }
        found = {
            number: [one for one in models if name not in done[one.role]]
            for number, name in zip(numbers, names, strict=True)
        }
        return {number: some for number, some in found.items() if some}

    def score(
        self, models: Sequence[ScoredModel], left: Mapping[int, Sequence[ScoredModel]], dispatcher: Dispatcher
    ) -> None:
        """Score shards with a dispatcher, isolating sequences that crash its workers.

        Args:
            models: All models in memory.
            left: The shards, each with the models that have to score it.
            dispatcher: Computes the batches.

        Raises:
            ResourceError: If too many shards crashed their workers.
            PrefscopeError: Any error of the dispatcher; results that have arrived are kept.
        """
        self._models |= {model.role: model for model in models}
        if not self._announce(models, left, dispatcher.width) and self.folder is None:
            return
        units: Iterator[Unit] = (
            Unit(number, self._turns(number, some), is_whole=True) for number, some in left.items()
        )
        dropped = self._hand_out(dispatcher, units, left, TRIES)
        isolated = {unit.shard for unit in dropped}
        if len(isolated) > MOST_DROPPED:
            raise ResourceError(
                f"{len(isolated)} shards crashed every worker that computed them",
                hint="Give workers more memory, or use fewer --workers. Log-probs computed so far are kept.",
            )
        while dropped:
            dropped = self._hand_out(dispatcher, self._pieces(dropped), {}, TRIES_IN_PIECES)
        for number in sorted(isolated):
            self._write_parts(number, left[number])

    def _write_parts(self, number: int, models: Sequence[ScoredModel]) -> None:
        """Write the parts of a finished shard from the store."""
        if self.folder is None:
            return
        shard = self.plan.shard(self.spool, number)
        for model in models:
            lost = self.crashed.get(model.role, set())
            alive = [one for one in shard.sequences if one.digest() not in lost]
            for kept, name in parts_of(model).items():
                found: dict[bytes, MaybeLogps] = dict.fromkeys(shard.digests)
                logps = stored_logps(self.store, model.scope, alive, name)
                found |= zip((one.digest() for one in alive), logps, strict=True)
                self.folder.write_part(kept, shard.name, found)

    def _hand_out(
        self, dispatcher: Dispatcher, units: Iterator[Unit], left: Mapping[int, Sequence[ScoredModel]], tries: int
    ) -> list[Unit]:
        """Commit the results of units, and return the units that were dropped.

        Args:
            dispatcher: Computes the units.
            units: The units to compute.
            left: The models of each shard for which parts are written when its unit is done.
            tries: How often a unit may crash its worker.
        """
        dropped = []
        for answer in dispatcher.answers(units, tries):
            match answer:
                case Scored():
                    self._commit(answer, dispatcher.width)
                case Dropped(unit):
                    dropped.append(unit)
                case BatchScored():
                    self._report(answer, dispatcher.width)
                case Done(unit, is_written) if unit.shard in left and not is_written:
                    self._write_parts(unit.shard, left[unit.shard])
        return dropped

    def _pieces(self, dropped: list[Unit]) -> Iterator[Unit]:
        """Yield the unfinished batches of dropped units in smaller pieces; a single sequence is recorded as crashed."""
        for unit in dropped:
            left = tuple(turn for turn in unit.turns if self._is_missing(self._models[turn.role], turn.sequences))
            if not left:
                continue
            pieces = finer(Unit(unit.shard, left))
            if not pieces:
                (turn,) = left
                self.crashed.setdefault(turn.role, set()).add(turn.sequences[0].digest())
                size = len(turn.sequences[0].token_ids)
                self.emit(Noted(f"{turn.role}: a sequence of {size:,} tokens crashes every worker that computes it"))
            yield from pieces

    def _turns(self, number: int, models: Sequence[ScoredModel]) -> Iterator[Turn]:
        """Yield the batches of a shard, alternating between models, skipping those committed in the meantime."""
        shard = self.plan.shard(self.spool, number)
        plans = [plan_shard(self.store, self.key, shard, model, self.budget(model)) for model in models]
        for model in models if self.watched else ():
            self._report_sums(model, shard.digests)
        for batches in zip_longest(*(batches_of(shard, plan) for plan in plans)):
            for model, batch in zip(models, batches, strict=True):
                if batch and self._is_missing(model, batch):
                    place = self._handed_out[model.role] = self._handed_out.get(model.role, -1) + 1
                    yield Turn(model.role, place, tuple(batch))

    def _announce(self, models: Sequence[ScoredModel], left: Mapping[int, object], width: int) -> bool:
        """Emit the plan of each model, and return whether there is anything to compute."""
        budgets = [self.budget(model) for model in models]
        amounts = estimate((self.plan.shard(self.spool, number) for number in left), self.store, models, budgets)
        for model, budget, amount in zip(models, budgets, amounts, strict=True):
            self.emit(
                Planned(
                    role=model.role,
                    pairs=sum(len(self.plan.pairs(number)) for number in left),
                    sequences=amount.sequences,
                    missing=amount.missing,
                    tokens=amount.tokens,
                    computed=amount.computed,
                    padded=amount.padded,
                    path=model.verdict.path,
                    reason=model.verdict.reason,
                    batch_tokens=budget,
                    seconds=amount.computed / model.budget.tokens_per_second / width,
                    weight_bytes=self.pool.weight_bytes,
                    other_bytes=self.pool.bytes_beside_weights(model, max(budget, amount.longest), amount.longest),
                    resumed=self.store.has_plan(self.key, model.role),
                )
            )
        return any(amount.missing for amount in amounts)

    def _is_missing(self, model: ScoredModel, batch: Sequence[TokenSequence]) -> bool:
        """Return whether any sequence of a batch has not been committed, by this process or another."""
        return bool(model.missing(self.store, [sequence.digest() for sequence in batch]))

    def _commit(self, scored: Scored, width: int) -> None:
        """Commit the results of a batch and report it."""
        batch, turn = scored.turn.sequences, scored.turn
        model = self._models[turn.role]
        digests = [sequence.digest() for sequence in batch]
        self.store.commit(_rows(model, digests, scored.found))
        for one in {one.scope: one for one in (model, model.beside) if one and self.watched}.values():
            self._report_sums(one, digests)
        tokens = sum(len(sequence.token_ids) for sequence in batch)
        computed = computed_tokens(batch, packed=model.verdict.path == "packed")
        self._report(BatchScored(turn.role, turn.number, len(batch), tokens, computed, scored.seconds), width)

    def _report(self, batch: BatchScored, width: int) -> None:
        """Report a batch; its time is divided by the number of batches computed at the same time."""
        seconds = batch.seconds / width
        self.scoring_seconds += seconds
        tokens, taken = self._taken.get(batch.role, (0, 0.0))
        self._taken[batch.role] = tokens + batch.computed, taken + seconds
        self.emit(replace(batch, seconds=seconds))

    def _report_sums(self, model: ScoredModel, digests: Sequence[bytes]) -> None:
        """Emit the sums of the sequences that are in the store, for every role with this model."""
        same = [one.role for one in self.pool.candidates if one.fingerprint == model.candidate.fingerprint]
        for start in range(0, len(digests), SUMS_AN_EVENT):
            some = digests[start : start + SUMS_AN_EVENT]
            names_by_key = {sequence_key(model.scope, digest): digest.hex() for digest in some}
            found = self.store.lookup(names_by_key)
            names = tuple(names_by_key[key] for key in found)
            sums = tuple(float(logps.sum(dtype=np.float64)) for logps in found.values())
            for role in same if found else ():
                self.emit(LogpsKnown(role, model.scope.hex(), names, sums))


def parts_of(model: ScoredModel) -> Mapping[str, KeyOf]:
    """Return the folders of a model's parts, each with the function that computes the store keys of its content."""
    scope = model.scope.hex()
    return {scope: sequence_key} | ({f"{scope}{COLLISIONS}": collision_key} if model.collides else {})


def _rows(
    model: ScoredModel, digests: Sequence[bytes], measured: Sequence[NDArray[np.float32]]
) -> Iterator[tuple[bytes, NDArray[np.float32]]]:
    """Yield the store's rows for a batch."""
    for digest, found in zip(digests, measured, strict=True):
        columns = found if found.ndim > 1 else found[:, None]
        yield from _rows_of(model, digest, columns)
        if model.beside is not None:
            if model.beside.scope != model.scope:
                yield from _rows_of(model.beside, digest, columns[:, columns_of(model.measure) :])
            yield divergences_key(model.scope, digest, model.beside.scope), columns[:, -DIVERGENCES:].ravel()


def _rows_of(
    model: ScoredModel, digest: bytes, columns: NDArray[np.float32]
) -> Iterator[tuple[bytes, NDArray[np.float32]]]:
    """Yield the rows of a sequence under a model, whose columns come first: log-probs, then what else was measured."""
    yield sequence_key(model.scope, digest), columns[:, 0]
    if model.collides:
        yield collision_key(model.scope, digest), columns[:, 1]
    if model.alternatives:
        kept = columns[:, 2 if model.collides else 1 : columns_of(model.measure)]
        yield alternatives_key(model.scope, digest, model.alternatives), kept.ravel()
