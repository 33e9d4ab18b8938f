"""Log-probs of tokens from logits: pure torch functions.

Shapes: B batch, T sequence, V vocabulary, N positions.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

IGNORE_INDEX = -100
CACHED_LOGITS = 1 << 19
"""Logits of a CPU's softmax at one time: their float32 copies stay in the cache, which is 2 to 6 times as fast."""


def token_logps(logits: Tensor, token_ids: Tensor) -> Tensor:
    """Return the log-prob of one token a position, in nats.

    Definition: logits[n, token] − logsumexp(logits[n]), in float32 whatever the model's dtype (float64 stays). On CPUs
    the whole log-softmax, one fused pass, takes a tenth of the time of a logsumexp alone.

    Args:
        logits: Scores of the vocabulary. Shape (N, V).
        token_ids: The token that came next at each position. Shape (N,).

    Returns:
        Shape (N,), float32 (float64 for float64 logits).
    """
    return torch.cat([_taken(logps, ids) for logps, ids in _softened(logits, token_ids)])


def token_logps_and_collisions(logits: Tensor, token_ids: Tensor) -> Tensor:
    """Return beside each token's log-prob how sure the model was: log Σ_v P(v)², in nats.

    It is the log-probability that two draws from the vocabulary are the same token, 0 where the model is certain.

    Args:
        logits: Scores of the vocabulary. Shape (N, V).
        token_ids: The token that came next at each position. Shape (N,).

    Returns:
        Shape (N, 2), of the dtype that `token_logps` has; its first column is what that gives.
    """
    both = [
        torch.stack([_taken(logps, ids), (2 * logps).logsumexp(-1)], dim=-1)
        for logps, ids in _softened(logits, token_ids)
    ]
    return torch.cat(both)


def _softened(logits: Tensor, token_ids: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield log-softmaxes of some positions with their tokens, at one time what fits into the cache of a CPU."""
    at_once = max(CACHED_LOGITS // logits.shape[-1], 1) if logits.device.type == "cpu" else max(len(logits), 1)
    for part, ids in zip(torch.split(logits, at_once), torch.split(token_ids, at_once), strict=True):
        yield widened(part).log_softmax(-1), ids


def _taken(logps: Tensor, token_ids: Tensor) -> Tensor:
    return logps.gather(-1, token_ids.unsqueeze(-1)).squeeze(-1)


def widened(logits: Tensor) -> Tensor:
    """Return logits in float32, float64 as they are."""
    return logits if logits.dtype == torch.float64 else logits.float()


def sequence_log_prob(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the summed log-prob of the labelled tokens of each sequence, in nats; differentiable.

    Definition: Σ_t log P(labels[t] | tokens before t); the logits at position t predict token t + 1.

    Args:
        logits: Scores of the vocabulary. Shape (B, T, V).
        labels: Token ids; −100 where a token is not scored (prompt, padding). Shape (B, T).

    Returns:
        Shape (B,), summed in float64 where the device has it.

    Raises:
        ValueError: The shapes do not fit together.

    >>> round(sequence_log_prob(torch.zeros(1, 3, 4), torch.tensor([[0, 1, -100]])).item(), 6)
    -1.386294
    """
    if logits.shape[:-1] != labels.shape:
        raise ValueError(f"logits {tuple(logits.shape)} and labels {tuple(labels.shape)} do not fit together")
    targets = labels[:, 1:]
    scored = targets != IGNORE_INDEX
    logps = token_logps(logits[:, :-1][scored], targets[scored])
    total = torch.zeros(labels.shape, dtype=logps.dtype, device=logps.device)[:, 1:].masked_scatter(scored, logps)
    return total.sum(-1, dtype=torch.float32 if logps.device.type == "mps" else torch.float64)
