"""Data set in, ledger out, events on the way: the one core that every front end calls.

    rows ─▶ pairs ─▶ token ids (spool) ─▶ parts, planned ─▶ log-probs (store) ─▶ ledger

Log-probs are committed batch by batch. Policy and reference take turns batch by batch where both are resident, so that
pairs are complete early; else each passes over the whole data set.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from itertools import zip_longest
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from prefscope.events import BatchScored, Event, Finished, Halved, LogpsKnown, Noted, Planned, Prepared
from prefscope.folders import cache_folder, store_path
from prefscope.pipeline.assembly import assemble
from prefscope.pipeline.intake import DataSummary, read_pairs
from prefscope.pipeline.manifest import build_manifest, preview_manifest
from prefscope.pipeline.noise import Noise, measure_noise
from prefscope.pipeline.parts import batches_of, estimate, parts_of, plan_part
from prefscope.pipeline.residents import Residents, ScoredModel, compare_weights, gather
from prefscope.pipeline.spool import Spool
from prefscope.scoring.checkpoints import resolve
from prefscope.scoring.engine import score_batch
from prefscope.scoring.logps import token_logps, token_logps_and_collisions
from prefscope.scoring.planning import computed_tokens
from prefscope.scoring.sequences import TokenSequence
from prefscope.scoring.store import LogpStore, collision_key, sequence_key
from prefscope.scoring.tokenization import TokenTexts
from prefscope.settings import ScoreSettings

Emit = Callable[[Event], None]
SHARE_TO_FIT = 0.75
"""After a batch that did not fit into memory, larger ones than this share of it are cut before they are tried."""


SUMS_AN_EVENT = 512


def score(settings: ScoreSettings, ledger: Callable[[str], Path], emit: Emit, preview: Path | None = None) -> Path:
    """Score a data set and return the path of its ledger.

    Args:
        settings: What to score and how.
        ledger: Gives the ledger's path for the run's name (16 hex digits that name data, models and settings).
        emit: Called with every event, in this thread.
        preview: Where a ledger without log-probs is written before anything is computed; the sums are then told as soon
            as they are known.

    Raises:
        PrefscopeError: Anything that a user can mend; what was scored until then is kept.
    """
    path = store_path(settings.compute.cache_dir) if settings.compute.use_cache else None
    with _threads(settings.compute.threads), LogpStore(path) as store:
        if store.set_aside:
            emit(Noted(store.set_aside))
        if store.journal not in ("wal", "memory"):
            emit(Noted("The cache folder's file system has no WAL; the log-prob store uses a rollback journal."))
        policy, ref = resolve(settings.models, lambda text: emit(Noted(text)))
        spool = Spool(cache_folder(settings.compute.cache_dir) if settings.compute.use_cache else None)
        try:
            data = read_pairs(settings, policy, ref, spool, emit)
            checkpoints = [policy] if ref is None else [policy, ref]
            residents = gather(settings, store, checkpoints, spool.some_token_ids(), emit)
            weights = compare_weights(residents)
            texts = TokenTexts.of(data.tokenizer) if settings.compute.keep_tokens else None
            run = Run(settings, store, spool, residents, _run_key(residents, data), emit, watched=preview is not None)
            if preview is not None:
                assemble(preview, spool, store, {}, preview_manifest(settings, data, checkpoints), texts, emit)
                emit(Prepared(str(preview), run.key.hex()))
            models = run.score_models()
            noise = run.measure_noise(models) if settings.compute.noise_pairs else None
            residents.release()
            written = ledger(run.key.hex())
            manifest = build_manifest(settings, data, models, residents.device, residents.dtype, weights, noise)
            scopes = {model.role: model.scope for model in models}
            assemble(written, spool, store, scopes, manifest, texts, emit, collisions=settings.compute.collisions)
            store.drop_plan(run.key)
        finally:
            spool.close()
    emit(Finished(str(written), data.pairs, run.scoring_seconds))
    return written


@contextmanager
def _threads(asked: int | None) -> Iterator[None]:
    """Compute with so many CPU threads for a while."""
    former = torch.get_num_threads()
    if asked is not None:
        torch.set_num_threads(asked)
    try:
        yield
    finally:
        torch.set_num_threads(former)


def _run_key(residents: Residents, data: DataSummary) -> bytes:
    """Return the hash that a rerun of the same work shares, whatever the store holds by then."""
    settings = residents.settings
    parts = [
        data.content_hash,
        data.tokenizer_hash,
        data.template_hash,
        data.max_length,
        asdict(settings.data) | {"source": ""},
        asdict(settings.tokenization),
        [settings.compute.batch_tokens, settings.models.attn, residents.dtype, residents.device.type],
        [candidate.fingerprint for candidate in residents.candidates],
    ]
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=8).digest()


@dataclass(slots=True)
class Run:
    """The expensive middle of a run: what to score is in the spool, what was scored is in the store."""

    settings: ScoreSettings
    store: LogpStore
    spool: Spool
    residents: Residents
    key: bytes
    emit: Emit
    watched: bool = False
    """Whether somebody looks at the sums while the run goes on."""
    scoring_seconds: float = 0.0
    _batches: dict[str, int] = field(default_factory=dict)
    """Batches scored so far, by role."""
    _limits: dict[str, int] = field(default_factory=dict)
    """Tokens that fitted into memory after a batch had to be halved, by role."""

    def score_models(self) -> list[ScoredModel]:
        """Score what the store lacks and return the models; a reference equal to the policy is not scored again."""
        policy, *refs = self.residents.candidates
        distinct = [policy, *(ref for ref in refs if ref.fingerprint != policy.fingerprint)]
        stages = [distinct] if self.residents.together else [[candidate] for candidate in distinct]
        scored = []
        for stage in stages:
            models = [self.residents.judge(candidate) for candidate in stage]
            self._score_stage(models)
            scored += models
        return scored + [replace(scored[0], candidate=ref) for ref in refs if ref not in distinct]

    def measure_noise(self, models: Sequence[ScoredModel]) -> Noise | None:
        """Return how far the numbers move in other batches, None without a reference, and so without margins."""
        if len(models) == 1:
            return None
        return measure_noise(self.residents, models, self.spool, {model.role: self._budget(model) for model in models})

    def _score_stage(self, models: Sequence[ScoredModel]) -> None:
        """Score all parts with models that are resident together."""
        if not self._announce(models):
            return
        for part in parts_of(self.spool, self.settings.data.seed):
            plans = [plan_part(self.store, self.key, part, model, self._budget(model)) for model in models]
            for model in models if self.watched else ():
                self._tell_sums(model, part.digests)
            for turn in zip_longest(*(batches_of(part, plan) for plan in plans)):
                for model, batch in zip(models, turn, strict=True):
                    if batch and self._lacks(model, batch):
                        self._score_batch(model, batch)

    def _budget(self, model: ScoredModel) -> int:
        if model.verdict.alone:
            return 1
        return self.settings.compute.batch_tokens or model.budget.batch_tokens

    def _announce(self, models: Sequence[ScoredModel]) -> bool:
        """Tell what is planned, and return whether there is anything to compute."""
        budgets = [self._budget(model) for model in models]
        amounts = estimate(self.spool, self.settings.data.seed, self.store, models, budgets)
        for model, budget, amount in zip(models, budgets, amounts, strict=True):
            self.emit(
                Planned(
                    role=model.role,
                    pairs=self.spool.num_pairs,
                    sequences=amount.sequences,
                    missing=amount.missing,
                    tokens=amount.tokens,
                    computed=amount.computed,
                    padded=amount.padded,
                    path=model.verdict.path,
                    reason=model.verdict.reason,
                    batch_tokens=budget,
                    seconds=amount.computed / model.budget.tokens_per_second,
                    weight_bytes=self.residents.weight_bytes,
                    other_bytes=self.residents.bytes_beside_weights(model, max(budget, amount.longest), amount.longest),
                    resumed=self.store.has_plan(self.key, model.role),
                )
            )
        return any(amount.missing for amount in amounts)

    def _lacks(self, model: ScoredModel, batch: Sequence[TokenSequence]) -> bool:
        """Return whether a batch is not committed yet, by this process or another."""
        return bool(model.lacking(self.store, [sequence.digest() for sequence in batch]))

    def _score_batch(self, model: ScoredModel, batch: list[TokenSequence]) -> None:
        """Compute a batch and commit it."""
        path, role = model.verdict.path, model.role
        number = self._batches[role] = self._batches.get(role, -1) + 1

        def halved(failed: Sequence[TokenSequence]) -> None:
            limit = int(SHARE_TO_FIT * computed_tokens(failed, packed=path == "packed"))
            self._limits[role] = min(limit, self._limits.get(role, limit))
            self.emit(Halved(role, number, len(failed) // 2))

        measure = token_logps_and_collisions if model.collides else token_logps
        with self.residents.loaded(model.candidate, path) as language_model:
            loaded = time.perf_counter()
            logps = [
                found
                for piece in _within(batch, self._limits.get(role), packed=path == "packed")
                for found in score_batch(language_model, path, piece, halved, measure)
            ]
        self.store.commit(_rows(model, batch, logps))
        seconds = time.perf_counter() - loaded
        self.scoring_seconds += seconds
        tokens = sum(len(sequence.token_ids) for sequence in batch)
        computed = computed_tokens(batch, packed=path == "packed")
        if self.watched:
            self._tell_sums(model, [sequence.digest() for sequence in batch])
        self.emit(BatchScored(role, number, len(batch), tokens, computed, seconds))

    def _tell_sums(self, model: ScoredModel, digests: Sequence[bytes]) -> None:
        """Tell the sums of those sequences that the store has, of every role whose model this is."""
        same = [one.role for one in self.residents.candidates if one.fingerprint == model.candidate.fingerprint]
        for start in range(0, len(digests), SUMS_AN_EVENT):
            some = digests[start : start + SUMS_AN_EVENT]
            names_by_key = {sequence_key(model.scope, digest): digest.hex() for digest in some}
            found = self.store.lookup(names_by_key)
            names = tuple(names_by_key[key] for key in found)
            sums = tuple(float(logps.sum(dtype=np.float64)) for logps in found.values())
            for role in same if found else ():
                self.emit(LogpsKnown(role, model.scope.hex(), names, sums))


def _rows(
    model: ScoredModel, batch: Sequence[TokenSequence], measured: Sequence[NDArray[np.float32]]
) -> Iterator[tuple[bytes, NDArray[np.float32]]]:
    """Yield what the store keeps of a batch: log-probs, and log Σ π² where that was measured."""
    for sequence, found in zip(batch, measured, strict=True):
        digest = sequence.digest()
        yield sequence_key(model.scope, digest), found[:, 0] if model.collides else found
        if model.collides:
            yield collision_key(model.scope, digest), found[:, 1]


def _within(batch: list[TokenSequence], limit: int | None, *, packed: bool) -> Iterator[list[TokenSequence]]:
    """Yield a batch whole, or in halves of halves that are within a limit of tokens."""
    if limit is None or len(batch) == 1 or computed_tokens(batch, packed=packed) <= limit:
        yield batch
    else:
        middle = len(batch) // 2
        yield from _within(batch[:middle], limit, packed=packed)
        yield from _within(batch[middle:], limit, packed=packed)
