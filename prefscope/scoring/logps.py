"""Log-probs of tokens from logits: pure torch functions.

Shapes: B batch, T sequence, V vocabulary, N positions.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator

import torch
from torch import Tensor

IGNORE_INDEX = -100
CACHED_LOGITS = 1 << 19
"""Logits in a CPU's softmax at once: their float32 copies stay in the cache, which is 2 to 6 times as fast."""
FEWEST_SUMMED, MOST_SUMMED = 512, 2048
"""Limits for the number of exponentials in one sum of a CPU's softmax. It adds them one after the other, with an error
that grows with their number and is biased: over a vocabulary of 150,000, it is 5e-6 nats per token on average."""


def token_logps(logits: Tensor, token_ids: Tensor) -> Tensor:
    """Return the log-prob of one token per position, in nats.

    Definition: logits[n, token] − logsumexp(logits[n]), in float32 whatever the model's dtype (float64 is kept).

    Args:
        logits: Scores of the vocabulary. Shape (N, V).
        token_ids: The next token at each position. Shape (N,).

    Returns:
        Shape (N,), float32 (float64 for float64 logits).
    """
    return torch.cat([_taken(wide, ids) - log_totals(wide) for wide, ids in _at_once(logits, token_ids)])


def token_logps_and_collisions(logits: Tensor, token_ids: Tensor) -> Tensor:
    """Return each token's log-prob and log Σ_v P(v)², a measure of the model's confidence; both in nats.

    The latter is the log-probability that two draws from the vocabulary are equal; it is 0 if the model is certain.

    Args:
        logits: Scores of the vocabulary. Shape (N, V).
        token_ids: The next token at each position. Shape (N,).

    Returns:
        Shape (N, 2), with the dtype of `token_logps`; the first column equals its result.
    """
    both = []
    for wide, ids in _at_once(logits, token_ids):
        totals = log_totals(wide)
        both.append(torch.stack([_taken(wide, ids) - totals, log_totals(2 * wide) - 2 * totals], dim=-1))
    return torch.cat(both)


def log_totals(logits: Tensor) -> Tensor:
    """Return the logarithm of the sum of exponentials of each row, in the logits' dtype.

    On CPUs, it is derived from log-softmaxes of slices of the vocabulary, as each slice's largest score minus its
    log-probability: fused kernels take half the time of torch's logsumexp, and slices keep the sums short.

    Args:
        logits: Shape (N, V).

    Returns:
        Shape (N,).
    """
    if logits.device.type != "cpu":
        return _log_total(logits)
    width = _slice_width(logits.shape[-1])
    whole = logits.shape[-1] // width * width
    totals = [_log_total(logits[:, :whole].reshape(len(logits), whole // width, width))]
    if whole < logits.shape[-1]:
        totals.append(_log_total(logits[:, whole:]).unsqueeze(-1))
    return torch.cat(totals, -1).logsumexp(-1)


def _log_total(scores: Tensor) -> Tensor:
    """Return the logarithm of the sum of exponentials over the last dimension."""
    largest = scores.amax(-1)
    found = largest - scores.log_softmax(-1).amax(-1)
    return torch.where(largest == -math.inf, largest, found)


@functools.lru_cache
def _slice_width(size: int) -> int:
    """Return the width of slices of the vocabulary, which are of equal width if possible."""
    if size <= MOST_SUMMED:
        return size
    return next((width for width in range(MOST_SUMMED, FEWEST_SUMMED - 1, -1) if size % width == 0), MOST_SUMMED)


def _at_once(logits: Tensor, token_ids: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield logits and tokens of some positions at a time, on CPUs as many as fit into the cache."""
    at_once = max(CACHED_LOGITS // logits.shape[-1], 1) if logits.device.type == "cpu" else max(len(logits), 1)
    for part, ids in zip(torch.split(logits, at_once), torch.split(token_ids, at_once), strict=True):
        yield widened(part), ids


def _taken(logps: Tensor, token_ids: Tensor) -> Tensor:
    return logps.gather(-1, token_ids.unsqueeze(-1)).squeeze(-1)


def widened(logits: Tensor) -> Tensor:
    """Convert logits to float32, unless they are float64."""
    return logits if logits.dtype == torch.float64 else logits.float()


def sequence_log_prob(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the summed log-prob of the labelled tokens of each sequence, in nats; differentiable.

    Definition: Σ_t log P(labels[t] | tokens before t); the logits at position t predict token t + 1.

    Args:
        logits: Scores of the vocabulary. Shape (B, T, V).
        labels: Token ids; −100 for tokens that are not scored (prompt, padding). Shape (B, T).

    Returns:
        Shape (B,), summed in float64 if the device supports it.

    Raises:
        ValueError: If the shapes do not match.

    >>> round(sequence_log_prob(torch.zeros(1, 3, 4), torch.tensor([[0, 1, -100]])).item(), 6)
    -1.386294
    """
    if logits.shape[:-1] != labels.shape:
        raise ValueError(f"logits {tuple(logits.shape)} and labels {tuple(labels.shape)} do not match")
    targets = labels[:, 1:]
    scored = targets != IGNORE_INDEX
    logps = token_logps(logits[:, :-1][scored], targets[scored])
    total = torch.zeros(labels.shape, dtype=logps.dtype, device=logps.device)[:, 1:].masked_scatter(scored, logps)
    return total.sum(-1, dtype=torch.float32 if logps.device.type == "mps" else torch.float64)
