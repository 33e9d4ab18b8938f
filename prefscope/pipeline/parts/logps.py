"""Reads the log-probs of a ledger from parts, in the order of the pairs."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from prefscope.pipeline.logp_source import SIDES, MaybeLogps
from prefscope.pipeline.parts.folder import COLLISIONS, PartsFolder
from prefscope.pipeline.shards import Plan
from prefscope.scoring.sequences import TokenSequence

KEPT_BYTES = 1 << 29
"""Size of the cache of recently read parts; consecutive pairs need the same few parts."""


@dataclass(slots=True)
class PartLogps:
    """The log-probs of all sequences of a plan, read from parts."""

    folder: PartsFolder
    plan: Plan
    scopes: Mapping[str, str]
    """Folder of the parts, by role."""
    _shards: NDArray[np.int32] = field(init=False)
    """The shard of each pair."""
    _read: OrderedDict[tuple[str, int], dict[bytes, MaybeLogps]] = field(default_factory=OrderedDict)
    _bytes: int = 0

    def __post_init__(self) -> None:
        sizes = np.diff(self.plan.starts)
        self._shards = np.empty(len(self.plan.order), dtype=np.int32)
        self._shards[self.plan.order] = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)

    @property
    def roles(self) -> Collection[str]:
        """Roles of the models with log-probs."""
        return self.scopes

    def logps(self, role: str, side: str, start: int, sequences: Sequence[TokenSequence]) -> Sequence[MaybeLogps]:
        """Return the log-probs of one side of consecutive pairs; `start` is the number of the first pair.

        Raises:
            ResourceError: If a part is missing or damaged.
        """
        return self._find(self.scopes[role], side, start, sequences)

    def collisions(self, role: str, side: str, start: int, sequences: Sequence[TokenSequence]) -> Sequence[MaybeLogps]:
        """Return log Σ π² per token; arguments and errors as in `logps`."""
        return self._find(f"{self.scopes[role]}{COLLISIONS}", side, start, sequences)

    def _find(self, scope: str, side: str, start: int, sequences: Sequence[TokenSequence]) -> Sequence[MaybeLogps]:
        numbers = 2 * (start + np.arange(len(sequences))) + SIDES.index(side)
        shards = self._shards[self.plan.owners[numbers] // 2].tolist()
        return [self._logps_of(scope, shard, one) for shard, one in zip(shards, sequences, strict=True)]

    def _logps_of(self, scope: str, shard: int, sequence: TokenSequence) -> MaybeLogps:
        """Return the log-probs of a sequence from the part of a shard.

        Raises:
            DamagedPartError: If the part does not have the sequence, or has the wrong number of values for it.
        """
        part, digest = self._part(scope, shard), sequence.digest()
        found = part.get(digest)
        if digest not in part or (found is not None and len(found) != sequence.num_scored):
            raise self.folder.damaged_part(scope, self.plan.names[shard])
        return found

    def _part(self, scope: str, shard: int) -> dict[bytes, MaybeLogps]:
        """Return a part, from the cache or from the folder."""
        place = (scope, shard)
        if place in self._read:
            self._read.move_to_end(place)
            return self._read[place]
        found = self._read[place] = self.folder.read_part(scope, self.plan.names[shard])
        self._bytes += _size(found)
        while self._bytes > KEPT_BYTES and len(self._read) > 1:
            self._bytes -= _size(self._read.popitem(last=False)[1])
        return found


def _size(part: Mapping[bytes, MaybeLogps]) -> int:
    return sum(0 if vector is None else vector.nbytes for vector in part.values())
