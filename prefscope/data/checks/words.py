"""The words of a random sample of pairs, as numbers, in which phrases are searched."""

from __future__ import annotations

import random
import re
from array import array
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

SAMPLED_PAIRS = 5_000
"""Size of the sample; a larger one takes longer and finds the same phrases."""
LONGEST_PHRASE = 4
# Scripts without spaces are read character by character.
_WORD = re.compile(
    r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\u0e00-\u0e7f]|[^\W_\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\u0e00-\u0e7f]+"
    r"(?:['’][^\W_\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\u0e00-\u0e7f]+)*"
)
_FACTOR, _START = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD6E8FEB86659FD93)
_SHIFT = np.uint64(29)

Words: TypeAlias = NDArray[np.int32]


@dataclass
class WordSample:
    """The words of both responses of up to 5,000 pairs, drawn at random with a fixed seed."""

    rows: list[int] = field(default_factory=list)
    sides: list[tuple[array[int], array[int]]] = field(default_factory=list)
    """The word numbers of chosen and rejected, in order."""
    numbers: dict[str, int] = field(default_factory=dict)
    seen: int = 0
    _random: random.Random = field(default_factory=lambda: random.Random(0))  # noqa: S311 (not for security)

    def add(self, row: int, chosen: str, rejected: str) -> None:
        """Offer a pair to the sample; a later pair may replace it."""
        self.seen += 1
        if len(self.rows) < SAMPLED_PAIRS:
            place = len(self.rows)
            self.rows.append(row)
            self.sides.append(self._read(chosen, rejected))
        elif (place := self._random.randrange(self.seen)) < SAMPLED_PAIRS:
            self.rows[place], self.sides[place] = row, self._read(chosen, rejected)

    def _read(self, chosen: str, rejected: str) -> tuple[array[int], array[int]]:
        numbers = self.numbers
        first, second = (
            array("i", [numbers.setdefault(word, len(numbers)) for word in _WORD.findall(text.casefold())])
            for text in (chosen, rejected)
        )
        return first, second

    def spelled(self) -> list[str]:
        """Return the words, indexed by number."""
        return list(self.numbers)


def phrase_keys(numbers: array[int]) -> tuple[NDArray[np.uint64], NDArray[np.int32], NDArray[np.int8]]:
    """Return the hash, first position and number of words of every distinct phrase of a text, by ascending hash."""
    words: Words = np.frombuffer(numbers, dtype=np.int32)
    keys = [_hashed(np.full(len(words), _START), words)]
    for size in range(2, min(LONGEST_PHRASE, len(words)) + 1):
        keys.append(_hashed(keys[-1][:-1], words[size - 1 :]))
    places = np.concatenate([np.arange(len(some), dtype=np.int32) for some in keys])
    sizes = np.repeat(np.arange(1, len(keys) + 1, dtype=np.int8), [len(some) for some in keys])
    distinct, first = np.unique(np.concatenate(keys), return_index=True)
    return distinct, places[first], sizes[first]


def _hashed(before: NDArray[np.uint64], words: Words) -> NDArray[np.uint64]:
    mixed = (before ^ (words.astype(np.uint64) + np.uint64(1))) * _FACTOR
    hashed: NDArray[np.uint64] = (mixed ^ (mixed >> _SHIFT)) * _FACTOR
    return hashed
