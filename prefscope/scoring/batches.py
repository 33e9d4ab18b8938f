"""Batches as forward passes need them, laid out and on the device, which can be done ahead of a pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from prefscope.scoring.attention import Attended
from prefscope.scoring.copies import uploaded
from prefscope.scoring.forward_mode import ForwardMode
from prefscope.scoring.packing import Ints, pack
from prefscope.scoring.sequences import TokenSequence


@dataclass(frozen=True, slots=True)
class PackedInputs:
    """Sequences in one row, of T tokens. All tensors are int64."""

    attended: Attended
    wanted: Ints
    """Indices in the row of the N tokens whose log-probs are needed. Shape (N,)."""
    token_ids: Tensor
    """Shape (T,)."""
    positions: Tensor
    """Shape (T,)."""
    predecessors: Tensor
    """Indices in the row of the hidden states that predict the wanted tokens. Shape (N,)."""
    targets: Tensor
    """The wanted tokens. Shape (N,)."""


@dataclass(frozen=True, slots=True)
class PaddedInputs:
    """Sequences side by side, padded on the right. All tensors are int64."""

    token_ids: Tensor
    """Shape (sequences, length of the longest)."""
    attention_mask: Tensor
    rows: Tensor
    """With `columns`, the places of the hidden states that predict the scored tokens. Shape (N,)."""
    columns: Tensor
    targets: Tensor
    """The scored tokens. Shape (N,)."""


@dataclass(frozen=True, slots=True)
class Batch:
    """The sequences of one forward pass."""

    sequences: Sequence[TokenSequence]
    inputs: PackedInputs | PaddedInputs | None
    """None if no token is scored."""


def prepare(
    path: ForwardMode, sequences: Sequence[TokenSequence], device: torch.device, like: Batch | None = None
) -> Batch:
    """Lay out sequences for a forward pass, and send them to the device.

    Args:
        path: The forward mode.
        sequences: The sequences to score.
        device: The device of the model's embeddings.
        like: An earlier batch of the same model; what its attention needed is prepared, too.
    """
    if not any(sequence.num_scored for sequence in sequences):
        return Batch(sequences, None)
    if path == "padded":
        return Batch(sequences, _padded(sequences, device))
    inputs = _packed(sequences, device)
    if like is not None and isinstance(like.inputs, PackedInputs):
        inputs.attended.prepare_like(like.inputs.attended)
    return Batch(sequences, inputs)


def _packed(sequences: Sequence[TokenSequence], device: torch.device) -> PackedInputs:
    row = pack(sequences)
    wanted = np.flatnonzero(row.scored)
    parts = [row.token_ids, row.positions, row.predecessors[wanted], row.token_ids[wanted]]
    return PackedInputs(Attended.of(row), wanted, *uploaded(parts, device))


def _padded(sequences: Sequence[TokenSequence], device: torch.device) -> PaddedInputs:
    counts = [sequence.num_scored for sequence in sequences]
    places = [
        np.repeat(np.arange(len(sequences)), counts),
        np.concatenate([np.arange(s.first_scored - 1, len(s.token_ids) - 1) for s in sequences]),
        np.concatenate([s.scored_ids for s in sequences]).astype(np.int64),
    ]
    token_ids, attention_mask = pad(sequences)
    flat = uploaded([token_ids.ravel(), attention_mask.ravel(), *places], device)
    return PaddedInputs(flat[0].view(token_ids.shape), flat[1].view(token_ids.shape), *flat[2:])


def pad(sequences: Sequence[TokenSequence]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return token ids and attention mask, padded on the right; the mask is derived from lengths, not from ids.

    Returns:
        Two arrays of shape (sequences, length of the longest sequence).
    """
    longest = max(len(sequence.token_ids) for sequence in sequences)
    token_ids = np.zeros((len(sequences), longest), dtype=np.int64)
    attention_mask = np.zeros_like(token_ids)
    for row, sequence in enumerate(sequences):
        length = len(sequence.token_ids)
        token_ids[row, :length] = sequence.token_ids
        attention_mask[row, :length] = 1
    return token_ids, attention_mask
