"""The models of a run before they are loaded: their fingerprints, and which of them can share weights."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from prefscope.events import Event, Progressed
from prefscope.scoring import models as loading
from prefscope.scoring.adapter_files import is_additive
from prefscope.scoring.checkpoints import Checkpoint, FileStamp, file_stamps, fingerprint
from prefscope.scoring.headers import stored_dtype
from prefscope.scoring.splitting import refuse_unsplittable
from prefscope.scoring.store import LogpStore
from prefscope.settings import ScoreSettings


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model of a run before it is loaded."""

    role: str
    """`policy` or `ref`."""
    checkpoint: Checkpoint
    fingerprint: str
    stored_dtype: str
    attention: str
    """The attention implementation that transformers chose."""
    stamps: tuple[FileStamp, ...]
    """Stamps of its files at the time when the fingerprint was taken."""
    host: str
    """The machine on which the fingerprint was taken."""

    def has_changed(self) -> bool:
        """Return whether its files changed after the fingerprint was taken; always false on other machines."""
        return self.host == socket.gethostname() and file_stamps(self.checkpoint) != self.stamps


def find_candidates(
    settings: ScoreSettings, store: LogpStore, checkpoints: Sequence[Checkpoint], emit: Callable[[Event], None]
) -> list[Candidate]:
    """Return the candidates of a run: the policy, and the reference, if any.

    Args:
        settings: What to score and how.
        store: Caches hashes of files.
        checkpoints: The policy's, then the reference's.
        emit: Called with progress.

    Raises:
        ModelError: If a checkpoint cannot be read, or cannot be split among processes as requested.
    """
    candidates = []
    for role, checkpoint in zip(("policy", "ref"), checkpoints, strict=False):
        stamps = file_stamps(checkpoint)
        mark = fingerprint(
            checkpoint,
            store,
            allow_pickle=settings.models.allow_pickle,
            progress=lambda done, total, role=role: emit(Progressed(f"reading {role} weights", done, total)),  # type: ignore[misc]
        )
        attention = loading.attention_of(checkpoint, settings.models)
        if settings.models.tp > 1:
            config = loading.load_config(checkpoint.full, settings.models)
            refuse_unsplittable(checkpoint, config, settings.models.tp)
        candidates.append(
            Candidate(role, checkpoint, mark, stored_dtype(checkpoint), attention, stamps, socket.gethostname())
        )
    return candidates


def group_by_weights(candidates: Sequence[Candidate]) -> tuple[tuple[Candidate, ...], ...]:
    """Group the candidates that can share weights: a base and additive adapters on it.

    An adapter that is not additive still shares weights with the same adapter switched off. Its base, if that is a
    candidate itself, or another adapter on its base has to be loaded separately.
    """
    checkpoints = [candidate.checkpoint for candidate in candidates]
    adapters = {checkpoint.path: checkpoint for checkpoint in checkpoints if checkpoint.base is not None}
    is_one_base = len({checkpoint.full.path.resolve() for checkpoint in checkpoints}) == 1
    is_one_adapter = len(adapters) == 1 and all(checkpoint.base is not None for checkpoint in checkpoints)
    if is_one_base and (is_one_adapter or all(is_additive(adapter) for adapter in adapters.values())):
        return (tuple(candidates),)
    return tuple((candidate,) for candidate in candidates)
