"""A run with models: from a data set to a ledger, or to a folder of parts.

rows ─▶ pairs ─▶ token ids (spool) ─▶ shards, planned ─▶ log-probs (store) ─▶ ledger

The sequences are split into shards, whose batches are committed one by one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch

from prefscope.errors import UsageError
from prefscope.events import Event, Finished, Noted, Prepared
from prefscope.folders import cache_folder, store_path
from prefscope.pipeline.alternatives import Alternatives
from prefscope.pipeline.assembly import MoreColumns, assemble
from prefscope.pipeline.combinations import refuse_combinations
from prefscope.pipeline.divergences import Divergences, refuse_apart
from prefscope.pipeline.logp_source import LogpSource, StoredLogps
from prefscope.pipeline.manifest import build_manifest, preview_manifest
from prefscope.pipeline.model_pool import ModelPool, ScoredModel, compare_weights, gather
from prefscope.pipeline.noise import Noise, measure_noise
from prefscope.pipeline.parts.agreement import open_or_make
from prefscope.pipeline.parts.folder import PartsFolder
from prefscope.pipeline.parts.logps import PartLogps
from prefscope.pipeline.parts.urls import place_of
from prefscope.pipeline.passes import Passes
from prefscope.pipeline.reader import DataSummary, read_pairs
from prefscope.pipeline.shard_scorer import ShardScorer
from prefscope.pipeline.shards import Plan, make_plan
from prefscope.pipeline.spool import Spool, SpooledPairs
from prefscope.scoring.checkpoints import resolve
from prefscope.scoring.inspection import inspect
from prefscope.scoring.store import LogpStore
from prefscope.scoring.tokenization import TokenTexts
from prefscope.scoring.weights import Overlap
from prefscope.settings import ScoreSettings

Emit = Callable[[Event], None]


def score(settings: ScoreSettings, ledger: Callable[[str], Path], emit: Emit, preview: Path | None = None) -> Path:
    """Score a data set and return the path of its ledger.

    Args:
        settings: What to score and how.
        ledger: Returns the ledger's path for the run's name (16 hex digits that identify data, models and settings).
        emit: Called with every event, in this thread.
        preview: Where to write a ledger without log-probs before scoring starts; the sums are then emitted as they
            become known.

    Raises:
        PrefscopeError: Anything that a user can fix; what has been scored is kept.
    """
    with _prepared_work(settings, emit) as work:
        passes, spool = work.passes(watched=preview is not None), work.spool
        texts = TokenTexts.of(work.data.tokenizer) if settings.compute.keep_tokens else None
        if preview is not None:
            assemble(preview, spool, None, work.preview_manifest(), texts, emit)
            emit(Prepared(str(preview), work.key.hex()))
        models = passes.score_models()
        noise = _measure_noise(passes, models) if settings.compute.noise_pairs else None
        work.pool.release()
        written = ledger(work.key.hex())
        manifest = work.manifest(models, noise)
        source, compute = work.source(passes, models), settings.compute
        more = _more_columns(settings, source, models, texts) if isinstance(source, StoredLogps) else ()
        assemble(written, spool, source, manifest, texts, emit, collisions=compute.collisions, more=more)
        work.store.drop_plan(work.key)
    emit(Finished(str(written), work.data.pairs, passes.scorer.scoring_seconds))
    return written


def _more_columns(
    settings: ScoreSettings, source: StoredLogps, models: Sequence[ScoredModel], texts: TokenTexts | None
) -> Iterator[MoreColumns]:
    """Yield what provides the columns that the settings ask for beside log-probs."""
    compute = settings.compute
    if compute.alternatives and texts is not None:
        yield Alternatives(source, compute.alternatives, texts)
    if models[0].beside is not None:
        yield Divergences(source, models[0].beside.scope, compute.keep_tokens)


def score_slice(settings: ScoreSettings, emit: Emit) -> float:
    """Score one slice of the shards into a folder of parts, and return the seconds spent on scoring.

    Raises:
        PrefscopeError: Anything that a user can fix; what has been scored is kept.
    """
    with _prepared_work(settings, emit) as work:
        passes = work.passes()
        models = passes.score_models()
        work.source(passes, models)
        work.store.drop_plan(work.key)
    return passes.scorer.scoring_seconds


@dataclass(frozen=True, slots=True)
class _Work:
    """The inputs of a run, ready for scoring."""

    settings: ScoreSettings
    store: LogpStore
    spool: SpooledPairs
    plan: Plan
    data: DataSummary
    pool: ModelPool
    weights: Overlap | None
    folder: PartsFolder | None
    emit: Emit

    @property
    def key(self) -> bytes:
        """A hash that is the same when the same work is rerun, whatever is in the store by then."""
        settings = self.settings
        shards = settings.dispatch.slice_number
        parts = [
            self.data.content_hash,
            self.data.tokenizer_hash,
            self.data.template_hash,
            self.data.max_length,
            asdict(settings.data) | {"source": ""},
            asdict(settings.tokenization),
            [settings.compute.batch_tokens, settings.models.attn, self.pool.dtype, self.pool.device.type],
            settings.models.tp,
            [candidate.fingerprint for candidate in self.pool.candidates],
            *([] if settings.compute.fused else ["unfused"]),
            *(["divergences"] if settings.compute.divergences else []),
            *([["alternatives", settings.compute.alternatives]] if settings.compute.alternatives else []),
            *([] if shards is None else [[shards, settings.dispatch.slices]]),
        ]
        return hashlib.blake2b(json.dumps(parts).encode(), digest_size=8).digest()

    def passes(self, *, watched: bool = False) -> Passes:
        """Return the passes over the shards of this run or slice."""
        dispatch = self.settings.dispatch
        scorer = ShardScorer(
            self.settings,
            self.store,
            self.spool,
            self.plan,
            self.pool,
            self.key,
            self.emit,
            watched=watched,
            folder=self.folder,
        )
        first, step = (0, 1) if dispatch.slice_number is None else (dispatch.slice_number, dispatch.slices)
        return Passes(scorer, range(first, len(self.plan), step))

    def manifest(self, models: Sequence[ScoredModel], noise: Noise | None = None) -> dict[str, Any]:
        """Return the ledger's manifest."""
        device, dtype = self.pool.device, self.pool.dtype
        return build_manifest(self.settings, self.data, models, device, dtype, self.weights, noise)

    def preview_manifest(self) -> dict[str, Any]:
        """Return the manifest of the preview."""
        pool = self.pool
        return preview_manifest(self.settings, self.data, pool.candidates, pool.device, pool.dtype, self.weights)

    def source(self, passes: Passes, models: Sequence[ScoredModel]) -> LogpSource:
        """Return the source of the log-probs; with a folder of parts, also write its record of this run."""
        if self.folder is None:
            return StoredLogps(self.store, {model.role: model.scope for model in models}, passes.scorer.crashed)
        scopes = {model.role: model.scope.hex() for model in models}
        name = hashlib.blake2b(json.dumps([scopes, models[0].collides]).encode(), digest_size=8).hexdigest()
        self.folder.publish_run(name, scopes, self.manifest(models))
        return PartLogps(self.folder, self.plan, scopes)


