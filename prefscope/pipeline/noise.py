"""How far a run's numbers move when nothing but the batches changes, or the dtype: measured on a sample of its pairs.

The sample is computed anew, past the store in both directions, in batches of other company and half the size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray

from prefscope.errors import ResourceError
from prefscope.events import Noted, Progressed
from prefscope.pipeline.logp_source import stored_logps
from prefscope.pipeline.model_pool import ModelPool, ScoredModel, gather
from prefscope.pipeline.spool import SpooledPairs
from prefscope.preference.noise import noise_floor
from prefscope.scoring.engine import score_batch
from prefscope.scoring.headers import BYTES
from prefscope.scoring.planning import shuffled_batches
from prefscope.scoring.sequences import TokenSequence
from prefscope.scoring.store import LogpStore

Sums = Mapping[bytes, float]
"""Σ of the log-probs of a sequence, by its digest."""


@dataclass(frozen=True, slots=True)
class Noise:
    """How sure a log-ratio difference is; the floors are 99th percentiles of its absolute change, in nats."""

    pairs: int
    """Of the sample."""
    floor: float
    """In the run's dtype and other batches."""
    float32_floor: float | None
    """Float32 against the run's dtype; None where that is float32 or wider, or float32 does not fit into memory."""

    def to_json(self) -> dict[str, float | int | None]:
        """Return what the manifest holds."""
        return asdict(self)


def measure_noise(
    pool: ModelPool, models: Sequence[ScoredModel], spool: SpooledPairs, budgets: Mapping[str, int]
) -> Noise:
    """Return the noise of a finished run with a reference, which the store has all log-probs of.

    Args:
        pool: The models of the run.
        models: How each is computed: the policy's and the reference's.
        spool: The pairs.
        budgets: Tokens of a forward pass of the run, by role.

    Raises:
        ResourceError: A sequence does not fit into memory.
    """
    settings = pool.settings
    order = np.random.default_rng(settings.data.seed).permutation(spool.num_pairs)
    drawn = order[: settings.compute.noise_pairs]
    pairs = list(spool.sequences_of_pairs(np.sort(drawn)))
    stored = _differences(pairs, {model.role: _stored_sums(pool.store, model, pairs) for model in models})
    again = _differences(pairs, {model.role: _computed_sums(pool, model, pairs, budgets) for model in models})
    in_float32 = None
    if BYTES[pool.dtype] < BYTES["float32"]:
        wide = _compute_in_float32(pool, models, pairs, budgets)
        in_float32 = None if wide is None else noise_floor(stored, wide)
    return Noise(len(drawn), noise_floor(stored, again), in_float32)


def _differences(pairs: Sequence[TokenSequence], sums: Mapping[str, Sums]) -> NDArray[np.float64]:
    """Return chosen minus rejected log-ratio of each pair, in nats; the pairs' sequences stand chosen, rejected, ..."""
    ratios = [sums["policy"][one.digest()] - sums["ref"][one.digest()] for one in pairs]
    return np.array(ratios[::2], dtype=np.float64) - np.array(ratios[1::2], dtype=np.float64)


def _stored_sums(store: LogpStore, model: ScoredModel, pairs: Sequence[TokenSequence]) -> Sums:
    return _sums(pairs, stored_logps(store, model.scope, list(pairs)))


def _sums(sequences: Sequence[TokenSequence], logps: Sequence[NDArray[np.float32]]) -> Sums:
    """Return sums as the ledger has them: in float64."""
    return {one.digest(): float(v.sum(dtype=np.float64)) for one, v in zip(sequences, logps, strict=True)}


def _computed_sums(
    pool: ModelPool, model: ScoredModel, pairs: Sequence[TokenSequence], budgets: Mapping[str, int]
) -> Sums:
    """Return sums computed anew, in batches that are not the run's."""
    distinct = list({one.digest(): one for one in pairs}.values())
    path, seed = model.verdict.path, pool.settings.data.seed
    half = max(budgets[model.role] // 2, 1)
    sums: dict[bytes, float] = {}
    step = f"measuring the {model.role}'s noise in {pool.dtype}"
    with pool.loaded(model.candidate, path) as language_model:
        for members in shuffled_batches(
            distinct, packed=path == "packed", batch_tokens=half, rope_limit=model.rope_limit, seed=seed
        ):
            batch = [distinct[i] for i in members]
            sums |= _sums(batch, score_batch(language_model, path, batch, _halved))
            pool.emit(Progressed(step, len(sums), len(distinct)))
    return sums


def _halved(_failed: Sequence[TokenSequence]) -> None:
    """Say nothing: smaller batches are no less other batches."""


def _compute_in_float32(
    pool: ModelPool, models: Sequence[ScoredModel], pairs: Sequence[TokenSequence], budgets: Mapping[str, int]
) -> NDArray[np.float64] | None:
    """Return the log-ratio differences in float32, None where the weights do not fit into memory like that."""
    pool.release()
    settings = replace(pool.settings, models=replace(pool.settings.models, dtype="float32"))
    checkpoints = [model.candidate.checkpoint for model in models]
    wide = gather(settings, pool.store, checkpoints, pool.token_ids, pool.emit)
    same = {candidate.role: candidate for candidate in wide.candidates}
    try:
        sums = {
            model.role: _computed_sums(wide, replace(model, candidate=same[model.role]), pairs, budgets)
            for model in models
        }
    except ResourceError as error:
        pool.emit(Noted(f"No figure for float32 against {pool.dtype}: {error}"))
        return None
    finally:
        wide.release()
    return _differences(pairs, sums)
