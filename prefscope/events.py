"""Events that a run emits: plain dataclasses that can be converted to JSON and back.

Both front ends consume them, the command line in the same process and the TUI from a worker's stdout.
This module does not import any other module of the project.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import get_args


@dataclass(frozen=True, slots=True)
class Noted:
    """A note for the user, for example about what was recognised or substituted."""

    text: str


@dataclass(frozen=True, slots=True)
class Progressed:
    """A step other than scoring made progress: reading, hashing, loading, writing."""

    step: str
    done: int
    total: int | None = None


@dataclass(frozen=True, slots=True)
class PairFlagged:
    """A pair has flags that make its numbers doubtful."""

    row: int
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Planned:
    """The work that is left for a model, and how it will be done."""

    role: str
    """`policy` or `ref`."""
    pairs: int
    """Pairs of the data set."""
    sequences: int
    """Distinct sequences of the data set (of each window, if it is large)."""
    missing: int
    """Sequences that are not in the store yet."""
    tokens: int
    """Tokens of the missing sequences."""
    computed: int
    """Tokens that will be computed for them: fewer if prefixes are shared, more if rows are padded."""
    padded: int
    """Tokens that a trainer's evaluation would compute for them, in padded batches of 8 pairs."""
    path: str
    """`packed` or `padded`."""
    reason: str
    """Why it is not packed; empty if it is."""
    batch_tokens: int
    """Token budget of a forward pass."""
    seconds: float
    """Estimated time, from the speed of a probe."""
    weight_bytes: int
    """Memory of the weights that are loaded at the same time."""
    other_bytes: int
    """Maximum memory of the process besides the weights."""
    resumed: bool
    """Whether the plan of an interrupted run is continued."""


@dataclass(frozen=True, slots=True)
class BatchScored:
    """A batch was computed and committed to the store."""

    role: str
    batch: int
    """Number of batches of this role that the run has scored before."""
    sequences: int
    tokens: int
    """Tokens of its sequences."""
    computed: int
    """Tokens that were actually computed."""
    seconds: float


@dataclass(frozen=True, slots=True)
class Prepared:
    """All pairs were read and written to a preview: a ledger without log-probs that can be viewed during the run."""

    preview: str
    """Path of the preview."""
    run_name: str
    """Name of the run, and of its ledger unless the user named that."""


@dataclass(frozen=True, slots=True)
class LogpsKnown:
    """Log-probs of sequences are available, newly scored or from the store; only emitted if a run is watched."""

    role: str
    scope: str
    """Scope of their keys in the store, in hex digits."""
    digests: tuple[str, ...]
    """Digest of each sequence, in hex digits."""
    sums: tuple[float, ...]
    """Sum of the log-probs of each sequence, in nats."""


@dataclass(frozen=True, slots=True)
class Halved:
    """Memory ran out; the batch is retried in halves."""

    role: str
    batch: int
    sequences: int


@dataclass(frozen=True, slots=True)
class Finished:
    """The ledger was written."""

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
    """Serialise an event as one line of JSON, without the newline."""
    return json.dumps({"event": type(event).__name__, **asdict(event)})


def from_json_line(line: str) -> Event:
    """Parse a line written by `to_json_line`.

    Raises:
        ValueError: If the line is not an event.
    """
    try:
        value = json.loads(line)
        kind = _KINDS[value.pop("event")]
        return kind(**{name: tuple(found) if isinstance(found, list) else found for name, found in value.items()})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not an event: {line[:80]}") from error
