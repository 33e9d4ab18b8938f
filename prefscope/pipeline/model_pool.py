"""Loads the models of a run, decides which stay in memory, and examines each one before its first batch."""

from __future__ import annotations

import gc
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import chain
from typing import Any, get_args

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from prefscope.errors import ModelError, ResourceError
from prefscope.events import Event, Noted, Progressed
from prefscope.pipeline.candidates import Candidate, find_candidates, group_by_weights
from prefscope.scoring import models as loading
from prefscope.scoring.alternatives import TopTokens
from prefscope.scoring.checkpoints import Checkpoint
from prefscope.scoring.engine import NUMERICS_VERSION, compute_scope
from prefscope.scoring.forward_mode import ForwardMode
from prefscope.scoring.free_memory import free_bytes_elsewhere
from prefscope.scoring.fused_kernels import kernel_packages
from prefscope.scoring.head import Measure
from prefscope.scoring.headers import BYTES, num_weights
from prefscope.scoring.logps import token_logps, token_logps_and_collisions
from prefscope.scoring.memory import (
    available_bytes,
    bytes_beside_weights,
    final_state_bytes,
    is_out_of_memory,
    release_cached,
)
from prefscope.scoring.models import LanguageModel
from prefscope.scoring.probe import Budget, probe
from prefscope.scoring.ranks import Load, Ranks
from prefscope.scoring.self_check import ForwardChoice, check, follow, widened_bytes
from prefscope.scoring.splitting import refuse_machine
from prefscope.scoring.store import LogpStore, alternatives_key, collision_key, divergences_key, sequence_key
from prefscope.scoring.weights import Overlap, overlap
from prefscope.settings import ScoreSettings

SHARE_FOR_TWO = 0.7
"""Both models stay in memory if their weights take at most this share of the free memory."""
SIXTEEN_BITS = ("bfloat16", "float16")


@dataclass(frozen=True, slots=True)
class ScoredModel:
    """A model of a run that has been examined, with its store scope."""

    candidate: Candidate
    scope: bytes
    """The scope of its store keys."""
    verdict: ForwardChoice
    budget: Budget
    rope_limit: int | None
    collides: bool = False
    """Whether to compute log Σ π² at each position, too."""
    alternatives: int = 0
    """Number of top tokens to keep at each position."""
    beside: ScoredModel | None = None
    """The reference that is computed on the same batches, for divergences; None if they are not wanted."""

    @property
    def measure(self) -> Measure:
        """What to compute from the logits of each position."""
        first = token_logps_and_collisions if self.collides else token_logps
        return TopTokens(self.alternatives, first) if self.alternatives else first

    @property
    def more_keys(self) -> tuple[Callable[[bytes, bytes], bytes], ...]:
        """Functions that return the store keys of what is computed beside log-probs, from scope and digest."""
        keys: tuple[Callable[[bytes, bytes], bytes], ...] = (collision_key,) if self.collides else ()
        keys += (partial(alternatives_key, count=self.alternatives),) if self.alternatives else ()
        return keys if self.beside is None else (*keys, partial(divergences_key, ref_scope=self.beside.scope))

    def missing(self, store: LogpStore, digests: Iterable[bytes]) -> set[bytes]:
        """Return the keys of the sequences, given by digest, of which anything to compute is not in the store."""
        keys = {sequence_key(self.scope, digest): digest for digest in digests}
        missing = store.missing(keys)
        for name in self.more_keys:
            more = {name(self.scope, digest): key for key, digest in keys.items()}
            missing |= {more[key] for key in store.missing(more)}
        return missing

    @property
    def role(self) -> str:
        """`policy` or `ref`."""
        return self.candidate.role


@dataclass(frozen=True, slots=True)
class Sharing:
    """How the processes of a run share the memory of devices."""

    sharers: int
    """Processes with a share of each device."""
    room: float
    """A worker's share in bytes before anything is loaded, over all devices among which its models are split."""


