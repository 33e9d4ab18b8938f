"""What a model would have said instead: its most probable tokens, its entropy, and the rank of the actual token."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from prefscope.scoring.head import Measure
from prefscope.scoring.logps import CACHED_LOGITS, token_logps, widened

LOGITS_AT_ONCE_GPU = 1 << 25
"""Their float32 copies take half a gigabyte."""
LEAST_LOGP = -1e4
"""Log-probs below this count as this in p log p, which is then 0 and not NaN."""
MOST_IDS = 1 << 24
"""Token ids and ranks up to this are exact in float32, as which they are stored with the log-probs."""
FIXED = 2
"""Numbers per position beside the tokens: entropy and rank."""
NO_TOKEN = -1
"""The id in the places of tokens that a vocabulary smaller than the count does not have."""


@dataclass(frozen=True, slots=True)
class TopTokens:
    """A measure (head.py) that adds the distribution's entropy, the actual token's rank, and the top tokens."""

    count: int
    """The number of tokens to keep."""
    first: Measure = token_logps
    """Computes the numbers that come first, which are the same as without this measure."""

    def __call__(self, logits: Tensor, token_ids: Tensor) -> Tensor:
        """Return the numbers of `first`, then entropy in nats, rank, the ids of the top tokens and their log-probs.

        Args:
            logits: Scores of the vocabulary. Shape (N, V).
            token_ids: The next token at each position. Shape (N,).

        Returns:
            Shape (N, columns of `first` + 2 + 2 × count), with its dtype.

        Raises:
            ValueError: If the vocabulary is so large that float32 cannot represent its ids.
        """
        if logits.shape[-1] > MOST_IDS:
            raise ValueError(f"ids of a vocabulary of {logits.shape[-1]} are not exact in float32")
        first = self.first(logits, token_ids)
        at_once = CACHED_LOGITS if logits.device.type == "cpu" else LOGITS_AT_ONCE_GPU
        rows = max(at_once // logits.shape[-1], 1)
        more = [
            _alternatives(widened(part), ids, self.count)
            for part, ids in zip(torch.split(logits, rows), torch.split(token_ids, rows), strict=True)
        ]
        return torch.cat([first.reshape(len(first), -1), torch.cat(more).to(first.dtype)], dim=-1)


def columns_of(measure: Measure) -> int:
    """Return how many numbers a measure computes at each position."""
    if isinstance(measure, TopTokens):
        return columns_of(measure.first) + FIXED + 2 * measure.count
    return 1 if measure is token_logps else 2


def _alternatives(logits: Tensor, token_ids: Tensor, count: int) -> Tensor:
    """Return entropy, rank, top ids and their log-probs of some positions. Shape (N, 2 + 2 × count).

    Entropy: −Σ_v π(v) log π(v). Rank: 1 + the number of tokens that are more probable, so that equal ones share the
    better rank; 0 if a logit is NaN. Of equally probable tokens, those with the lowest ids are kept, and come first.
    """
    logps = logits.log_softmax(-1)
    taken = logits.gather(-1, token_ids.unsqueeze(-1))
    ranks = (logits > taken).sum(-1) + 1
    ids = _top_ids(logits, min(count, logits.shape[-1]))
    top = logps.gather(-1, ids)
    entropies = -logps.exp().mul_(logps.clamp_min_(LEAST_LOGP)).sum(-1)
    missing = (0, count - ids.shape[-1])
    fixed = torch.stack([entropies, ranks.masked_fill(entropies.isnan(), 0).to(logits.dtype)], dim=-1)
    return torch.cat(
        [
            fixed,
            torch.nn.functional.pad(ids, missing, value=NO_TOKEN).to(logits.dtype),
            torch.nn.functional.pad(top, missing, value=-torch.inf),
        ],
        dim=-1,
    )


def _top_ids(logits: Tensor, count: int) -> Tensor:
    """Return the ids of the largest logits, the largest first, equal ones by id. Shape (N, count)."""
    values, ids = logits.topk(min(count + 1, logits.shape[-1]))
    least, ids = values[:, count - 1 : count], ids[:, :count]
    tied = (values[:, count:] == least).any(-1).nonzero().squeeze(-1)  # torch may have kept any of the equal ones
    if len(tied):
        ids[tied] = _lowest_of_equal(logits[tied], least[tied], count)
    ids = ids.sort(-1).values
    order = logits.gather(-1, ids).argsort(dim=-1, descending=True, stable=True)
    return ids.gather(-1, order)


def _lowest_of_equal(logits: Tensor, least: Tensor, count: int) -> Tensor:
    """Return the ids of the logits above the least one to keep, and the lowest ids of those equal to it."""
    above, equal = logits > least, logits == least
    room = count - above.sum(-1, keepdim=True)
    kept = above | (equal & (equal.cumsum(-1) <= room))
    return kept.nonzero()[:, 1].reshape(len(logits), count)
