"""Log-probs of tokens if each process has the logits of a slice of the vocabulary; logits are not gathered.

Only three numbers per position are exchanged: the largest logit, and the sums of each slice's contribution to the
denominator of the softmax and to the logit of the next token.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.distributed as dist
from torch import Tensor

from prefscope.scoring.head import Measure
from prefscope.scoring.logps import token_logps, token_logps_and_collisions, widened


def split_token_logps(logits: Tensor, token_ids: Tensor, start: int) -> Tensor:
    """Compute the result of `token_logps`, in every process.

    Args:
        logits: Scores of this process's slice of the vocabulary. Shape (N, V / processes).
        token_ids: The next token at each position. Shape (N,).
        start: First token of the slice.
    """
    scores = _below_largest(logits)
    total, taken = _summed(scores.exp().sum(-1), _own(scores, token_ids - start)).unbind()
    return taken - total.log()


def split_token_logps_and_collisions(logits: Tensor, token_ids: Tensor, start: int) -> Tensor:
    """Compute the result of `token_logps_and_collisions`, in every process; arguments as in `split_token_logps`."""
    scores = _below_largest(logits)
    total, squares, taken = _summed(scores.exp().sum(-1), (2 * scores).exp().sum(-1), _own(scores, token_ids - start))
    return torch.stack([taken - total.log(), squares.log() - 2 * total.log()], dim=-1)


SPLIT: Mapping[Measure, Callable[[Tensor, Tensor, int], Tensor]] = {
    token_logps: split_token_logps,
    token_logps_and_collisions: split_token_logps_and_collisions,
}
"""For each function on the whole vocabulary, its counterpart for a slice."""


def _below_largest(logits: Tensor) -> Tensor:
    """Subtract the largest score of all slices, so that exponentials stay finite."""
    wide = widened(logits)
    largest = wide.amax(-1)
    dist.all_reduce(largest, dist.ReduceOp.MAX)
    return wide - largest.unsqueeze(-1)


def _own(scores: Tensor, places: Tensor) -> Tensor:
    """Return the score of each token in this slice, and 0 for tokens of other slices."""
    width = scores.shape[-1]
    found = scores.gather(-1, places.clamp(0, width - 1).unsqueeze(-1)).squeeze(-1)
    return torch.where((places >= 0) & (places < width), found, torch.zeros_like(found))


def _summed(*parts: Tensor) -> Tensor:
    """Return sums over all processes, one row per argument."""
    rows = torch.stack(parts)
    dist.all_reduce(rows)
    return rows
