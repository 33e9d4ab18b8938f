"""Packs sequences into one row without padding, in which shared prefixes occur once.

    prompt ─┬─ chosen            row        prompt | chosen | rejected | prompt' | …
            └─ rejected          positions  0 … p-1  p …      p …        0 …

Sorted by their tokens, sequences are the leaves of a tree, whose edges are the segments of the row. A segment continues
its parent, so its tokens attend to its ancestors and to itself; its descendants follow it directly in the row. This
module does not import torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from prefscope.scoring.sequences import TokenSequence

Ints = NDArray[np.int64]

SHARING_GAIN = 32
"""A shared segment costs each token below it another attention step, about 1/32 of the cost of a token."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Consecutive tokens of a row with the same ancestors."""

    start: int
    stop: int
    """End of its own tokens."""
    subtree_stop: int
    """End of its descendants' tokens, which directly follow its own."""
    parent: int
    """Number of the segment that it continues, or -1."""


@dataclass(frozen=True, slots=True)
class PackedRow:
    """The tokens of many sequences in one row of length T."""

    token_ids: Ints
    """Shape (T,)."""
    positions: Ints
    """Position of each token in its sequence, from 0. Shape (T,)."""
    predecessors: Ints
    """Index in the row of the previous token, whose hidden state predicts this one; -1 for first tokens. Shape (T,)."""
    scored: NDArray[np.bool_]
    """Whether the token's log-prob is needed for any sequence. Shape (T,)."""
    segments: tuple[Segment, ...]
    """Segments in the order of the row, parents before children."""
    paths: tuple[Ints, ...]
    """For each sequence, in the given order, the indices of its tokens in the row."""


def pack(sequences: Sequence[TokenSequence]) -> PackedRow:
    """Pack sequences, at least one of which has a token, into a row; shared prefixes occur once."""
    order = sorted(range(len(sequences)), key=lambda i: sequences[i].token_ids.astype(">i4").tobytes())
    ids = [sequences[i].token_ids for i in order]
    spans, leaves = _grow(ids)
    stops = np.cumsum([span.stop - span.start for span in spans], dtype=np.int64)
    segments = _lay_out(spans, stops)
    predecessors = np.arange(-1, int(stops[-1]) - 1)
    for segment in segments:
        predecessors[segment.start] = -1 if segment.parent < 0 else segments[segment.parent].stop - 1
    scored = np.zeros(int(stops[-1]), dtype=np.bool_)
    paths: list[Ints] = [np.empty(0, dtype=np.int64)] * len(sequences)
    for place, leaf in zip(order, leaves, strict=True):
        paths[place] = _path(segments, leaf)
        scored[paths[place][sequences[place].first_scored :]] = True
    return PackedRow(
        token_ids=np.concatenate([ids[span.source][span.start : span.stop] for span in spans]).astype(np.int64),
        positions=np.concatenate([np.arange(span.start, span.stop) for span in spans]),
        predecessors=predecessors,
        scored=scored,
        segments=segments,
        paths=tuple(paths),
    )


@dataclass(frozen=True, slots=True)
class _Span:
    """An edge of the tree: a range of tokens of a sorted sequence, and the edge that it continues."""

    source: int
    start: int
    stop: int
    parent: int


def _grow(ids: list[NDArray[np.int32]]) -> tuple[list[_Span], list[int]]:
    """Return the edges of the tree of sorted sequences, in depth-first order, and each sequence's last edge."""
    shared = np.array([0, *(shared_length(a, b) for a, b in pairwise(ids))])
    lengths = np.array([len(sequence) for sequence in ids])
    spans: list[_Span] = []
    leaves = [-1] * len(ids)
    waiting = [(0, len(ids), 0, -1)]  # first and last sequence; number of their tokens so far; the edge of those tokens
    while waiting:
        low, high, start, parent = waiting.pop()
        inner = shared[low + 1 : high]
        stop = int(inner.min(initial=lengths[low]))
        alike = bool((inner == lengths[low]).all() and (lengths[low:high] == lengths[low]).all())
        below = int((lengths[low:high] - stop).sum())
        if stop > start and (alike or (stop - start) * (high - low - 1) * SHARING_GAIN >= below):
            spans.append(_Span(low, start, stop, parent))
            start, parent = stop, len(spans) - 1
        if alike:
            leaves[low:high] = [parent] * (high - low)
            continue
        cuts = [low, *(low + 1 + np.flatnonzero(inner == stop)).tolist(), high]
        waiting += [(a, b, start, parent) for a, b in reversed(list(pairwise(cuts)))]
    return spans, leaves


def _lay_out(spans: list[_Span], stops: Ints) -> tuple[Segment, ...]:
    """Return the segments of the row, with the ends of their descendants."""
    ends = stops.tolist()
    for i in range(len(spans) - 1, -1, -1):
        parent = spans[i].parent
        if parent >= 0:
            ends[parent] = max(ends[parent], ends[i])
    starts = [0, *stops.tolist()]
    return tuple(Segment(starts[i], starts[i + 1], ends[i], span.parent) for i, span in enumerate(spans))


def _path(segments: tuple[Segment, ...], leaf: int) -> Ints:
    """Return the indices of all tokens from the root to the end of a segment."""
    parts = []
    while leaf >= 0:
        parts.append(np.arange(segments[leaf].start, segments[leaf].stop))
        leaf = segments[leaf].parent
    return np.concatenate(parts[::-1]) if parts else np.empty(0, dtype=np.int64)


def shared_length(some: NDArray[np.int32], others: NDArray[np.int32]) -> int:
    """Return the number of leading tokens that two arrays share."""
    length = min(len(some), len(others))
    differing = some[:length] != others[:length]
    return int(differing.argmax()) if differing.any() else length