@dataclass(slots=True)
class ModelPool:
    """The models of a run, loaded on demand and kept as long as they fit into memory."""

    settings: ScoreSettings
    store: LogpStore
    emit: Callable[[Event], None]
    device: torch.device
    dtype: str
    groups: tuple[tuple[Candidate, ...], ...]
    """The candidates in order, grouped by shared weights."""
    together: bool
    """Whether all weights are in memory at the same time."""
    token_ids: NDArray[np.int32]
    """Some tokens of the data set, for self-checks and probes."""
    sharing: Sharing
    _loaded: dict[tuple[Candidate, ...], LanguageModel] = field(default_factory=dict)
    _widened_bytes: int = 0
    """Memory taken by the self-checks of 16-bit models."""
    _ranks: Ranks | None = None
    """The other processes among which models are split; they run as long as this one."""

    @property
    def candidates(self) -> list[Candidate]:
        """The policy, and the reference, if any."""
        return [*chain(*self.groups)]

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weights in memory at the same time; weights of unknown number count as 0."""
        sizes = [size * BYTES[self.dtype] for size in _sizes(self.groups)]
        return sum(sizes) if self.together else max(sizes)

    def bytes_beside_weights(self, model: ScoredModel, tokens: int, longest: int) -> int:
        """Return the maximum number of bytes that scoring a model takes in addition to the weights.

        Args:
            model: The model.
            tokens: Tokens of the largest forward pass.
            longest: Tokens of the longest sequence.
        """
        candidate, width = model.candidate, BYTES[self.dtype]
        config = loading.load_config(candidate.checkpoint.full, self.settings.models)
        found = self._widened_bytes + bytes_beside_weights(
            config,
            tokens,
            longest,
            device=self.device,
            width=width,
            writes_scores=candidate.attention == "eager" and model.verdict.path == "padded",
        )
        if model.beside is None:
            return found
        of_ref = loading.load_config(model.beside.candidate.checkpoint.full, self.settings.models)
        held = final_state_bytes(of_ref, tokens, width=width)
        return held + max(found, self.bytes_beside_weights(model.beside, tokens, longest))

    def judge(
        self,
        candidate: Candidate,
        examine: Callable[[ModelPool, Candidate], tuple[ForwardChoice, Budget]] | None = None,
    ) -> ScoredModel:
        """Choose a model's forward mode and token budget: from the store, or by loading and examining it.

        Args:
            candidate: The model.
            examine: Replaces `ModelPool.examine`.
        """
        key = self._verdict_key(candidate)
        known = _read_verdict(self.store.find_verdict(key))
        if known is None:
            known = verdict, budget = (examine or ModelPool.examine)(self, candidate)
            self.store.keep_verdict(key, json.dumps({"verdict": asdict(verdict), "budget": asdict(budget)}))
        if known[0].unfused:
            self.emit(
                Noted(
                    f"Warning: fused kernels are not used for the {candidate.role}, because with them "
                    f"{known[0].unfused}. It is computed by its own code, which is slower."
                )
            )
        return self._scored(candidate, *known)

    def examine(self, candidate: Candidate) -> tuple[ForwardChoice, Budget]:
        """Load a model, run its self-check, and probe its token budget.

        Raises:
            ResourceError: If too little memory is left beside the weights.
        """
        with self.loaded(candidate) as model:
            self.emit(Progressed(f"checking the {candidate.role}'s forward pass", 0))
            return self._examine(model)

    def _examine(self, model: LanguageModel) -> tuple[ForwardChoice, Budget]:
        self._widened_bytes = max(self._widened_bytes, widened_bytes(model))
        try:
            own_attention = self.settings.models.attn != "auto"
            may_fuse = self.settings.compute.fused
            verdict = check(model, self.token_ids, own_attention=own_attention, may_fuse=may_fuse)
            release_cached(self.device)
            return verdict, probe(model, verdict.path, self.token_ids, room=partial(self._room_for_passes, model))
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise ResourceError(
                "The weights leave too little memory for even a short forward pass",
                hint="Use a narrower --dtype, --device-map auto to spread the model, or --device cpu.",
            ) from error

    @property
    def _resident_bytes(self) -> int:
        """Bytes of the weights that are loaded now; weights of unknown number count as 0."""
        return sum(_sizes([*self._loaded])) * BYTES[self.dtype]

    def _room_for_passes(self, model: LanguageModel) -> float:
        """Return the bytes of a GPU that forward passes may take: this process's share, less all weights in it."""
        ranks = self.settings.models.tp  # each has its part of the weights on a GPU
        weights = self.weight_bytes if self.together else self._resident_bytes
        free = available_bytes(model.device)
        return min((free + self._resident_bytes / ranks) / self.sharing.sharers - weights / ranks, free)

    def _verdict_key(self, candidate: Candidate) -> bytes:
        """Return a hash of everything that the forward mode and the budget depend on."""
        device = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else self.device.type
        asked = (self.settings.models.attn, self.settings.models.device_map, self.settings.models.tp)
        versions = (torch.__version__, transformers.__version__, NUMERICS_VERSION)
        parts: list[Any] = [candidate.fingerprint, candidate.attention, self.dtype, device, asked, versions]
        if self.device.type == "cuda":  # the magnitude of the memory, which small changes leave as it is
            parts += [int(self.sharing.room).bit_length(), self.sharing.sharers]
            parts += [self.weight_bytes if self.together else 0]
            parts += [kernel_packages()]
        if not self.settings.compute.fused:
            parts += ["unfused"]
        return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).digest()

    def _scored(self, candidate: Candidate, verdict: ForwardChoice, budget: Budget) -> ScoredModel:
        scope = compute_scope(
            fingerprint=candidate.fingerprint,
            dtype=self.dtype,
            device=self.device,
            path=verdict.path,
            attention=candidate.attention,
            processes=self.settings.models.tp,
            kernels=verdict.kernels,
        )
        limit = loading.rope_limit(loading.load_config(candidate.checkpoint.full, self.settings.models))
        collides = self.settings.compute.collisions and candidate.role == "policy"
        return ScoredModel(candidate, scope, verdict, budget, limit, collides, self.settings.compute.alternatives)

    @contextmanager
    def loaded(self, candidate: Candidate, verdict: ForwardChoice | None = None) -> Iterator[LanguageModel]:
        """Provide the loaded model, with its adapter switched on or off, and set up as its self-check decided."""
        (group,) = (group for group in self.groups if candidate in group)
        if group not in self._loaded:
            self._load(group)
        model = self._loaded[group]
        with model.adapter_for(candidate.checkpoint):
            if verdict is not None:
                follow(model, verdict.path, is_fused=bool(verdict.kernels))
            yield model

    def _load(self, group: tuple[Candidate, ...]) -> None:
        if not self.together:
            self.release()
        first, *_ = sorted(group, key=lambda one: (one.checkpoint.base is None, one.checkpoint.off))
        adapters = [one.checkpoint for one in group if one.checkpoint.base is not None and not one.checkpoint.off]
        self.emit(Progressed(f"loading {first.role} {first.checkpoint.name}", 0))
        models = self.settings.models
        if models.tp > 1:
            self._ranks = self._ranks or Ranks(models.tp, self.device)
            self._loaded[group] = self._ranks.load(Load(first.checkpoint, models, self.dtype))
            return
        self._loaded[group] = loading.load_model(
            first.checkpoint,
            models,
            device=self.device,
            dtype=self.dtype,
            others=[adapter for adapter in adapters if adapter != first.checkpoint],
            with_base=any(candidate.checkpoint.base is None for candidate in group),
        )
        for candidate in group:
            if candidate.has_changed():
                self.release()
                raise ModelError(
                    "This checkpoint changed while it was being loaded",
                    where=candidate.checkpoint.name,
                    hint="Wait until it is completely written, and run the command again.",
                )

    def release(self) -> None:
        """Free the memory of all weights."""
        self._loaded.clear()
        gc.collect()
        release_cached(self.device)


