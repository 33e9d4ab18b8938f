"""What is handed out and what comes back: the same for every dispatcher."""

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
    """How many batches of the role were handed out before."""
    sequences: tuple[TokenSequence, ...]

    @property
    def tokens(self) -> int:
        """Of all sequences."""
        return sum(len(sequence.token_ids) for sequence in self.sequences)


@dataclass(frozen=True, slots=True)
class Unit:
    """What a worker gets at a time: the batches of a shard, or what is left of them."""

    shard: int
    turns: Iterable[Turn]
    """In their order; made when they are asked for."""
    is_whole: bool = False
    """Whether this is all that is left of the shard."""


@dataclass(frozen=True, slots=True)
class Scored:
    """A batch came back."""

    turn: Turn
    found: tuple[NDArray[np.float32], ...]
    """Per-token log-probs of each sequence, in nats, shape (num_scored,); with log Σ π² shape (num_scored, 2)."""
    seconds: float


@dataclass(frozen=True, slots=True)
class Done:
    """All batches of a unit came back."""

    unit: Unit
    is_written: bool = False
    """Whether the worker has written its parts."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """A unit killed its worker as often as it was tried; some of its batches may have come back before."""

    unit: Unit


Answer: TypeAlias = Scored | BatchScored | Done | Dropped
"""A `BatchScored` is told of a batch that does not come back, because the worker writes it into a part."""


class Dispatcher(Protocol):
    """Hands units out and yields what comes back, in any order; batches of one unit come in theirs."""

    @property
    def width(self) -> int:
        """How many batches are computed at one time."""

    def answers(self, units: Iterable[Unit], tries: int) -> Iterator[Answer]:
        """Yield the answers to all units; one that kills its worker so many times is dropped.

        Raises:
            PrefscopeError: What a user can mend; what came back before is kept.
        """


def finer(unit: Unit) -> list[Unit]:
    """Return a unit in pieces, none if it is a single sequence: each batch by itself, or each sequence of a batch."""
    turns = tuple(unit.turns)
    if len(turns) > 1:
        return [Unit(unit.shard, (turn,)) for turn in turns]
    (turn,) = turns
    if len(turn.sequences) == 1:
        return []
    return [Unit(unit.shard, (Turn(turn.role, turn.number, (one,)),)) for one in turn.sequences]
