"""Units of work and their results, the same for every dispatcher."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from prefscope.events import BatchScored, Event
from prefscope.scoring.sequences import TokenSequence

Emit = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class Turn:
    """One batch under one model."""

    role: str
    """`policy` or `ref`."""
    number: int
    """Number of the role's batches before this one."""
    sequences: tuple[TokenSequence, ...]

    @property
    def tokens(self) -> int:
        """Total number of tokens of the sequences."""
        return sum(len(sequence.token_ids) for sequence in self.sequences)


@dataclass(frozen=True, slots=True)
class Unit:
    """The batches that a worker receives at once: those of a shard that are not yet scored, or some of them."""

    shard: int
    turns: Iterable[Turn]
    """The batches in order; may be generated lazily."""
    is_whole: bool = False
    """Whether this is everything that is left of the shard."""


@dataclass(frozen=True, slots=True)
class Scored:
    """The result of a batch."""

    turn: Turn
    found: tuple[NDArray[np.float32], ...]
    """Per-token log-probs of each sequence, in nats, shape (num_scored,); with log Σ π² shape (num_scored, 2)."""
    seconds: float


@dataclass(frozen=True, slots=True)
class Done:
    """All batches of a unit are finished."""

    unit: Unit
    is_written: bool = False
    """Whether the worker has written the parts."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """A unit was given up because it crashed its workers too often; some of its batches may be finished."""

    unit: Unit


Answer: TypeAlias = Scored | BatchScored | Done | Dropped
"""A `BatchScored` reports a batch whose results are not returned, as the worker writes them into a part."""


class Dispatcher(Protocol):
    """Distributes units to workers and yields results as they arrive; batches of one unit arrive in order."""

    @property
    def width(self) -> int:
        """Number of batches computed at the same time."""

    def answers(self, units: Iterable[Unit], tries: int) -> Iterator[Answer]:
        """Yield the results of all units; a unit that crashes its worker `tries` times is dropped.

        Raises:
            PrefscopeError: Anything that a user can fix; results that have arrived are kept.
        """


def finer(unit: Unit) -> list[Unit]:
    """Split a unit into its batches, or a batch into its sequences; empty if it is a single sequence."""
    turns = tuple(unit.turns)
    if len(turns) > 1:
        return [Unit(unit.shard, (turn,)) for turn in turns]
    (turn,) = turns
    if len(turn.sequences) == 1:
        return []
    return [Unit(unit.shard, (Turn(turn.role, turn.number, (one,)),)) for one in turn.sequences]
