"""A phrase that alone tells which response is chosen: what a model learns instead of the preference."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from prefscope.data.checks.check import NOTHING, Example, Found, check_of_data
from prefscope.data.checks.text_index import Distilled
from prefscope.data.checks.words import LONGEST_PHRASE, SAMPLED_PAIRS, WordSample, phrase_keys
from prefscope.statistics import upper_tail

PRECISION = 0.95
"""Share of the pairs with the phrase in one response only in which that response has the same label."""
LEAST_PAIRS = 10
LEAST_SHARE = 0.02
SAME_PAIRS = 0.8
"""A phrase of whose telling pairs so many are a surer phrase's is not told beside that one."""
SIGNIFICANCE = 0.001
"""Of all phrases looked at together: Bonferroni's correction."""
TOLD_PHRASES = 5
_BUCKETS = 1 << 22


@dataclass(frozen=True, slots=True)
class Phrase:
    """A phrase that tells the label."""

    words: tuple[str, ...]
    side: str
    """`chosen` or `rejected`: where it stands."""
    pairs: int
    """Pairs that have it in one response only."""
    telling: int
    """Those of them that have it in the response of `side`."""
    p_value: float
    """Of one phrase, corrected for all that were looked at."""
    rows: tuple[int, ...]
    """The telling pairs."""

    @property
    def text(self) -> str:
        """The words with spaces between them, none between characters of scripts without."""
        joined = self.words[0]
        for before, word in zip(self.words, self.words[1:], strict=False):
            together = len(before) == len(word) == 1 and not (before.isascii() or word.isascii())
            joined += word if together else f" {word}"
        return joined


@dataclass(frozen=True, slots=True)
class _Occurrences:
    """Where frequent phrases stand in one response of a pair only; all arrays have one row an occurrence."""

    keys: NDArray[np.uint64]
    pairs: NDArray[np.int64]
    """Number of the pair in the sample."""
    in_chosen: NDArray[np.bool_]
    expected: NDArray[np.float64]
    """Probability that it stands in chosen if the phrases that only one response has were dealt at random."""
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
    """Return the occurrences of phrases that stand in one response only in at least so many pairs.

    A first pass counts in 4 million buckets, so that only what may be frequent is kept by the second.
    """
    counts = np.zeros(_BUCKETS, dtype=np.int32)
    mask = np.uint64(_BUCKETS - 1)
    for found in _differing(sample):
        counts[(found.keys & mask).astype(np.int64)] += 1  # two of a pair in one bucket count once: 1 in 3,000
    kept = []
    for found in _differing(sample):
        often = counts[(found.keys & mask).astype(np.int64)] >= least
        kept.append([getattr(found, name)[often] for name in _Occurrences.__slots__])
    if not kept:
        return _Occurrences(*(np.empty(0, dtype=kind) for kind in ("u8", "i8", "?", "f8", "i4", "i1")))
    return _Occurrences(*(np.concatenate(column) for column in zip(*kept, strict=True)))


def telling_phrases(sample: WordSample) -> list[Phrase]:
    """Return the phrases of 1 to 4 words that alone predict the label, the surest first.

    Counted are pairs that have a phrase in one response only. Were the phrases that only one response of a pair has
    dealt at random, a phrase would be in the chosen one with probability (its share of them): a longer response has
    more. A phrase tells the label where it stands on one side in at least 95% of at least 10 pairs and 2% of all, and
    the binomial tail of that, with the mean of those probabilities, is below 0.001 after Bonferroni's correction.
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
        told = tuple(spelled[number] for number in words[start : start + int(found.sizes[at])])
        where = found.pairs[(groups == i) & (found.in_chosen == (side == "chosen"))]
        rows = tuple(sorted(sample.rows[pair] for pair in where.tolist()))
        phrases.append(Phrase(told, side, int(pairs[i]), int(telling[i]), p_value, rows))
    return _distinct(sorted(phrases, key=lambda phrase: (phrase.p_value, -len(phrase.words), phrase.words)))


def _distinct(phrases: list[Phrase]) -> list[Phrase]:
    """Return phrases without those that tell hardly other pairs than a surer one; overlapping ones are joined."""
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
    """Return two phrases as one where all but the first word of one begin the other, empty where not."""
    shared = min(len(others), LONGEST_PHRASE) - 1
    return some + others[shared:] if shared and some[-shared:] == others[:shared] else ()


@check_of_data(
    "telling_phrase",
    "fail",
    "a phrase of a few words alone tells which response is chosen",
    "A model can learn the phrase in place of the preference: take it out of the responses, or balance it.",
    rule=(
        f"1 to {LONGEST_PHRASE} words, on one side in at least {PRECISION:.0%} of the pairs in which only one response "
        f"has them, which are at least {LEAST_PAIRS} and {LEAST_SHARE:.0%} of all; binomial test against what lengths "
        f"alone would give, Bonferroni, p ≤ {SIGNIFICANCE:g}; in a sample of {SAMPLED_PAIRS:,} pairs"
    ),
)
def find_telling_phrases(data: Distilled, _against: Distilled | None) -> Found:
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
        for phrase in phrases[:TOLD_PHRASES]
    )
    sampled = len(data.words.rows)
    told = f"{len(phrases):,} such phrase{'' if len(phrases) == 1 else 's'} among {sampled:,} pairs"
    figures = {
        "sampled": sampled,
        "phrases": [
            {"phrase": p.text, "side": p.side, "pairs": p.pairs, "telling": p.telling, "p_value": p.p_value}
            for p in phrases
        ],
    }
    return Found(rows, examples, told, figures)
