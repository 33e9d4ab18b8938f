"""Data set in, ledger out, events on the way: the one core that every front end calls.

    rows ─▶ pairs ─▶ token ids (spool) ─▶ plan ─▶ log-probs (store), policy then reference ─▶ ledger

Log-probs are committed batch by batch, and the plan of a run is kept until it is finished: an interrupted run goes on
with the very same batches, so its numbers are the very same.
"""

from __future__ import annotations

import gc
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from prefscope.events import BatchScored, Event, Finished, Halved, Noted, Planned, Progressed
from prefscope.folders import cache_folder, store_path
from prefscope.pipeline.assembly import assemble
from prefscope.pipeline.intake import DataSummary, read_pairs
from prefscope.pipeline.manifest import build_manifest
from prefscope.pipeline.spool import Spool
from prefscope.scoring import models as loading
from prefscope.scoring.checkpoints import Checkpoint, ScoredModel, fingerprint, resolve, stored_dtype
from prefscope.scoring.engine import compute_scope, score_batch
from prefscope.scoring.models import LanguageModel
from prefscope.scoring.packing import first_occurrences, pad_batches, plan_order
from prefscope.scoring.sequences import TokenSequence
from prefscope.scoring.store import LogpStore, PlannedSequence, sequence_key
from prefscope.scoring.tokenization import TokenTexts
from prefscope.settings import ScoreSettings

Emit = Callable[[Event], None]


@dataclass(slots=True)
class Run:
    """One run: what is fixed before the first forward pass, and the weights that are loaded."""

    settings: ScoreSettings
    store: LogpStore
    emit: Emit
    device: torch.device
    dtype: str
    models: tuple[ScoredModel, ...]
    """The policy, and the reference if there is one."""
    loaded: tuple[Checkpoint, LanguageModel] | None = field(default=None)
    scoring_seconds: float = 0.0

    @property
    def distinct(self) -> tuple[ScoredModel, ...]:
        """The models to score: a reference with the policy's content is not scored again."""
        return self.models[:1] if len({model.scope for model in self.models}) == 1 else self.models


def score(settings: ScoreSettings, ledger: Callable[[str], Path], emit: Emit) -> Path:
    """Score a data set and return the path of its ledger.

    Args:
        settings: What to score and how.
        ledger: Gives the ledger's path for the run's name (16 hex digits that name data, models and settings).
        emit: Called with every event, in this thread.

    Raises:
        PrefscopeError: Anything that a user can mend; what was scored until then is kept.
    """
    path = store_path(settings.compute.cache_dir) if settings.compute.use_cache else None
    with _threads(settings.compute.threads), LogpStore(path) as store:
        if store.journal not in ("wal", "memory"):
            emit(Noted("The cache folder's file system has no WAL; the log-prob store uses a rollback journal."))
        policy, ref = resolve(settings.models, lambda text: emit(Noted(text)))
        spool = Spool(cache_folder(settings.compute.cache_dir) if settings.compute.use_cache else None)
        try:
            data = read_pairs(settings, policy, ref, spool, emit)
            run = _prepare(settings, store, policy, ref, emit)
            run_key = _run_key(run, data)
            plan = _plan(run, spool, run_key)
            for model in run.distinct:
                _score_model(run, model, plan)
            run.loaded = None
            written = ledger(run_key.hex())
            manifest = build_manifest(settings, data, run.models, run.device, run.dtype)
            scopes = {model.role: model.scope for model in run.models}
            texts = TokenTexts.of(data.tokenizer) if settings.compute.keep_tokens else None
            assemble(written, spool, store, scopes, manifest, texts, emit)
            store.drop_plan(plan)
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


def _prepare(settings: ScoreSettings, store: LogpStore, policy: Checkpoint, ref: Checkpoint | None, emit: Emit) -> Run:
    """Return the run with everything that its store keys depend on, no weights loaded."""
    device = loading.pick_device(settings.models.device)
    checkpoints = {"policy": policy, **({"ref": ref} if ref is not None else {})}
    dtype = loading.pick_dtype(settings.models.dtype, device, list(checkpoints.values()))
    models = []
    for role, checkpoint in checkpoints.items():
        mark = fingerprint(
            checkpoint,
            store,
            allow_pickle=settings.models.allow_pickle,
            progress=lambda done, total, role=role: emit(Progressed(f"reading {role} weights", done, total)),  # type: ignore[misc]
        )
        attention = loading.attention_of(checkpoint, settings.models)
        scope = compute_scope(fingerprint=mark, dtype=dtype, device_type=device.type, attention=attention)
        models.append(ScoredModel(role, checkpoint, mark, scope, stored_dtype(checkpoint), attention))
    return Run(settings, store, emit, device, dtype, tuple(models))


