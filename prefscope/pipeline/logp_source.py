"""Sources of a run's log-probs: the store, by sequence, or a folder of parts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from prefscope.errors import ResourceError
from prefscope.scoring.sequences import TokenSequence
from prefscope.scoring.store import LogpStore, collision_key, sequence_key

SIDES = ("chosen", "rejected")
ROLES = ("policy", "ref")
KeyOf = Callable[[bytes, bytes], bytes]
"""Computes the store key of a sequence from scope and digest."""


MaybeLogps = NDArray[np.float32] | None
"""Per-token log-probs in nats, shape (num_scored,); None for a sequence that crashes every process computing it."""


class Texts(Protocol):
    """Converts token ids to readable texts."""

    def texts(self, ids: NDArray[np.int32]) -> list[str]:
        """Return the text of each token."""


class LogpSource(Protocol):
    """Provides the log-probs of all sequences of a run."""

    @property
    def roles(self) -> Collection[str]:
        """Roles of the models with log-probs."""

    def logps(self, role: str, side: str, start: int, sequences: Sequence[TokenSequence]) -> Sequence[MaybeLogps]:
        """Return the log-probs of one side of consecutive pairs; `start` is the number of the first pair."""

    def collisions(self, role: str, side: str, start: int, sequences: Sequence[TokenSequence]) -> Sequence[MaybeLogps]:
        """Return log Σ π² per token, with the same arguments as `logps`."""


@dataclass(frozen=True, slots=True)
class StoredLogps:
    """A store that has the log-probs of all sequences except those that crashed."""

    store: LogpStore
    scopes: Mapping[str, bytes]
    """The scope of the store keys, by role."""
    crashed: Mapping[str, Container[bytes]] = field(default_factory=dict)
    """Digests of the sequences that crashed, by role."""

    @property
    def roles(self) -> Collection[str]:
        """Roles of the models with log-probs."""
        return self.scopes

    def logps(self, role: str, side: str, start: int, sequences: Sequence[TokenSequence]) -> Sequence[MaybeLogps]:  # noqa: ARG002
        """Return the log-probs of sequences; their position does not matter."""
        return self.find(role, sequences, sequence_key)

    def collisions(self, role: str, side: str, start: int, sequences: Sequence[TokenSequence]) -> Sequence[MaybeLogps]:  # noqa: ARG002
        """Return log Σ π² per token of sequences; their position does not matter."""
        return self.find(role, sequences, collision_key)

    def find(self, role: str, sequences: Sequence[TokenSequence], name: KeyOf) -> Sequence[MaybeLogps]:
        """Return what is stored of each sequence under the keys of `name`; None for those that crashed."""
        lost = self.crashed.get(role, ())
        alive = [one for one in sequences if one.digest() not in lost] if lost else [*sequences]
        found = iter(stored_logps(self.store, self.scopes[role], alive, name))
        return [None if lost and one.digest() in lost else next(found) for one in sequences]


def stored_logps(
    store: LogpStore,
    scope: bytes,
    sequences: list[TokenSequence],
    name: KeyOf = sequence_key,
) -> list[NDArray[np.float32]]:
    """Return each sequence's per-token log-probs in nats, or other values that are stored under the keys of `name`.

    Raises:
        ResourceError: If a sequence is not in the store.
    """
    keys = [name(scope, sequence.digest()) for sequence in sequences]
    found = store.lookup(keys)
    if any(key not in found for key in keys):
        raise ResourceError(
            "Log-probs that were just computed are no longer in the store: it was cleared or damaged",
            where=str(store.path),
            hint="Run the same command again; only what is missing is recomputed.",
        )
    return [found[key] for key in keys]
