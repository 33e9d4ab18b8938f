"""Where the token ids of the same pairs differ under two profiles."""

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
    """Tokens at a place where the two profiles do not have the same."""

    place: str
    """`first`, `within` or `last` of the completion, or of the `prompt` before it."""
    a: str
    """The text of A's tokens, empty for none."""
    b: str
    pairs: int
    """In so many pairs."""


@dataclass(frozen=True, slots=True)
class TokenParity:
    """The pairs that both profiles take."""

    shared: int
    equal: int
    """Pairs with the same tokens and the same completions."""
    differences: tuple[Difference, ...]
    """The most frequent first."""


def compare_tokens(a: Mapping[int, Sides], b: Mapping[int, Sides], texts: Callable[[Ids], list[str]]) -> TokenParity:
    """Return where the tokens of pairs differ.

    Args:
        a: The sequences of pairs by their rows, under the first profile.
        b: The same under the second.
        texts: Gives the text of each token id.
    """
    shared = [row for row in a if row in b]
    found: Counter[tuple[str, Ids, Ids]] = Counter()
    equal = 0
    for row in shared:
        differences = set(_differences(a[row], b[row]))
        found.update(differences)
        equal += not differences
    told = (
        Difference(place, "".join(texts(ours)), "".join(texts(theirs)), pairs)
        for (place, ours, theirs), pairs in found.most_common()
    )
    return TokenParity(len(shared), equal, tuple(told))


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
