"""Find phrases that alone predict which response is chosen: a model may learn these instead of the preference."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from prefscope.data.checks.check import NOTHING, Example, Found, check_of_data
from prefscope.data.checks.text_index import TextIndex
from prefscope.data.checks.words import LONGEST_PHRASE, SAMPLED_PAIRS, WordSample, phrase_keys
from prefscope.statistics import upper_tail

PRECISION = 0.95
"""Minimum share of the pairs with the phrase in only one response in which that response has the same label."""
LEAST_PAIRS = 10
LEAST_SHARE = 0.02
SAME_PAIRS = 0.8
"""A phrase is not listed if a more significant phrase covers at least this share of its telling pairs."""
SIGNIFICANCE = 0.001
"""Significance level over all examined phrases together (Bonferroni correction)."""
LISTED_PHRASES = 5
_BUCKETS = 1 << 22


@dataclass(frozen=True, slots=True)
class Phrase:
    """A phrase that predicts the label."""

    words: tuple[str, ...]
    side: str
    """The response that it predicts: `chosen` or `rejected`."""
    pairs: int
    """Number of pairs that have it in only one response."""
    telling: int
    """Number of those pairs that have it in the response of `side`."""
    p_value: float
    """p-value of this phrase, corrected for the number of examined phrases."""
    rows: tuple[int, ...]
    """The pairs that have it only in the response of `side`."""

    @property
    def text(self) -> str:
        """The phrase as text, without spaces in scripts that have none."""
        joined = self.words[0]
        for before, word in zip(self.words, self.words[1:], strict=False):
            together = len(before) == len(word) == 1 and not (before.isascii() or word.isascii())
            joined += word if together else f" {word}"
        return joined


@dataclass(frozen=True, slots=True)
class _Occurrences:
    """Occurrences of phrases in only one response of a pair; all arrays have one row per occurrence."""

    keys: NDArray[np.uint64]
    pairs: NDArray[np.int64]
    """Index of the pair in the sample."""
    in_chosen: NDArray[np.bool_]
    expected: NDArray[np.float64]
    """Probability of occurring in chosen if all phrases of only one response were assigned at random."""
    places: NDArray[np.int32]
    sizes: NDArray[np.int8]


def _differing(sample: WordSample) -> Iterator[_Occurrences]:
    """Yield, for each pair, the phrases that only one of its responses has."""
    for pair, (first, second) in enumerate(sample.sides):
        if not (first and second):
            continue
        chosen, rejected = phrase_keys(first), phrase_keys(second)
        only_chosen = ~np.isin(chosen[0], rejected[0], assume_unique=True)
        only_rejected = ~np.isin(rejected[0], chosen[0], assume_unique=True)
        keys, places, sizes = (np.concatenate([chosen[i][only_chosen], rejected[i][only_rejected]]) for i in range(3))
        in_chosen = np.arange(len(keys)) < np.count_nonzero(only_chosen)
        share = np.full(len(keys), in_chosen.mean() if len(keys) else 0.0)
        yield _Occurrences(keys, np.full(len(keys), pair), in_chosen, share, places, sizes)


def _frequent(sample: WordSample, least: int) -> _Occurrences:
    """Return the occurrences of phrases that are in only one response in at least `least` pairs.

    A first pass counts in 4 million hash buckets, so that the second only keeps candidates.
    """
    counts = np.zeros(_BUCKETS, dtype=np.int32)
    mask = np.uint64(_BUCKETS - 1)
    for found in _differing(sample):
        counts[(found.keys & mask).astype(np.int64)] += 1  # a collision within a pair counts once: 1 in 3,000
    kept = []
    for found in _differing(sample):
        often = counts[(found.keys & mask).astype(np.int64)] >= least
        kept.append([getattr(found, name)[often] for name in _Occurrences.__slots__])
    if not kept:
        return _Occurrences(*(np.empty(0, dtype=kind) for kind in ("u8", "i8", "?", "f8", "i4", "i1")))
    return _Occurrences(*(np.concatenate(column) for column in zip(*kept, strict=True)))


def telling_phrases(sample: WordSample) -> list[Phrase]:
    """Return the phrases of 1 to 4 words that alone predict the label, the most significant first.

    Only pairs that have a phrase in just one response are counted. If all such phrases of a pair were assigned at
    random, a phrase would be in the chosen response with a probability equal to that response's share of them, which
    is larger for longer responses. A phrase predicts the label if it is on the same side in at least 95% of at least
    10 pairs and 2% of all pairs, and the binomial tail, with the mean of those probabilities, is below 0.001 after
    Bonferroni correction.
    """
    least = max(LEAST_PAIRS, round(LEAST_SHARE * len(sample.rows)))
    found = _frequent(sample, least)
    _, first, groups, pairs = np.unique(found.keys, return_index=True, return_inverse=True, return_counts=True)
    in_chosen = np.bincount(groups, weights=found.in_chosen, minlength=len(pairs)).astype(np.int64)
    expected = np.bincount(groups, weights=found.expected, minlength=len(pairs))
    looked_at = int((pairs >= least).sum())
    telling = np.maximum(in_chosen, pairs - in_chosen)
    phrases = []
    spelled = sample.spelled()
    for i in np.flatnonzero((pairs >= least) & (telling >= PRECISION * pairs)).tolist():
        side = "chosen" if in_chosen[i] == telling[i] else "rejected"
        share = expected[i] / pairs[i] if side == "chosen" else 1 - expected[i] / pairs[i]
        p_value = looked_at * upper_tail(int(telling[i]), int(pairs[i]), float(share))
        if p_value > SIGNIFICANCE or telling[i] < pairs[i] * share + 1:
            continue
        at = first[i]
        words = sample.sides[found.pairs[at]][0 if found.in_chosen[at] else 1]
        start = int(found.places[at])
        phrase = tuple(spelled[number] for number in words[start : start + int(found.sizes[at])])
        where = found.pairs[(groups == i) & (found.in_chosen == (side == "chosen"))]
        rows = tuple(sorted(sample.rows[pair] for pair in where.tolist()))
        phrases.append(Phrase(phrase, side, int(pairs[i]), int(telling[i]), p_value, rows))
    return _distinct(sorted(phrases, key=lambda phrase: (phrase.p_value, -len(phrase.words), phrase.words)))


def _distinct(phrases: list[Phrase]) -> list[Phrase]:
    """Drop phrases that cover nearly the same pairs as a more significant one, and join overlapping phrases."""
    kept: list[Phrase] = []
    for phrase in phrases:
        for i, other in enumerate(kept):
            joined = _joined(other.words, phrase.words) or _joined(phrase.words, other.words)
            if joined and phrase.rows == other.rows:
                kept[i] = replace(other, words=joined)
                break
            common = len({*phrase.rows} & {*other.rows})
            if phrase.side == other.side and common >= SAME_PAIRS * len(phrase.rows):
                break
        else:
            kept.append(phrase)
    return kept


def _joined(some: tuple[str, ...], others: tuple[str, ...]) -> tuple[str, ...]:
    """Join two phrases that overlap in all but one word; empty if they do not."""
    shared = min(len(others), LONGEST_PHRASE) - 1
    return some + others[shared:] if shared and some[-shared:] == others[:shared] else ()


@check_of_data(
    "telling_phrase",
    "fail",
    "a phrase of a few words alone predicts which response is chosen",
    "A model can learn the phrase instead of the preference: remove it from the responses, or balance it.",
    rule=(
        f"1 to {LONGEST_PHRASE} words, on the same side in at least {PRECISION:.0%} of the pairs that have them in "
        f"only one response (at least {LEAST_PAIRS} pairs and {LEAST_SHARE:.0%} of all); binomial test against the "
        f"effect of length alone, Bonferroni, p ≤ {SIGNIFICANCE:g}; in a sample of {SAMPLED_PAIRS:,} pairs"
    ),
)
def find_telling_phrases(data: TextIndex, _against: TextIndex | None) -> Found:
    """Find phrases that predict the label."""
    phrases = telling_phrases(data.words)
    if not phrases:
        return NOTHING
    rows = np.unique(np.concatenate([phrase.rows for phrase in phrases])).astype(np.int64)
    lines = dict(zip(data.rows.tolist(), data.lines.tolist(), strict=True))
    files = dict(zip(data.rows.tolist(), data.files, strict=True))
    examples = tuple(
        Example(
            lines[phrase.rows[0]],
            f"“{phrase.text}” is in {phrase.side} in {phrase.telling:,} of {phrase.pairs:,} pairs",
            file=files[phrase.rows[0]],
        )
        for phrase in phrases[:LISTED_PHRASES]
    )
    sampled = len(data.words.rows)
    detail = f"{len(phrases):,} such phrase{'' if len(phrases) == 1 else 's'} among {sampled:,} pairs"
    figures = {
        "sampled": sampled,
        "phrases": [
            {"phrase": p.text, "side": p.side, "pairs": p.pairs, "telling": p.telling, "p_value": p.p_value}
            for p in phrases
        ],
    }
    return Found(rows, examples, detail, figures)
