"""The input of scoring: token ids with the boundary between prompt and completion.

This module does not import torch.
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
    """Token ids of prompt and completion, shape (length,)."""
    completion_start: int
    """Index of the first completion token."""

    @property
    def first_scored(self) -> int:
        """Index of the first token with a log-prob; token 0 has none, as nothing predicts it."""
        return max(self.completion_start, 1)

    @property
    def num_scored(self) -> int:
        """Number of completion tokens with a log-prob."""
        return max(len(self.token_ids) - self.first_scored, 0)

    @property
    def scored_ids(self) -> NDArray[np.int32]:
        """The token ids with a log-prob, shape (num_scored,)."""
        return self.token_ids[self.first_scored :]

    def digest(self) -> bytes:
        """Return a 16-byte digest of the content; sequences with equal ids and equal boundary have the same digest."""
        boundary = self.completion_start.to_bytes(4, "little")
        return hashlib.blake2b(boundary + self.token_ids.tobytes(), digest_size=DIGEST_BYTES).digest()
