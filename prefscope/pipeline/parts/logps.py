"""The parts as the source of a ledger's log-probs, read in the order of the pairs."""

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
"""Of the parts that were read last: neighbouring pairs need the same few, those of the sample among them."""


@dataclass(slots=True)
class PartLogps:
    """The log-probs of all sequences of a plan, from parts."""

    folder: PartsFolder
    plan: Plan
    scopes: Mapping[str, str]
    """The folder of each role's parts."""
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
        """Of the models that were run."""
        return self.scopes

    def logps(self, role: str, side: str, start: int, sequences: Sequence[TokenSequence]) -> Sequence[MaybeLogps]:
        """Return the log-probs of one side of neighbouring pairs, the first of which has the number `start`.

        Raises:
            ResourceError: A part is not there, or damaged.
        """
        return self._find(self.scopes[role], side, start, sequences)

    def collisions(self, role: str, side: str, start: int, sequences: Sequence[TokenSequence]) -> Sequence[MaybeLogps]:
        """Return log Σ π² in their place; raises as `logps` does."""
        return self._find(f"{self.scopes[role]}{COLLISIONS}", side, start, sequences)

    def _find(self, scope: str, side: str, start: int, sequences: Sequence[TokenSequence]) -> Sequence[MaybeLogps]:
        numbers = 2 * (start + np.arange(len(sequences))) + SIDES.index(side)
        shards = self._shards[self.plan.owners[numbers] // 2].tolist()
        return [self._part(scope, shard)[one.digest()] for shard, one in zip(shards, sequences, strict=True)]

    def _part(self, scope: str, shard: int) -> dict[bytes, MaybeLogps]:
        """Return a part, which is read if it is not among those that were read last."""
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
