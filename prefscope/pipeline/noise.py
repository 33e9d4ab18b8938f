"""The noise of a run: how much its numbers change in other batches or another dtype, measured on a sample of pairs.

The sample is recomputed without reading or writing the store, in shuffled batches of half the size.
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
"""Sum of the log-probs of a sequence, by its digest."""


@dataclass(frozen=True, slots=True)
class Noise:
    """The precision of log-ratio differences; floors are 99th percentiles of the absolute change, in nats."""

    pairs: int
    """Size of the sample."""
    floor: float
    """Change in other batches, in the run's dtype."""
    float32_floor: float | None
    """Change from float32 to the run's dtype; None if that is float32 or wider, or float32 does not fit."""

    def to_json(self) -> dict[str, float | int | None]:
        """Return the values for the manifest."""
        return asdict(self)


def measure_noise(
    pool: ModelPool, models: Sequence[ScoredModel], spool: SpooledPairs, budgets: Mapping[str, int]
) -> Noise:
    """Measure the noise of a finished run with a reference, whose log-probs are all in the store.

    Args:
        pool: The models of the run.
        models: The policy and the reference, as scored.
        spool: The pairs.
        budgets: Tokens per forward pass in the run, by role.

    Raises:
        ResourceError: If a single sequence does not fit into memory.
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
    """Return each pair's chosen minus rejected log-ratio in nats; `pairs` alternates chosen and rejected sequences."""
    ratios = [sums["policy"][one.digest()] - sums["ref"][one.digest()] for one in pairs]
    return np.array(ratios[::2], dtype=np.float64) - np.array(ratios[1::2], dtype=np.float64)


def _stored_sums(store: LogpStore, model: ScoredModel, pairs: Sequence[TokenSequence]) -> Sums:
    return _sums(pairs, stored_logps(store, model.scope, list(pairs)))


def _sums(sequences: Sequence[TokenSequence], logps: Sequence[NDArray[np.float32]]) -> Sums:
    """Return the sums in float64, as in the ledger."""
    return {one.digest(): float(v.sum(dtype=np.float64)) for one, v in zip(sequences, logps, strict=True)}


def _computed_sums(
    pool: ModelPool, model: ScoredModel, pairs: Sequence[TokenSequence], budgets: Mapping[str, int]
) -> Sums:
    """Recompute the sums in batches that differ from the run's."""
    distinct = list({one.digest(): one for one in pairs}.values())
    path, seed = model.verdict.path, pool.settings.data.seed
    half = max(budgets[model.role] // 2, 1)
    sums: dict[bytes, float] = {}
    step = f"measuring the {model.role}'s noise in {pool.dtype}"
    with pool.loaded(model.candidate, model.verdict) as language_model:
        for members in shuffled_batches(
            distinct, packed=path == "packed", batch_tokens=half, rope_limit=model.rope_limit, seed=seed
        ):
            batch = [distinct[i] for i in members]
            sums |= _sums(batch, score_batch(language_model, path, batch, _halved))
            pool.emit(Progressed(step, len(sums), len(distinct)))
    return sums


def _halved(_failed: Sequence[TokenSequence]) -> None:
    """Ignore that a batch was halved: it still differs from the run's batches."""


def _compute_in_float32(
    pool: ModelPool, models: Sequence[ScoredModel], pairs: Sequence[TokenSequence], budgets: Mapping[str, int]
) -> NDArray[np.float64] | None:
    """Return the log-ratio differences in float32, or None if the float32 weights do not fit into memory."""
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
        pool.emit(Noted(f"Could not compare {pool.dtype} with float32: {error}"))
        return None
    finally:
        wide.release()
    return _differences(pairs, sums)
