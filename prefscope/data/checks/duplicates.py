"""Checks for pairs that repeat or contradict each other, and for prompts shared with another split."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prefscope.data.checks.check import EXAMPLES, NOTHING, Example, Found, check_of_data
from prefscope.data.checks.sketch import near_matches
from prefscope.data.checks.text_index import Keys, TextIndex

NEAR_PROMPT = 0.9
NEAR_PAIR = 0.8
ALIKE = "Jaccard index of all 8-byte sequences of at least {:.0%}, ignoring white space and case"
_FACTOR, _OTHER = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F)
_SHIFT = np.uint64(31)


def _joined(*keys: Keys) -> Keys:
    """Combine several keys per pair into one; their order matters."""
    joined = np.zeros_like(keys[0])
    for part in keys:
        joined = (joined ^ part) * _FACTOR
        joined = (joined ^ (joined >> _SHIFT)) * _OTHER
    return joined


def _firsts(keys: Keys) -> NDArray[np.int64]:
    """Return, for each key, the index of its first occurrence."""
    _, first, groups = np.unique(keys, return_index=True, return_inverse=True)
    return first[groups]


def _found(data: TextIndex, places: NDArray[np.int64], like: NDArray[np.int64], detail: str = "") -> Found:
    """Return a finding about pairs that resemble other pairs of the same data set."""
    examples = tuple(
        Example(int(data.lines[i]), data.beginnings[i], data.place(other), data.files[i])
        for i, other in zip(places[:EXAMPLES].tolist(), like[:EXAMPLES].tolist(), strict=True)
    )
    return Found(data.rows[places], examples, detail)


@check_of_data(
    "duplicate_pairs",
    "fail",
    "the same prompt, chosen and rejected as an earlier pair",
    "Keep one of each; repeated pairs count twice in training.",
)
def find_duplicate_pairs(data: TextIndex, _against: TextIndex | None) -> Found:
    """Find pairs that repeat an earlier pair."""
    firsts = _firsts(_joined(data.prompt_keys, data.chosen_keys, data.rejected_keys))
    places = np.flatnonzero(firsts != np.arange(len(firsts)))
    return _found(data, places, firsts[places])


def _reversals(data: TextIndex) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the indices of pairs that also occur with chosen and rejected exchanged, and of their counterparts."""
    ways = (
        _joined(data.prompt_keys, data.chosen_keys, data.rejected_keys),
        _joined(data.prompt_keys, data.rejected_keys, data.chosen_keys),
    )
    places = np.flatnonzero(np.isin(ways[1], ways[0]) & (data.chosen_keys != data.rejected_keys))
    order = np.argsort(ways[0], kind="stable")
    return places, order[np.searchsorted(ways[0], ways[1][places], sorter=order)]


@check_of_data(
    "contradictions",
    "fail",
    "the same prompt and responses, with chosen and rejected exchanged",
    "Decide which order is right and drop the other pair; together they cancel out.",
)
def find_contradictions(data: TextIndex, _against: TextIndex | None) -> Found:
    """Find pairs that occur in both orders."""
    return _found(data, *_reversals(data))


@check_of_data(
    "chosen_and_rejected",
    "note",
    "a response is chosen in one pair and rejected in another of the same prompt",
    "Expected in rankings of three or more responses; otherwise, find out which of the two is wrong.",
)
def find_responses_on_both_sides(data: TextIndex, _against: TextIndex | None) -> Found:
    """Find pairs whose chosen response is rejected in another pair of the prompt, except exchanged pairs."""
    chosen = _joined(data.prompt_keys, data.chosen_keys)
    rejected = _joined(data.prompt_keys, data.rejected_keys)
    both = np.isin(chosen, rejected) & (data.chosen_keys != data.rejected_keys)
    both[_reversals(data)[0]] = False
    places = np.flatnonzero(both)
    order = np.argsort(rejected, kind="stable")
    return _found(data, places, order[np.searchsorted(rejected, chosen[places], sorter=order)])


