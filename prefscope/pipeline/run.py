"""Data set in, ledger out, events on the way: the one core that every front end calls.

rows ─▶ pairs ─▶ token ids (spool) ─▶ shards, planned ─▶ log-probs (store) ─▶ ledger

What is scored is cut into shards, the batches of which are committed one by one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import torch

from prefscope.events import Event, Finished, Noted, Prepared
from prefscope.folders import cache_folder, store_path
from prefscope.pipeline.assembly import assemble
from prefscope.pipeline.intake import DataSummary, read_pairs
from prefscope.pipeline.manifest import build_manifest, preview_manifest
from prefscope.pipeline.noise import Noise, measure_noise
from prefscope.pipeline.passes import Passes
from prefscope.pipeline.residents import Residents, ScoredModel, compare_weights, gather
from prefscope.pipeline.shards import make_plan
from prefscope.pipeline.spool import Spool
from prefscope.scoring.checkpoints import resolve
from prefscope.scoring.store import LogpStore
from prefscope.scoring.tokenization import TokenTexts
from prefscope.settings import ScoreSettings

Emit = Callable[[Event], None]


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
            key = _run_key(residents, data)
            plan = make_plan(spool.facts, settings.data.seed)
            passes = Passes(settings, store, spool, plan, residents, key, emit, watched=preview is not None)
            if preview is not None:
                assemble(preview, spool, store, {}, preview_manifest(settings, data, checkpoints), texts, emit)
                emit(Prepared(str(preview), key.hex()))
            models = passes.score_models()
            noise = _measure_noise(passes, models) if settings.compute.noise_pairs else None
            residents.release()
            written = ledger(key.hex())
            manifest = build_manifest(settings, data, models, residents.device, residents.dtype, weights, noise)
            scopes = {model.role: model.scope for model in models}
            assemble(written, spool, store, scopes, manifest, texts, emit, collisions=settings.compute.collisions)
            store.drop_plan(key)
        finally:
            spool.close()
    emit(Finished(str(written), data.pairs, passes.scoring_seconds))
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


def _measure_noise(passes: Passes, models: Sequence[ScoredModel]) -> Noise | None:
    """Return how far the numbers move in other batches, None without a reference, and so without margins."""
    if len(models) == 1:
        return None
    budgets = {model.role: passes.budget(model) for model in models}
    return measure_noise(passes.residents, models, passes.spool, budgets)