def _read_verdict(text: str | None) -> tuple[ForwardChoice, Budget] | None:
    """Parse what the store has for a model; None if it has nothing, or something invalid."""
    try:
        value = json.loads(text or "")
        verdict, budget = ForwardChoice(**value["verdict"]), Budget(**value["budget"])
        sound = (
            verdict.path in get_args(ForwardMode)
            and isinstance(verdict.reason, str)
            and isinstance(verdict.alone, bool)
            and isinstance(verdict.kernels, str)
            and isinstance(verdict.unfused, str)
        )
        sound &= isinstance(budget.batch_tokens, int) and budget.batch_tokens > 0 < budget.tokens_per_second
    except (ValueError, KeyError, TypeError):
        return None
    return (verdict, budget) if sound else None


def gather(
    settings: ScoreSettings,
    store: LogpStore,
    checkpoints: Sequence[Checkpoint],
    token_ids: NDArray[np.int32],
    emit: Callable[[Event], None],
) -> ModelPool:
    """Return the pool of a run's models, none of them loaded yet.

    Args:
        settings: What to score and how.
        store: Caches hashes of files, forward modes and budgets.
        checkpoints: The policy, and the reference, if any.
        token_ids: Some tokens of the data set.
        emit: Called with progress.
    """
    device = loading.pick_device(settings.models.device)
    dtype = loading.pick_dtype(settings.models.dtype, device, list(checkpoints))
    processes = settings.models.tp
    if processes > 1:
        refuse_machine(device, processes)
    candidates = find_candidates(settings, store, checkpoints, emit)
    if settings.models.dtype == "auto" and (warning := why_wide(candidates, device, dtype)):
        emit(Noted(warning))
    groups = group_by_weights(candidates)
    sizes, sharing = _sizes(groups), share_memory(settings, device)
    room = SHARE_FOR_TWO * sharing.room / BYTES[dtype]
    fits = all(sizes) and sum(sizes) <= room and settings.models.device_map is None
    return ModelPool(settings, store, emit, device, dtype, groups, fits or len(groups) == 1, token_ids, sharing)


