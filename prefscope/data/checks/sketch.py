"""MinHash sketches of texts, and a search for near duplicates with them.

Texts are compared by the sets of their 8-byte sequences (UTF-8, with case and white space normalised). Their similarity
is the Jaccard index: the number of sequences in both, divided by the number in either.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Hashes: TypeAlias = NDArray[np.uint64]
Sketch: TypeAlias = NDArray[np.uint32]

BINS = 64
BANDS = 16
STRETCH = 8
_BIN_SHIFT, _VALUE_SHIFT = np.uint64(58), np.uint64(26)
_BOUNDS = np.arange(BINS, dtype=np.uint64) << _BIN_SHIFT
_MULTIPLIERS = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F))
_HALF = np.uint64(32)
_SALTS = np.array([0, 0xD6E8FEB86659FD93, 0xA0761D6478BD642F], dtype=np.uint64)
"""Salts of the parts of a text: the same words in different parts count as different."""
_ROTATION = 0x9E3779B1


def text_hashes(text: str) -> Hashes:
    """Return a hash of every 8-byte sequence of a text, repetitions included."""
    content = " ".join(text.casefold().split()).encode("utf-8", "surrogatepass").ljust(STRETCH, b"\0")
    count = len(content) - STRETCH + 1
    return _mixed(np.ndarray(count, dtype="<u8", buffer=content, strides=(1,)))


def _mixed(values: Hashes) -> Hashes:
    """Mix values so that they spread over all 64 bits."""
    for multiplier in _MULTIPLIERS:
        values = values * multiplier
        values ^= values >> _HALF
    return values


def sketch(parts: Sequence[Hashes]) -> Sketch:
    """Return the sketch of up to three texts together, each as its own part. Shape (BINS,).

    The share of equal entries of two sketches estimates the Jaccard index.

    References:
        Li, Owen, Zhang 2012, "One permutation hashing"; an empty bin takes the value of the next non-empty one, as in
        Shrivastava, Li 2014, "Densifying one permutation hashing via rotation".
    """
    hashes = np.concatenate([(part ^ _SALTS[place]) * _MULTIPLIERS[0] for place, part in enumerate(parts)])
    hashes.sort()
    first = np.searchsorted(hashes, _BOUNDS)
    after = np.append(first[1:], len(hashes))
    values = (hashes[np.minimum(first, len(hashes) - 1)] >> _VALUE_SHIFT).astype(np.uint32)
    filled = np.flatnonzero(after > first)
    if len(filled) == BINS:
        return values
    bins = np.arange(BINS)
    source = filled[np.searchsorted(filled, bins) % len(filled)]
    distance = (source - bins) % BINS
    return (values[source] + distance * _ROTATION).astype(np.uint32)


def near_matches(sketches: NDArray[np.uint32], others: NDArray[np.uint32] | None, likeness: float) -> dict[int, int]:
    """Map each sketch that is similar to an earlier one, or to one of `others`, to the index of that one.

    Candidates share at least one of 16 bands of 4 entries; two texts with a Jaccard index of 0.85 fail to do so about
    once in 130,000 cases. In each band, a sketch is only compared with the first of equal band, so sorting dominates
    the time.

    Args:
        sketches: Shape (texts, BINS).
        others: Shape (other texts, BINS); None compares the texts with each other.
        likeness: The minimum estimate of the Jaccard index.
    """
    pool = sketches if others is None else np.concatenate([others, sketches])
    offset = len(pool) - len(sketches)
    found: dict[int, int] = {}
    for band in np.split(np.ascontiguousarray(pool), BANDS, axis=1):
        keys = _mixed(band.copy().view(np.uint64)).sum(axis=1, dtype=np.uint64) ^ band[:, 0]
        order = np.argsort(keys, kind="stable")
        begins = np.append(True, keys[order][1:] != keys[order][:-1])
        firsts = np.empty_like(order)
        firsts[order] = order[np.maximum.accumulate(np.where(begins, np.arange(len(order)), 0))]
        candidates = np.flatnonzero(firsts != np.arange(len(firsts)))
        candidates = candidates[(candidates >= offset) & ((firsts[candidates] < offset) | (others is None))]
        alike = (pool[candidates] == pool[firsts[candidates]]).mean(axis=1) >= likeness
        for i in candidates[alike].tolist():
            first = int(firsts[i])
            found[i - offset] = min(first, found.get(i - offset, first))
    return found