@check_of_data(
    "duplicate_prompts",
    "note",
    "the prompt of an earlier pair, with different responses",
    "Expected if prompts have several pairs; keep them in the same split.",
)
def find_duplicate_prompts(data: TextIndex, _against: TextIndex | None) -> Found:
    """Find pairs with the prompt of an earlier pair, except repeated and exchanged pairs."""
    whole = _joined(
        data.prompt_keys,
        np.minimum(data.chosen_keys, data.rejected_keys),
        np.maximum(data.chosen_keys, data.rejected_keys),
    )
    firsts = _firsts(data.prompt_keys)
    places = np.arange(len(firsts))
    places = places[(firsts != places) & (_firsts(whole) == places)]
    prompts = len(np.unique(data.prompt_keys))
    detail = f"{prompts:,} distinct prompts in {len(firsts):,} pairs"
    return _found(data, places, firsts[places], detail if places.size else "")


def _near(data: TextIndex, found: dict[int, int], keys: Keys, likeness: float) -> Found:
    """Return a finding about pairs that resemble an earlier pair without being identical."""
    pairs = [(place, like) for place, like in sorted(found.items()) if keys[place] != keys[like]]
    if not pairs:
        return NOTHING
    places, like = np.array(pairs).T
    return _found(data, places, like, f"at least {likeness:.0%} similar (Jaccard index of 8-byte sequences)")


@check_of_data(
    "near_duplicate_pairs",
    "note",
    "nearly the same prompt, chosen and rejected as an earlier pair",
    "Keep one of each unless the difference matters.",
    rule=ALIKE.format(NEAR_PAIR),
)
def find_near_duplicate_pairs(data: TextIndex, _against: TextIndex | None) -> Found:
    """Find pairs that are nearly identical to an earlier pair."""
    keys = _joined(data.prompt_keys, data.chosen_keys, data.rejected_keys)
    return _near(data, near_matches(data.pair_sketches, None, NEAR_PAIR), keys, NEAR_PAIR)


@check_of_data(
    "near_duplicate_prompts",
    "note",
    "nearly the same prompt as an earlier pair",
    "Keep them in the same split; if they mean the same, keep only one.",
    rule=ALIKE.format(NEAR_PROMPT),
)
def find_near_duplicate_prompts(data: TextIndex, _against: TextIndex | None) -> Found:
    """Find prompts that are nearly identical to an earlier one, ignoring system messages."""
    return _near(data, near_matches(data.prompt_sketches, None, NEAR_PROMPT), data.prompt_keys, NEAR_PROMPT)


@check_of_data(
    "leaked_prompts",
    "fail",
    "a prompt that is also in the other data set, exactly or nearly",
    "Remove these from one of the two; otherwise an evaluation measures memorisation.",
    compares=True,
    rule=ALIKE.format(NEAR_PROMPT),
)
def find_leaked_prompts(data: TextIndex, against: TextIndex | None) -> Found:
    """Find prompts that are also in another data set."""
    if against is None:
        return NOTHING
    order = np.argsort(against.prompt_keys, kind="stable")
    exact = np.flatnonzero(np.isin(data.prompt_keys, against.prompt_keys))
    known = order[np.searchsorted(against.prompt_keys, data.prompt_keys[exact], sorter=order)]
    found = near_matches(data.prompt_sketches, against.prompt_sketches, NEAR_PROMPT)
    found |= dict(zip(exact.tolist(), known.tolist(), strict=True))
    places = sorted(found)
    examples = tuple(
        Example(int(data.lines[i]), data.beginnings[i], f"{against.place(found[i])} there", data.files[i])
        for i in places[:EXAMPLES]
    )
    detail = f"{len(exact):,} exact, {len(places) - len(exact):,} near"
    figures = {"exact": len(exact), "near": len(places) - len(exact)}
    return Found(data.rows[places], examples, detail if places else "", figures)