def _run_key(run: Run, data: DataSummary) -> bytes:
    """Return the hash that a rerun of the same work shares, whatever the store holds by then."""
    parts = [
        data.content_hash,
        data.tokenizer_hash,
        data.template_hash,
        data.max_length,
        asdict(run.settings.data) | {"source": ""},
        asdict(run.settings.tokenization),
        run.settings.compute.batch_tokens,
        [model.scope.hex() for model in run.models],
    ]
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=8).digest()


def _plan(run: Run, spool: Spool, run_key: bytes) -> int:
    """Return the run's plan: the one that an interrupted run left, or a new one for what the store lacks."""
    known = run.store.find_plan(run_key)
    plan = known if known is not None else run.store.publish_plan(run_key, _planned(run, spool))
    distinct = len(first_occurrences(spool.digests))
    for model in run.distinct:
        lengths = [len(sequence.token_ids) for _, batch in _pending(run, model, plan) for sequence in batch]
        run.emit(
            Planned(
                role=model.role,
                pairs=spool.num_pairs,
                sequences=distinct,
                missing=len(lengths),
                tokens=sum(lengths),
                batches=run.store.num_batches(plan, model.role),
                resumed=known is not None,
            )
        )
    return plan


def _pending(run: Run, model: ScoredModel, plan: int) -> Iterator[tuple[int, list[TokenSequence]]]:
    """Yield the batches of a model that are not committed yet, by this process or another, with their numbers."""
    for index in range(run.store.num_batches(plan, model.role)):
        batch = run.store.read_batch(plan, model.role, index)
        if run.store.missing([sequence_key(model.scope, sequence.digest()) for sequence in batch]):
            yield index, batch


def _planned(run: Run, spool: Spool) -> Iterator[PlannedSequence]:
    """Yield the sequences that the store lacks, with their batches."""
    digests, lengths = spool.digests, spool.lengths
    firsts = first_occurrences(digests)
    for model in run.distinct:
        keys = [sequence_key(model.scope, digests[i].tobytes()) for i in firsts]
        missing = run.store.missing(keys)
        wanted = np.array([i for i, key in zip(firsts, keys, strict=True) if key in missing], dtype=np.int64)
        order = wanted[plan_order(lengths[wanted], wanted // 2, run.settings.data.seed)]
        batch_of = np.full(len(digests), -1, dtype=np.int64)
        batch_of[order] = pad_batches(lengths[order], run.settings.compute.batch_tokens)
        yield from _place(spool, model.role, batch_of)


def _place(spool: Spool, role: str, batch_of: NDArray[np.int64]) -> Iterator[PlannedSequence]:
    """Yield the sequences that have a batch, in the order of the spool."""
    if (batch_of >= 0).any():
        for batch, sequence in zip(batch_of.tolist(), spool.sequences(), strict=True):
            if batch >= 0:
                yield PlannedSequence(role, batch, sequence)


def _score_model(run: Run, model: ScoredModel, plan: int) -> None:
    """Score every batch of a model that is not committed yet."""
    batches = run.store.num_batches(plan, model.role)
    for index, sequences in _pending(run, model, plan):
        language_model = _load(run, model)
        started = time.perf_counter()

        def halved(size: int, index: int = index) -> None:
            run.emit(Halved(model.role, index, size))

        with language_model.adapter_for(model.checkpoint):
            logps = score_batch(language_model, sequences, halved)
        keys = (sequence_key(model.scope, sequence.digest()) for sequence in sequences)
        run.store.commit(zip(keys, logps, strict=True))
        seconds = time.perf_counter() - started
        run.scoring_seconds += seconds
        tokens = sum(len(sequence.token_ids) for sequence in sequences)
        run.emit(BatchScored(model.role, index, batches, len(sequences), tokens, seconds))


def _load(run: Run, model: ScoredModel) -> LanguageModel:
    """Return the loaded model; a policy adapter's base, once loaded, is the reference with the adapter switched off."""
    if run.loaded is not None:
        checkpoint, language_model = run.loaded
        if model.checkpoint == checkpoint or model.checkpoint.same_weights(checkpoint.full):
            return language_model
        run.loaded = None
        del language_model
        gc.collect()
        if run.device.type == "cuda":
            torch.cuda.empty_cache()
    run.emit(Progressed(f"loading {model.role} {model.checkpoint.name}", 0))
    loaded = loading.load_model(model.checkpoint, run.settings.models, device=run.device, dtype=run.dtype)
    run.loaded = (model.checkpoint, loaded)
    return loaded
