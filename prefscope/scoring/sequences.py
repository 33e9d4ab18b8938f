"""What a model scores: token ids with the boundary between prompt and completion.

This module imports no torch.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DIGEST_BYTES = 16


@dataclass(frozen=True, slots=True)
class TokenSequence:
    """One prompt with one response, as token ids."""

    token_ids: NDArray[np.int32]
    """Prompt and completion, shape (length,)."""
    completion_start: int
    """Index of the first completion token."""

    @property
    def first_scored(self) -> int:
        """Index of the first token with a log-prob: nothing predicts token 0."""
        return max(self.completion_start, 1)

    @property
    def num_scored(self) -> int:
        """How many completion tokens get a log-prob."""
        return max(len(self.token_ids) - self.first_scored, 0)

    @property
    def scored_ids(self) -> NDArray[np.int32]:
        """The token ids that get a log-prob, shape (num_scored,)."""
        return self.token_ids[self.first_scored :]

    def digest(self) -> bytes:
        """Return 16 bytes that name the content: equal ids with an equal boundary share them."""
        boundary = self.completion_start.to_bytes(4, "little")
        return hashlib.blake2b(boundary + self.token_ids.tobytes(), digest_size=DIGEST_BYTES).digest()