def why_wide(candidates: Sequence[Candidate], device: torch.device, dtype: str) -> str:
    """Return a warning if a GPU computes models of 16 bits in a wider dtype, for the sake of another; else nothing."""
    narrow = [one.stored_dtype for one in candidates if one.stored_dtype in SIXTEEN_BITS]
    if device.type == "cpu" or not narrow or dtype in SIXTEEN_BITS:
        return ""
    names = {"ref": "reference"}
    stored = " and ".join(f"the {names.get(one.role, one.role)} ({one.stored_dtype})" for one in candidates)
    return (
        f"Warning: {stored} are stored in different dtypes, so both are computed in {dtype}, which takes a GPU about "
        f"15 times as long as 16 bits. If the trainer computed in {narrow[0]}, pass --dtype {narrow[0]}."
    )


def share_memory(settings: ScoreSettings, device: torch.device) -> Sharing:
    """Return how the processes of a run share the memory of the devices.

    If workers compute, this process leaves the GPUs to them: a mere look at a GPU's memory would take some of it.
    """
    processes = settings.models.tp
    ranks = processes * (settings.dispatch.workers or 1)
    if device.type != "cuda":
        return Sharing(ranks, available_bytes(device) / ranks * processes)
    sharers = math.ceil(ranks / torch.cuda.device_count())
    free = free_bytes_elsewhere(device) if settings.dispatch.computes_elsewhere else available_bytes(device)
    return Sharing(sharers, free / sharers * processes)


def _sizes(groups: Sequence[Sequence[Candidate]]) -> list[int]:
    """Return the number of weights of each group, or 0 if unknown."""
    return [num_weights(group[0].checkpoint.full) or 0 for group in groups]


def compare_weights(pool: ModelPool) -> Overlap | None:
    """Return the share of equal weights in policy and reference; None if there is no reference or nothing to compare.

    Emits a warning if rounding has erased most of the changes that training made.
    """
    policy, *refs = pool.candidates
    found = overlap(policy.checkpoint, refs[0].checkpoint, pool.dtype) if refs else None
    if found is not None and found.erased:
        rounded_here = BYTES[policy.stored_dtype] > BYTES[pool.dtype]
        remedy = "score with --dtype float32" if rounded_here else "score a checkpoint that was saved in float32"
        pool.emit(
            Noted(
                f"Warning: {found.equal:.0%} of the policy's weights equal the reference's, and so do "
                f"{found.equal_where_trained:.0%} of those that training changed. Rounding to 16 bits has erased much "
                f"of the training, so margins are too small and may have the wrong sign; {remedy}."
            )
        )
    return found
