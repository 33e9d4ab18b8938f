"""Log-probs of tokens where each process has the logits of a slice of the vocabulary: no logits are gathered.

What travels is three numbers a position: the largest logit, and the sums of what each slice adds to the softmax's
denominator and to the logit of the token that came next.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.distributed as dist
from torch import Tensor

from prefscope.scoring.head import Measure
from prefscope.scoring.logps import token_logps, token_logps_and_collisions, widened


def split_token_logps(logits: Tensor, token_ids: Tensor, start: int) -> Tensor:
    """Return what `token_logps` does, in every process.

    Args:
        logits: Scores of this process's slice of the vocabulary. Shape (N, V / processes).
        token_ids: The token that came next at each position. Shape (N,).
        start: The first token of the slice.
    """
    scores = _below_largest(logits)
    total, taken = _summed(scores.exp().sum(-1), _own(scores, token_ids - start)).unbind()
    return taken - total.log()


def split_token_logps_and_collisions(logits: Tensor, token_ids: Tensor, start: int) -> Tensor:
    """Return what `token_logps_and_collisions` does, in every process; the arguments are those of the former."""
    scores = _below_largest(logits)
    total, squares, taken = _summed(scores.exp().sum(-1), (2 * scores).exp().sum(-1), _own(scores, token_ids - start))
    return torch.stack([taken - total.log(), squares.log() - 2 * total.log()], dim=-1)


SPLIT: Mapping[Measure, Callable[[Tensor, Tensor, int], Tensor]] = {
    token_logps: split_token_logps,
    token_logps_and_collisions: split_token_logps_and_collisions,
}
"""What measures a slice of the vocabulary as each function measures all of it."""


def _below_largest(logits: Tensor) -> Tensor:
    """Return scores less the largest of all slices, so that their exponentials stay finite."""
    wide = widened(logits)
    largest = wide.amax(-1)
    dist.all_reduce(largest, dist.ReduceOp.MAX)
    return wide - largest.unsqueeze(-1)


def _own(scores: Tensor, places: Tensor) -> Tensor:
    """Return the score of each token that is of this slice, 0 for one of another."""
    width = scores.shape[-1]
    found = scores.gather(-1, places.clamp(0, width - 1).unsqueeze(-1)).squeeze(-1)
    return torch.where((places >= 0) & (places < width), found, torch.zeros_like(found))


def _summed(*parts: Tensor) -> Tensor:
    """Return sums over all processes, one row a part."""
    rows = torch.stack(parts)
    dist.all_reduce(rows)
    return rows
