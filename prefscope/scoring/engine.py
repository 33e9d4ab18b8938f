"""The forward pass: token sequences in, per-token log-probs out.

This is the padded path: sequences of similar length side by side, padded on the right. The vocabulary head runs only at
positions that predict a scored token, in chunks, so (batch, sequence, vocabulary) never exists.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel

from prefscope.errors import ModelError, ResourceError
from prefscope.scoring.logps import token_logps
from prefscope.scoring.models import LanguageModel
from prefscope.scoring.sequences import TokenSequence

NUMERICS_VERSION = 1
"""Part of every store key; raised when a change of this module may move a number."""

ATTENTION_PATH = "padded"
CHUNK_LOGITS = 1 << 24
"""Float32 logits that exist at one time: 64 MiB of them."""


def compute_scope(*, fingerprint: str, dtype: str, device_type: str, attention: str) -> bytes:
    """Return the hash of everything but the tokens that determines a log-prob: the first part of its store key."""
    torch_minor = ".".join(torch.__version__.split("+")[0].split(".")[:2])
    parts = [fingerprint, dtype, device_type, ATTENTION_PATH, attention, torch_minor, NUMERICS_VERSION]
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).digest()


def score_batch(
    model: LanguageModel, sequences: Sequence[TokenSequence], halved: Callable[[int], None]
) -> list[NDArray[np.float32]]:
    """Return the log-prob of every scored token of each sequence, in nats, in the order given.

    Args:
        model: A loaded model.
        sequences: What to score; they share one forward pass.
        halved: Called with the new size when memory ran out and the batch is tried again in halves.

    Returns:
        One array a sequence, shape (num_scored,).

    Raises:
        ResourceError: A single sequence does not fit into memory.
    """
    try:
        return _forward(model, sequences)
    except (torch.OutOfMemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        if len(sequences) == 1:
            raise ResourceError(
                f"A sequence of {len(sequences[0].token_ids)} tokens does not fit into memory",
                hint="Shorten it with --max-length, or use a narrower --dtype.",
            ) from error
    # Outside the handler: the exception's traceback holds the tensors of the failed pass.
    if model.device.type == "cuda":
        torch.cuda.empty_cache()
    middle = len(sequences) // 2
    halved(middle)
    return score_batch(model, sequences[:middle], halved) + score_batch(model, sequences[middle:], halved)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether torch ran out of memory, on whatever device."""
    text = str(error)
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in text or "out of memory" in text


@torch.inference_mode()
def _forward(model: LanguageModel, sequences: Sequence[TokenSequence]) -> list[NDArray[np.float32]]:
    counts = [sequence.num_scored for sequence in sequences]
    if sum(counts) == 0:
        return [np.empty(0, dtype=np.float32) for _ in sequences]
    _check_vocabulary(model, sequences)
    input_ids, attention_mask = (tensor.to(model.device) for tensor in pad(sequences))
    decoder = decoder_of(model.module)
    output = decoder(input_ids=input_ids, attention_mask=attention_mask, use_cache=False)
    rows = np.repeat(np.arange(len(sequences)), counts)
    columns = np.concatenate([np.arange(s.first_scored - 1, len(s.token_ids) - 1) for s in sequences])
    hidden = output.last_hidden_state[torch.from_numpy(rows), torch.from_numpy(columns)]
    targets = torch.from_numpy(np.concatenate([s.scored_ids for s in sequences]).astype(np.int64)).to(model.device)
    logps = head_logps(model.module, decoder, output, hidden, targets)
    return np.split(logps.cpu().numpy(), np.cumsum(counts)[:-1])


def _check_vocabulary(model: LanguageModel, sequences: Sequence[TokenSequence]) -> None:
    """Refuse token ids that the model has no embedding for, which a GPU would report as a crash."""
    embeddings: Any = model.module.get_input_embeddings()
    known = int(embeddings.weight.shape[0])
    largest = max(int(sequence.token_ids.max(initial=0)) for sequence in sequences)
    if largest >= known:
        raise ModelError(
            f"Token id {largest} is outside the model's vocabulary of {known}",
            hint="The tokenizer does not belong to this model: copy the one that it was trained with into its folder.",
        )


def decoder_of(module: PreTrainedModel) -> nn.Module:
    """Return the part of a causal language model that ends in final hidden states.

    Raises:
        ModelError: The model has no such part.
    """
    decoder: nn.Module = module.get_decoder()
    if decoder is module:  # Llama 4 names it in no way that transformers looks for
        decoder = getattr(module, "model", module)
    if decoder is module:
        raise ModelError(f"A {type(module).__name__} has no decoder apart from its head, so it cannot be scored")
    return decoder


def pad(sequences: Sequence[TokenSequence]) -> tuple[Tensor, Tensor]:
    """Return token ids and attention mask, padded on the right; masks come from lengths, never from ids.

    Returns:
        Two int64 tensors of shape (sequences, longest).
    """
    longest = max(len(sequence.token_ids) for sequence in sequences)
    input_ids = torch.zeros((len(sequences), longest), dtype=torch.long)
    attention_mask = torch.zeros_like(input_ids)
    for row, sequence in enumerate(sequences):
        length = len(sequence.token_ids)
        input_ids[row, :length] = torch.from_numpy(sequence.token_ids.astype(np.int64))
        attention_mask[row, :length] = 1
    return input_ids, attention_mask


def head_logps(module: PreTrainedModel, decoder: nn.Module, output: Any, hidden: Tensor, targets: Tensor) -> Tensor:
    """Return the log-prob of one target token a position, from final hidden states.

    The model's own forward turns the hidden states into logits, with its decoder's answer put in place: soft caps,
    scales and biases of the head are so the model's own, whatever its family.

    Args:
        module: The causal language model.
        decoder: Its decoder, which ends in the final norm.
        output: What the decoder returned; its other fields are passed on.
        hidden: Shape (N, hidden size).
        targets: Token ids, shape (N,).

    Returns:
        Shape (N,), in nats, float32.
    """
    embeddings: Any = module.get_output_embeddings()
    vocabulary = int(embeddings.weight.shape[0])
    size = max(16, CHUNK_LOGITS // vocabulary)
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
        parts.append(token_logps(logits[0], targets[start : start + size]))
    return torch.cat(parts)


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
