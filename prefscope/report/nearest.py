"""The pairs whose prompts are most like a pair's: an index of the words of all prompts of a ledger."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from prefscope.ledger.table import Ledger

MOST = 3
LEAST_SIMILARITY = 0.2
PROMPT_CHARACTERS = 2000
"""Number of characters at the end of a prompt that are compared: the request comes last."""
MEASURE = (
    "weight of the words that two prompts share, divided by that of all their words; a word of n among N prompts "
    f"weighs log((N + 1)/n), and only the last {PROMPT_CHARACTERS:,} characters count"
)
_WORDS = re.compile(r"[぀-ヿ㐀-鿿가-힯฀-๿]|\w+")
"""Words; scripts without spaces by character."""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A pair with a similar prompt."""

    position: int
    """Position in the ledger."""
    similarity: float
    """0 for no shared word, 1 for the same words."""


class PromptIndex:
    """The words of every prompt as numbers: 8 bytes a word."""

    def __init__(self, ledger: Ledger) -> None:
        """Read all prompts: a few seconds for 100,000 pairs."""
        numbers: dict[str, int] = {}
        words, counts = [np.zeros(0, dtype=np.int32)], [0]
        for group in ledger.read(["prompt"]):
            found = [{numbers.setdefault(word, len(numbers)) for word in _words(prompt)} for prompt in group["prompt"]]
            words.append(np.fromiter(chain.from_iterable(found), dtype=np.int32))
            counts += map(len, found)
        self._words = np.concatenate(words)
        self._starts = np.cumsum(counts)
        pairs = len(counts) - 1
        self._owners = np.repeat(np.arange(pairs, dtype=np.int32), np.diff(self._starts))
        frequencies = np.bincount(self._words, minlength=len(numbers))
        self._weights = np.log((pairs + 1) / np.maximum(frequencies, 1))
        self._totals = self._sums(np.ones(len(self._words), dtype=np.bool_))

    def _sums(self, which: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return the weight of the selected words in each prompt. Shape (num_pairs,)."""
        weights = self._weights[self._words[which]]
        sums = np.bincount(self._owners[which], weights=weights, minlength=len(self._starts) - 1)
        return sums.astype(np.float64)

    def nearest(self, position: int, most: int = MOST) -> list[Neighbour]:
        """Return the pairs with the most similar prompts, the most similar first; see `MEASURE`."""
        own = np.zeros(len(self._weights), dtype=np.bool_)
        own[self._words[self._starts[position] : self._starts[position + 1]]] = True
        shared = self._sums(own[self._words])
        union = self._totals + self._totals[position] - shared
        similar = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
        similar[position] = -math.inf
        best = np.argsort(-similar, kind="stable")[:most]
        return [Neighbour(int(at), float(similar[at])) for at in best if similar[at] >= LEAST_SIMILARITY]


def _words(prompt: str) -> list[str]:
    return _WORDS.findall(prompt[-PROMPT_CHARACTERS:].lower())
