"""The job of a Ray actor; this module does not use Ray."""

from __future__ import annotations

import faulthandler
import platform
import socket
import sys
from contextlib import closing
from dataclasses import dataclass, replace

import torch

from prefscope.environment import limit_caches
from prefscope.errors import ModelError, ResourceError
from prefscope.events import BatchScored, Event
from prefscope.folders import store_path
from prefscope.pipeline.dispatch.job import Batch, Job
from prefscope.pipeline.dispatch.local import BatchScorer, LocalDispatcher
from prefscope.pipeline.dispatch.unit import Turn
from prefscope.pipeline.parts.folder import PartsFolder
from prefscope.pipeline.parts.places import LocalFolder
from prefscope.pipeline.parts.plan_file import OpenedPlan, open_plan
from prefscope.pipeline.parts.urls import place_of
from prefscope.pipeline.shard_scorer import ShardScorer
from prefscope.scoring.checkpoints import fingerprint
from prefscope.scoring.engine import compute_scope
from prefscope.scoring.fused_kernels import kernel_packages
from prefscope.scoring.store import LogpStore
from prefscope.settings import DispatchSettings

Payload = int | tuple[Turn, ...]
"""The number of a shard whose parts to write, or batches whose log-probs to return."""


@dataclass(frozen=True, slots=True)
class RayJob:
    """Everything that an actor needs before its first unit."""

    job: Job
    parts: str | None
    """Folder or URL where actors write parts; None to return log-probs."""
    host: str
    """The machine on which the models were examined."""

    def scorer(self) -> RayScorer:
        """Check the node and load the models.

        Raises:
            ModelError: If the node would compute different numbers, because its checkpoint, torch or device differ.
            ResourceError: If the node cannot access the folder of parts or the object store.
        """
        torch.set_num_threads(self.job.threads)
        limit_caches()  # on a node that did not start this run
        self._check_node()
        opened = folder = None
        if self.parts is not None:
            place = place_of(self.parts)
            if isinstance(place, LocalFolder) and not place.path.is_dir():
                raise ResourceError(
                    f"Node {socket.gethostname()} cannot access the folder of parts",
                    where=place.shown(),
                    hint="Choose a folder with --parts on a disk that all nodes share.",
                )
            folder = PartsFolder(place)
            opened = open_plan(folder)
        scorer = self.job.scorer(LogpStore(None), lambda _: None)
        scorer.load()
        return RayScorer(self.job, scorer, opened, folder)

    def _check_node(self) -> None:
        node = socket.gethostname()
        hint = "Install the same packages on all nodes, and pass paths of checkpoints that exist on all of them."
        for model in self.job.models:
            candidate = model.candidate
            if node != self.host:
                with LogpStore(store_path(self.job.settings.compute.cache_dir)) as store:
                    allow = self.job.settings.models.allow_pickle
                    found = fingerprint(candidate.checkpoint, store, allow_pickle=allow, progress=lambda *_: None)
                if found != candidate.fingerprint:
                    raise ModelError(f"Node {node} has different weights", where=candidate.checkpoint.name, hint=hint)
            scope = compute_scope(
                fingerprint=candidate.fingerprint,
                dtype=self.job.dtype,
                device=self.job.device,
                path=model.verdict.path,
                attention=candidate.attention,
                processes=self.job.settings.models.tp,
                kernels=kernel_packages() if model.verdict.kernels else "",
            )
            if scope != model.scope:
                have = f"Python {platform.python_version()}, torch {torch.__version__}"
                have += f", {kernel_packages() or 'no fused kernels'}" if model.verdict.kernels else ""
                raise ModelError(f"Node {node} would compute different numbers: it has {have}", hint=hint)


@dataclass(slots=True)
class RayScorer:
    """Scores units with the models of an actor."""

    job: Job
    scorer: BatchScorer
    opened: OpenedPlan | None
    folder: PartsFolder | None

    def score(self, payload: Payload) -> list[Batch] | list[BatchScored]:
        """Compute batches, or write the parts of a shard and return the events of its batches."""
        if isinstance(payload, int):
            return self._write(payload)
        found = []
        with closing(self.scorer.scored(payload)) as results:
            for turn in payload:
                self._watch(turn.tokens)
                scored = next(results)
                found.append(Batch(scored.found, scored.seconds))
        return found

    def _write(self, number: int) -> list[BatchScored]:
        if self.opened is None or self.folder is None:
            raise RuntimeError("there is no plan to take the shard from")
        self._watch(len(self.job.models) * self.opened.content["shards"][number]["tokens"])
        events: list[Event] = []
        settings = replace(self.job.settings, dispatch=DispatchSettings())
        with LogpStore(None) as store:
            scorer = ShardScorer(
                settings,
                store,
                self.opened.spool,
                self.opened.plan,
                self.scorer.pool,
                b"",
                events.append,
                folder=self.folder,
            )
            models = self.job.models
            batches = BatchScorer(self.scorer.pool, {model.role: model for model in models}, events.append)
            if left := scorer.left([number], models):
                scorer.score(models, left, LocalDispatcher(batches))
        return [event for event in events if isinstance(event, BatchScored)]

    def _watch(self, tokens: int) -> None:
        """Schedule the exit of this process if some tokens take far longer than expected."""
        faulthandler.dump_traceback_later(self.job.patience(tokens), exit=True, file=sys.__stderr__ or sys.stderr)
