"""The margin of every pair over several runs, from the first checkpoint to the last."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from prefscope.ledger.columns import STORED
from prefscope.ledger.courses import Courses
from prefscope.ledger.pairing import Pairing, run_names
from prefscope.ledger.table import Ledger
from prefscope.ledger.view import View
from prefscope.preference.diagnostics.trajectories import Trajectories, trajectories
from prefscope.report.export import Block, write_table
from prefscope.report.files import refuse_sources
from prefscope.report.summary import finite_pairs
from prefscope.report.training import Training, training
from prefscope.settings import PreferenceSettings

BLOCK_PAIRS = 10_000


@dataclass(frozen=True, slots=True)
class Followed:
    """The pairs that all runs share and whose margins are all finite, in the order of the first run."""

    names: tuple[str, ...]
    ledgers: tuple[Ledger, ...]
    positions: NDArray[np.int64]
    """Position of each pair in each ledger. Shape (runs, pairs)."""
    margins: NDArray[np.float64]
    """In beta·nats. Shape (runs, pairs)."""
    trajectories: Trajectories
    steps: tuple[int, ...]
    """The step of each run; 1, 2, 3, … if that is unknown."""
    training: Training
    """The figures of these pairs at every step."""

    @property
    def learnt_at(self) -> NDArray[np.float64]:
        """The step from which on each pair is right; nan if it is wrong at the last one. Shape (pairs,)."""
        return Courses.of(self.steps, self.margins).column("learnt_at", 1.0)


def follow(
    ledgers: Sequence[Ledger], preferences: PreferenceSettings, steps: Sequence[int] | None = None, by: str = ""
) -> Followed:
    """Return the margins of the pairs that all runs share; each run needs a reference.

    Args:
        ledgers: The runs, in the order of training.
        preferences: Beta and losses.
        steps: The step of each run; None if it is unknown.
        by: A column to group the pairs by; empty for none.

    Raises:
        UsageError: A run has no such column.
    """
    views = [View(ledger, preferences) for ledger in ledgers]
    positions = _shared(ledgers)
    finite = [finite_pairs(ledger)[places] for ledger, places in zip(ledgers, positions, strict=True)]
    positions = positions[:, np.all(finite, axis=0)]
    margins = np.array([view.column("margins")[places] for view, places in zip(views, positions, strict=True)])
    names, steps = tuple(run_names(ledgers)), tuple(range(1, len(ledgers) + 1) if steps is None else steps)
    shared = [view.only(_mask(view, places)) for view, places in zip(views, positions, strict=True)]
    figures = training(shared, steps, by)
    return Followed(names, tuple(ledgers), positions, margins, trajectories(margins), steps, figures)


def _mask(view: View, places: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which pairs are at some places."""
    mask = np.zeros(view.ledger.num_pairs, dtype=np.bool_)
    mask[places] = True
    return mask


def _shared(ledgers: Sequence[Ledger]) -> NDArray[np.int64]:
    """Return the positions of the shared pairs in each ledger. Shape (ledgers, shared)."""
    first, *others = ledgers
    places = np.full((len(ledgers), first.num_pairs), -1, dtype=np.int64)
    places[0] = np.arange(first.num_pairs)
    for number, other in enumerate(others, start=1):
        own, theirs = Pairing(first, other).positions
        places[number, own] = theirs
    return places[:, (places >= 0).all(axis=0)]


def write_followed(followed: Followed, path: Path) -> None:
    """Write a row per pair: its margin in every run, its course, confidence and variability.

    Raises:
        UsageError: The suffix is unknown, or the path is that of a ledger.
        ResourceError: The file cannot be written.
    """
    for ledger in followed.ledgers:
        refuse_sources(path, ledger)
    kinds = {column.name: column.kind for column in STORED}
    kinds |= {"course": "text", "learnt_at": "integer", "flips": "integer"}
    write_table(path, _blocks(followed), kinds)


def _blocks(followed: Followed) -> Iterator[Block]:
    found, stored = followed.trajectories, followed.ledgers[0].stored
    size, learnt_at = followed.positions.shape[1], followed.learnt_at
    for start in range(0, max(size, 1), BLOCK_PAIRS):
        part = slice(start, start + BLOCK_PAIRS)
        own = followed.positions[0, part]
        block = {name: stored[name][own].tolist() for name in ("row", "pair_id")}
        block |= {
            f"margins:{name}": values[part].tolist()
            for name, values in zip(followed.names, followed.margins, strict=True)
        }
        block["course"] = found.courses[part].tolist()
        block["learnt_at"] = [None if math.isnan(step) else int(step) for step in learnt_at[part].tolist()]
        numbers = ("flips", "confidence", "variability", "correctness")
        block |= {name: getattr(found, name)[part].tolist() for name in numbers}
        yield block
