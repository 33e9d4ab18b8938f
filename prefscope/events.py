"""What a run says while it goes: past facts as plain dataclasses, JSON both ways.

Both front ends read these, the command line in the same process and the TUI from a worker's stdout.
This module imports nothing of the project.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import get_args


@dataclass(frozen=True, slots=True)
class Noted:
    """Something that a person should know: what was recognised, what was substituted."""

    text: str


@dataclass(frozen=True, slots=True)
class Progressed:
    """A step other than scoring moved on: reading, hashing, loading, writing."""

    step: str
    done: int
    total: int | None = None


@dataclass(frozen=True, slots=True)
class PairFlagged:
    """A pair carries flags that make its numbers doubtful."""

    row: int
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Planned:
    """What a model still has to compute, and how."""

    role: str
    """`policy` or `ref`."""
    pairs: int
    """Of the data set."""
    sequences: int
    """Distinct sequences of the data set (of each window of it, where it is large)."""
    missing: int
    """Those that the store does not have yet."""
    tokens: int
    """Tokens of the missing sequences."""
    computed: int
    """Tokens that will be computed for them: fewer where beginnings are shared, more where rows are padded."""
    padded: int
    """Tokens that a trainer's evaluation would compute for them, in padded batches of 8 pairs."""
    path: str
    """`packed` or `padded`."""
    reason: str
    """Why it is not packed; empty where it is."""
    batch_tokens: int
    """Budget of a forward pass."""
    seconds: float
    """Estimate, from the speed of a probe."""
    weight_bytes: int
    """Memory of the weights that are resident at one time."""
    other_bytes: int
    """What the process takes beside them at most."""
    resumed: bool
    """Whether an interrupted run's plan goes on."""


@dataclass(frozen=True, slots=True)
class BatchScored:
    """A batch was computed and committed to the store."""

    role: str
    batch: int
    """How many batches of the role this run scored before."""
    sequences: int
    tokens: int
    """Tokens of its sequences."""
    computed: int
    """Tokens that were computed for them."""
    seconds: float


@dataclass(frozen=True, slots=True)
class Prepared:
    """All pairs are read and wait as a ledger without log-probs, which can be looked at while the run goes on."""

    preview: str
    """The file."""
    run_name: str
    """What names the run, and its ledger where nobody named that."""


@dataclass(frozen=True, slots=True)
class LogpsKnown:
    """Sequences of a run that is watched have their log-probs: just scored, or found in the store."""

    role: str
    scope: str
    """First part of their keys in the store, in hex digits."""
    digests: tuple[str, ...]
    """Of each sequence, in hex digits."""
    sums: tuple[float, ...]
    """Σ of the log-probs of each, in nats."""


@dataclass(frozen=True, slots=True)
class Halved:
    """Memory ran out: the batch is tried again in halves."""

    role: str
    batch: int
    sequences: int


@dataclass(frozen=True, slots=True)
class Finished:
    """The ledger is written."""

    ledger: str
    pairs: int
    scoring_seconds: float


@dataclass(frozen=True, slots=True)
class Failed:
    """The run ended without a ledger."""

    message: str
    exit_code: int


Event = Noted | Progressed | PairFlagged | Planned | BatchScored | Prepared | LogpsKnown | Halved | Finished | Failed
_KINDS: dict[str, Callable[..., Event]] = {kind.__name__: kind for kind in get_args(Event)}


def to_json_line(event: Event) -> str:
    """Return the event as one line of JSON, without the newline."""
    return json.dumps({"event": type(event).__name__, **asdict(event)})


def from_json_line(line: str) -> Event:
    """Return the event that `to_json_line` wrote.

    Raises:
        ValueError: The line is no event.
    """
    try:
        value = json.loads(line)
        kind = _KINDS[value.pop("event")]
        return kind(**{name: tuple(found) if isinstance(found, list) else found for name, found in value.items()})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not an event: {line[:80]}") from error
