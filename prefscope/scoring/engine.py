"""The forward pass: computes per-token log-probs of token sequences.

Two forward modes give the same numbers. `packed` computes one row without padding, in which a shared prefix occurs once
(packing.py, attention.py). `padded` computes the sequences side by side, padded on the right, with the model's own
attention, and is used for models that fail the self-check of packing (self_check.py). In both, the vocabulary head runs
only at positions that predict a scored token (head.py), so no (batch, sequence, vocabulary) tensor ever exists.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from prefscope.errors import ModelError, ResourceError, was_interrupted
from prefscope.scoring.attention import attending
from prefscope.scoring.context import reset_rotary_lengths, varies_with_length
from prefscope.scoring.forward_mode import ForwardMode
from prefscope.scoring.fused import fused
from prefscope.scoring.head import Measure, decoder_of, head_logps
from prefscope.scoring.linear import matrix_products
from prefscope.scoring.logps import token_logps
from prefscope.scoring.memory import is_out_of_memory, release_cached
from prefscope.scoring.models import LanguageModel, Part
from prefscope.scoring.packing import pack
from prefscope.scoring.precision import full_precision
from prefscope.scoring.sequences import TokenSequence
from prefscope.scoring.split_vocabulary import SPLIT

NUMERICS_VERSION = 6
"""Part of every store key; to be incremented when a change of this package may change a number."""

Logps = list[NDArray[np.float32]]


def compute_scope(
    *,
    fingerprint: str,
    dtype: str,
    device: torch.device,
    path: ForwardMode,
    attention: str,
    processes: int,
    kernels: str = "",
) -> bytes:
    """Return a hash of everything but the tokens that determines a log-prob, used as the scope of store keys.

    It includes the number of processes that share a model, as sums over its parts are rounded differently, and the
    packages of fused kernels, if the model uses any (`self_check.ForwardChoice.kernels`).
    """
    torch_minor = ".".join(torch.__version__.split("+")[0].split(".")[:2])
    products = matrix_products(device, dtype)[0]
    parts = [fingerprint, dtype, device.type, path, attention, processes, products, torch_minor, NUMERICS_VERSION]
    parts += [kernels] if kernels else []
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).digest()


def score_batch(
    model: LanguageModel,
    path: ForwardMode,
    sequences: Sequence[TokenSequence],
    halved: Callable[[Sequence[TokenSequence]], None],
    measure: Measure = token_logps,
) -> Logps:
    """Return the log-prob of every scored token of each sequence, in nats, in the given order.

    Args:
        model: A loaded model whose attention is set for the forward mode (`self_check.follow`).
        path: The forward mode.
        sequences: The sequences to score in one forward pass.
        halved: Called with the sequences for which memory ran out, before they are retried in halves.
        measure: Computes the numbers of each position from its logits.

    Returns:
        One array per sequence, of shape (num_scored,), or (num_scored, 2) if `measure` returns two numbers each.

    Raises:
        ResourceError: If a single sequence does not fit into memory.
    """
    try:
        return forward(model, path, sequences, measure)
    except (torch.OutOfMemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        if len(sequences) == 1:
            raise ResourceError(
                f"A sequence of {len(sequences[0].token_ids)} tokens does not fit into memory",
                hint="Shorten it with --max-length, or use a narrower --dtype.",
            ) from error
    # Outside the handler, because the exception's traceback holds the tensors of the failed pass.
    release_cached(model.device)
    halved(sequences)
    middle = len(sequences) // 2
    halves = (sequences[:middle], sequences[middle:])
    return [logps for half in halves for logps in score_batch(model, path, half, halved, measure)]


@torch.inference_mode()
def forward(
    model: LanguageModel,
    path: ForwardMode,
    sequences: Sequence[TokenSequence],
    measure: Measure = token_logps,
    poisoned: NDArray[np.int64] | None = None,
) -> Logps:
    """Compute the same as `score_batch` in one forward pass, without handling out-of-memory errors.

    The embeddings at the `poisoned` positions of the input are replaced by NaN.
    """
    if sum(sequence.num_scored for sequence in sequences) == 0:
        width = () if measure is token_logps else (2,)
        return [np.empty((0, *width), dtype=np.float32) for _ in sequences]
    _check_vocabulary(model, sequences)
    _, products = matrix_products(model.device, model.dtype)
    compute = {"packed": _packed, "padded": _padded}[path]
    part = model.part
    followed: AbstractContextManager[None] = nullcontext()
    if part is not None and part.ranks is not None:  # the processes with the other parts run the same pass
        followed = part.ranks.followed(part.number, path, sequences, measure, poisoned, is_fused=model.fusion.on)
    fusing = fused(model.fusion, model.module, model.device, model.module.dtype)
    try:
        with _poisoning(model, poisoned), followed, products, full_precision(), fusing as measures:
            return compute(model, sequences, _measuring(part, measure, measures.get(measure, measure)))
    except RuntimeError as error:
        if was_interrupted(error):  # ctrl+C may leave torch's stack of modes short, which fails on the way out
            raise KeyboardInterrupt from error
        raise


def _measuring(part: Part | None, measure: Measure, whole: Measure) -> Measure:
    """Return a function that measures this process's logits, which may be those of a slice of the vocabulary.

    Args:
        part: The part of a split model in this process, if any.
        measure: The function.
        whole: What computes it from the logits of the whole vocabulary.
    """
    if part is None or part.slice_width == 0:
        return whole

    def measuring(logits: Tensor, token_ids: Tensor) -> Tensor:
        if logits.shape[-1] != part.slice_width:  # the head gathers its logits by itself
            return whole(logits, token_ids)
        return SPLIT[measure](logits, token_ids, part.slice_start)

    return measuring


@contextmanager
def _poisoning(model: LanguageModel, positions: NDArray[np.int64] | None) -> Iterator[None]:
    """Replace the embeddings at some positions by NaN."""
    if positions is None:
        yield
        return
    embeddings: nn.Module = model.module.get_input_embeddings()
    with embeddings.register_forward_hook(partial(_poison, torch.from_numpy(positions))):
        yield


def _poison(indices: Tensor, _module: nn.Module, _args: Any, embedded: Tensor) -> Tensor:
    if embedded.shape[1] <= int(indices.max()):  # from a model that embeds again for its head, and drops the result
        return embedded
    return embedded.index_fill(1, indices.to(embedded.device), torch.nan)


def _packed(model: LanguageModel, sequences: Sequence[TokenSequence], measure: Measure) -> Logps:
    row = pack(sequences)
    wanted = np.flatnonzero(row.scored)
    decoder = decoder_of(model.module)
    input_ids, positions, predecessors, targets = _uploaded(
        [row.token_ids, row.positions, row.predecessors[wanted], row.token_ids[wanted]], model.device
    )
    with attending(row):
        output = decoder(input_ids=input_ids[None], position_ids=positions[None], use_cache=False)
    last: Tensor = output.last_hidden_state  # of a model on several GPUs, this may be on another than the embeddings
    hidden = last[0, predecessors.to(last.device)]
    found = head_logps(model.module, decoder, output, hidden, targets.to(last.device), measure)
    logps = np.full((len(row.token_ids), *found.shape[1:]), np.nan, dtype=np.float32)
    logps[wanted] = found
    return [logps[at[sequence.first_scored :]] for at, sequence in zip(row.paths, sequences, strict=True)]


def _padded(model: LanguageModel, sequences: Sequence[TokenSequence], measure: Measure) -> Logps:
    counts = [sequence.num_scored for sequence in sequences]
    input_ids, attention_mask = (tensor.to(model.device) for tensor in pad(sequences))
    decoder = decoder_of(model.module)
    if varies_with_length(model.module.config):
        reset_rotary_lengths(decoder)
    output = decoder(input_ids=input_ids, attention_mask=attention_mask, use_cache=False)
    last: Tensor = output.last_hidden_state
    rows, columns, targets = _uploaded(
        [
            np.repeat(np.arange(len(sequences)), counts),
            np.concatenate([np.arange(s.first_scored - 1, len(s.token_ids) - 1) for s in sequences]),
            np.concatenate([s.scored_ids for s in sequences]).astype(np.int64),
        ],
        last.device,
    )
    hidden = last[rows, columns]
    return np.split(head_logps(model.module, decoder, output, hidden, targets, measure), np.cumsum(counts)[:-1])


def _uploaded(arrays: Sequence[NDArray[np.int64]], device: torch.device) -> Sequence[Tensor]:
    """Return arrays on a device, sent there at once."""
    together = torch.from_numpy(np.concatenate(arrays))
    if device.type == "cuda" and torch.cuda.is_available():
        together = together.pin_memory()  # from where a copy need not wait for the device
    return torch.split(together.to(device, non_blocking=True), [len(array) for array in arrays])


def _check_vocabulary(model: LanguageModel, sequences: Sequence[TokenSequence]) -> None:
    """Raise an error for token ids without an embedding or a row of the head, which would crash a GPU."""
    embeddings: Any = model.module.get_input_embeddings()
    head: Any = model.module.get_output_embeddings()
    known = int(embeddings.weight.shape[0])
    if model.part is None:  # a rank has a slice of the head
        known = min(known, int(head.weight.shape[0]))
    largest = max(int(sequence.token_ids.max(initial=0)) for sequence in sequences)
    if largest >= known:
        raise ModelError(
            f"Token id {largest} is outside the model's vocabulary of {known}",
            hint="The tokenizer does not belong to this model: copy the model's own tokenizer into its folder.",
        )


def pad(sequences: Sequence[TokenSequence]) -> tuple[Tensor, Tensor]:
    """Return token ids and attention mask, padded on the right; the mask is derived from lengths, not from ids.

    Returns:
        Two int64 tensors of shape (sequences, length of the longest sequence).
    """
    longest = max(len(sequence.token_ids) for sequence in sequences)
    input_ids = torch.zeros((len(sequences), longest), dtype=torch.long)
    attention_mask = torch.zeros_like(input_ids)
    for row, sequence in enumerate(sequences):
        length = len(sequence.token_ids)
        input_ids[row, :length] = torch.from_numpy(sequence.token_ids.astype(np.int64))
        attention_mask[row, :length] = 1
    return input_ids, attention_mask
