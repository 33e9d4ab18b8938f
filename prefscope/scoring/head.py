"""The vocabulary head: log-probs of given tokens from final hidden states, without the logits of anything else."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel

from prefscope.errors import ModelError
from prefscope.scoring.logps import token_logps

CHUNK_LOGITS = 1 << 22
"""Logits that exist at one time: few enough that their softmax still finds them in the cache of a CPU."""
CHUNK_LOGITS_GPU = 1 << 26
"""The same for a GPU, which wants large products."""
FEWEST_ROWS = 64
Measure = Callable[[Tensor, Tensor], Tensor]
"""Takes logits and the tokens that came next; see `token_logps` and `token_logps_and_collisions`."""


def decoder_of(module: PreTrainedModel) -> nn.Module:
    """Return the part of a causal language model that ends in final hidden states.

    Raises:
        ModelError: The model has no such part.
    """
    # Llama 4 names it in no way that transformers looks for; ModernBERT calls its head so.
    candidates = (module.get_decoder(), module.base_model, getattr(module, "model", module))
    for candidate in candidates:
        if candidate is not module and not isinstance(candidate, nn.Linear):
            decoder: nn.Module = candidate
            return decoder
    raise ModelError(f"A {type(module).__name__} has no decoder apart from its head, so it cannot be scored")


def head_logps(
    module: PreTrainedModel,
    decoder: nn.Module,
    output: Any,
    hidden: Tensor,
    targets: Tensor,
    measure: Measure = token_logps,
) -> NDArray[np.float32]:
    """Return the log-prob of one target token a position, from final hidden states.

    The model's own forward turns the hidden states into logits, with its decoder's answer put in place: soft caps,
    scales and biases of the head are so the model's own, whatever its family.

    Args:
        module: The causal language model.
        decoder: Its decoder, which ends in the final norm.
        output: What the decoder returned; its other fields are passed on.
        hidden: Shape (N, hidden size).
        targets: Token ids, shape (N,).
        measure: What to take of the logits.

    Returns:
        What `measure` gives: shape (N,) or (N, 2), in nats.
    """
    embeddings: Any = module.get_output_embeddings()
    logits_at_once = CHUNK_LOGITS if hidden.device.type == "cpu" else CHUNK_LOGITS_GPU
    size = max(FEWEST_ROWS, logits_at_once // int(embeddings.weight.shape[0]))
    parts = []
    for start in range(0, len(hidden), size):
        chunk = hidden[start : start + size].unsqueeze(0)
        answer = dataclasses.replace(output, last_hidden_state=chunk)
        with _answering(decoder, answer):
            logits = module(
                input_ids=torch.zeros_like(targets[start : start + size]).unsqueeze(0), use_cache=False
            ).logits
        if logits.shape[:2] != chunk.shape[:2]:
            raise ModelError("The model does not turn its decoder's hidden states into logits one by one")
        parts.append(measure(logits[0], targets[start : start + size]))
    return torch.cat(parts).cpu().numpy()


@contextmanager
def _answering(decoder: nn.Module, answer: Any) -> Iterator[None]:
    """Let a module answer every call with a given value."""
    former = decoder.__dict__.get("forward")  # accelerate puts its hooks there
    decoder.forward = lambda *_, **__: answer
    try:
        yield
    finally:
        if former is None:
            del decoder.forward
        else:
            decoder.forward = former