@contextmanager
def _prepared_work(settings: ScoreSettings, emit: Emit) -> Iterator[_Work]:
    """Read the pairs, or the plan of a folder of parts, and prepare the models; closes everything afterwards."""
    refuse_combinations(settings)
    settings = _with_workers(settings) if settings.models.tp > 1 else settings
    path = store_path(settings.compute.cache_dir) if settings.compute.use_cache else None
    with _threads(settings.compute.threads), LogpStore(path) as store, ExitStack() as opened:
        if store.set_aside:
            emit(Noted(store.set_aside))
        if store.journal not in ("wal", "memory"):
            emit(
                Noted(
                    "The cache folder's file system does not support WAL; the log-prob store uses a rollback journal."
                )
            )
        policy, ref = resolve(settings.models, lambda text: emit(Noted(text)))
        for oddity in inspect(policy, ref):
            emit(Noted(f"Warning: {oddity.what}. {oddity.follows}"))
        fresh = Spool(cache_folder(settings.compute.cache_dir) if settings.compute.use_cache else None)
        opened.callback(fresh.close)
        folder, spool, plan = None, cast("SpooledPairs", fresh), None
        if settings.dispatch.parts is not None:
            folder = PartsFolder(place_of(settings.dispatch.parts))
            agreed = open_or_make(folder, settings, policy, ref, fresh, emit)
            data, spool, plan = agreed.data, agreed.opened.spool, agreed.opened.plan
            opened.callback(spool.close)
        else:
            data = read_pairs(settings, policy, ref, fresh, emit)
        checkpoints = [policy] if ref is None else [policy, ref]
        pool = gather(settings, store, checkpoints, spool.some_token_ids(), emit)
        if settings.compute.divergences:
            refuse_apart(pool)
        weights = compare_weights(pool)
        plan = plan or make_plan(fresh.facts, settings.data.seed)
        yield _Work(settings, store, spool, plan, data, pool, weights, folder, emit)


def _with_workers(settings: ScoreSettings) -> ScoreSettings:
    """Return the settings with at least one worker: the processes that share a model die and restart together.

    Raises:
        UsageError: If an option does not work with split models.
    """
    refused = {"--noise-floor": settings.compute.noise_pairs, "--device-map": settings.models.device_map}
    for option, asked in refused.items():
        if asked:
            raise UsageError(f"--tp cannot be combined with {option}", hint="Omit one of them.")
    dispatch = settings.dispatch
    workers = 1 if dispatch.engine == "local" and dispatch.workers is None else dispatch.workers
    return replace(settings, dispatch=replace(dispatch, workers=workers))


@contextmanager
def _threads(asked: int | None) -> Iterator[None]:
    """Set the number of CPU threads temporarily; None leaves it unchanged."""
    previous = torch.get_num_threads()
    if asked is not None:
        torch.set_num_threads(asked)
    try:
        yield
    finally:
        torch.set_num_threads(previous)


def _measure_noise(passes: Passes, models: Sequence[ScoredModel]) -> Noise | None:
    """Measure how much the numbers depend on the batches; None without a reference, as there are no margins."""
    if len(models) == 1:
        return None
    budgets = {model.role: passes.scorer.budget(model) for model in models}
    return measure_noise(passes.scorer.pool, models, passes.scorer.spool, budgets)
