"""A token sequence: which tokens are scored, and its digest."""

from __future__ import annotations

import numpy as np
import pytest

from prefscope.scoring.sequences import DIGEST_BYTES, TokenSequence
from prefscope.scoring.store import sequence_key


def sequence(ids: list[int], start: int) -> TokenSequence:
    return TokenSequence(np.array(ids, dtype=np.int32), start)


@pytest.mark.parametrize(
    ("ids", "start", "scored"),
    [([5, 6, 7, 8], 2, [7, 8]), ([5, 6], 2, []), ([5, 6, 7], 0, [6, 7]), ([5], 0, []), ([], 0, [])],
    ids=["a prompt", "no response", "no prompt", "one token", "nothing"],
)
def test_the_completion_is_scored_but_never_the_first_token(ids: list[int], start: int, scored: list[int]) -> None:
    subject = sequence(ids, start)
    assert (subject.scored_ids.tolist(), subject.num_scored) == (scored, len(scored))


def test_equal_ids_with_equal_boundaries_share_a_digest() -> None:
    view = np.arange(10, dtype=np.int32)[2:5]
    assert TokenSequence(view, 1).digest() == sequence([2, 3, 4], 1).digest()


@pytest.mark.parametrize("other", [sequence([1, 2, 3], 1), sequence([1, 2, 4], 2), sequence([1, 2], 2)])
def test_another_boundary_or_other_ids_have_another_digest(other: TokenSequence) -> None:
    assert other.digest() != sequence([1, 2, 3], 2).digest()


def test_a_boundary_is_not_mistaken_for_a_token() -> None:
    assert sequence([7, 1], 1).digest() != sequence([1], 7).digest()


def test_a_digest_has_its_fixed_size() -> None:
    assert len(sequence([], 0).digest()) == DIGEST_BYTES


def test_the_key_of_a_sequence_includes_its_scope() -> None:
    digest = sequence([1, 2, 3], 2).digest()
    assert len({sequence_key(scope, digest) for scope in (b"a" * 16, b"b" * 16)}) == 2
