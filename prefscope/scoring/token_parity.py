"""Compares the token ids of the same pairs under two profiles."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher

from prefscope.scoring.sequences import TokenSequence

Ids = tuple[int, ...]
Sides = tuple[TokenSequence, TokenSequence]
"""Chosen and rejected."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A difference between the tokens of two profiles."""

    place: str
    """`first`, `within` or `last` of the completion, with the prefix `prompt, ` for the prompt."""
    a: str
    """Text of the tokens under the first profile; empty if there are none."""
    b: str
    pairs: int
    """Number of pairs with this difference."""


@dataclass(frozen=True, slots=True)
class TokenParity:
    """Differences in the pairs that both profiles accept."""

    shared: int
    equal: int
    """Number of pairs with the same tokens and the same completions."""
    differences: tuple[Difference, ...]
    """The differences, most frequent first."""


def compare_tokens(a: Mapping[int, Sides], b: Mapping[int, Sides], texts: Callable[[Ids], list[str]]) -> TokenParity:
    """Compare the tokens of pairs under two profiles.

    Args:
        a: The sequences of pairs under the first profile, by row.
        b: The same under the second profile.
        texts: Returns the text of each token id.
    """
    shared = [row for row in a if row in b]
    found: Counter[tuple[str, Ids, Ids]] = Counter()
    equal = 0
    for row in shared:
        differences = set(_differences(a[row], b[row]))
        found.update(differences)
        equal += not differences
    listed = (
        Difference(place, "".join(texts(ours)), "".join(texts(theirs)), pairs)
        for (place, ours, theirs), pairs in found.most_common()
    )
    return TokenParity(len(shared), equal, tuple(listed))


def _differences(a: Sides, b: Sides) -> Iterator[tuple[str, Ids, Ids]]:
    for one, other in zip(a, b, strict=True):
        ids, others = one.token_ids.tolist(), other.token_ids.tolist()
        yield from _parted(ids[: one.completion_start], others[: other.completion_start], "prompt, ")
        yield from _parted(ids[one.completion_start :], others[other.completion_start :], "")


def _parted(a: list[int], b: list[int], before: str) -> Iterator[tuple[str, Ids, Ids]]:
    for tag, a_start, a_end, b_start, b_end in SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        if tag != "equal":
            begins, ends = a_start == b_start == 0, a_end == len(a) and b_end == len(b)
            place = "first" if begins else "last" if ends else "within"
            yield before + place, tuple(a[a_start:a_end]), tuple(b[b_start:b_end])
