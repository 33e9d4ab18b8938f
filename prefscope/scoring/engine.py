"""The forward pass: computes per-token log-probs of token sequences.

Two forward modes give the same numbers. `packed` computes one row without padding, in which a shared prefix occurs once
(packing.py, attention.py). `padded` computes the sequences side by side, padded on the right, with the model's own
attention, and is used for models that fail the self-check of packing (self_check.py). In both, the vocabulary head runs
only at positions that predict a scored token (head.py), so no (batch, sequence, vocabulary) tensor ever exists.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from prefscope.errors import ModelError, ResourceError, was_interrupted
from prefscope.scoring.alternatives import FIXED, TopTokens
from prefscope.scoring.attention import attending
from prefscope.scoring.batches import Batch, PackedInputs, PaddedInputs, prepare
from prefscope.scoring.context import reset_rotary_lengths, varies_with_length
from prefscope.scoring.copies import downloading
from prefscope.scoring.forward_mode import ForwardMode
from prefscope.scoring.fused import fused
from prefscope.scoring.head import Measure, decoder_of, head_logps
from prefscope.scoring.linear import matrix_products
from prefscope.scoring.logps import token_logps
from prefscope.scoring.memory import is_out_of_memory, release_cached
from prefscope.scoring.models import LanguageModel, Part
from prefscope.scoring.precision import full_precision
from prefscope.scoring.sequences import TokenSequence
from prefscope.scoring.split_vocabulary import SPLIT

NUMERICS_VERSION = 7
"""Part of every store key; to be incremented when a change of this package may change a number."""

Logps = list[NDArray[np.float32]]
Pending = Callable[[], Logps]
"""Waits for the device and returns the log-probs."""


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
        One array per sequence, of shape (num_scored,), or (num_scored, n) if `measure` returns n numbers each.

    Raises:
        ResourceError: If a single sequence does not fit into memory.
    """
    return start_batch(model, path, sequences, halved, measure)()


def start_batch(
    model: LanguageModel,
    path: ForwardMode,
    sequences: Sequence[TokenSequence],
    halved: Callable[[Sequence[TokenSequence]], None],
    measure: Measure = token_logps,
    prepared: Callable[[], Batch] | None = None,
) -> Pending:
    """Start what `score_batch` does, and return a function that waits for the result.

    `prepared` returns the sequences as a batch if that has been made ahead. If memory runs out, the halves are finished
    before this function returns.
    """
    try:
        batch = prepare(path, sequences, model.device) if prepared is None else prepared()
        return start(model, batch, measure)
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
    found = [logps for half in halves for logps in score_batch(model, path, half, halved, measure)]
    return lambda: found


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
    return start(model, prepare(path, sequences, model.device), measure, poisoned)()


@torch.inference_mode()
def start(
    model: LanguageModel, batch: Batch, measure: Measure = token_logps, poisoned: NDArray[np.int64] | None = None
) -> Pending:
    """Start a forward pass, and return a function that waits for the device and returns the log-probs."""
    if batch.inputs is None:
        return lambda: [np.empty((0, *_width(measure)), dtype=np.float32) for _ in batch.sequences]
    _check_vocabulary(model, batch.sequences)
    _, products = matrix_products(model.device, model.dtype)
    part = model.part
    followed: AbstractContextManager[None] = nullcontext()
    if part is not None and part.ranks is not None:  # the processes with the other parts run the same pass
        path: ForwardMode = "packed" if isinstance(batch.inputs, PackedInputs) else "padded"
        followed = part.ranks.followed(part.number, path, batch.sequences, measure, poisoned, is_fused=model.fusion.on)
    fusing = fused(model.fusion, model.module, model.device, model.module.dtype)
    try:
        with _poisoning(model, poisoned), followed, products, full_precision(), fusing as measures:
            measuring = _measuring(part, measure, _fastest(measure, measures))
            if isinstance(batch.inputs, PackedInputs):
                return _start_packed(model, batch.sequences, batch.inputs, measuring)
            return _start_padded(model, batch.sequences, batch.inputs, measuring)
    except RuntimeError as error:
        if was_interrupted(error):  # ctrl+C may leave torch's stack of modes short, which fails on the way out
            raise KeyboardInterrupt from error
        raise


def _width(measure: Measure) -> tuple[int, ...]:
    """Return the shape of a measure's numbers at one position."""
    if isinstance(measure, TopTokens):
        return (max(sum(_width(measure.first)), 1) + FIXED + 2 * measure.count,)
    return () if measure is token_logps else (2,)


def _fastest(measure: Measure, fused_measures: Mapping[Measure, Measure]) -> Measure:
    """Return a measure with its fused counterpart, if there is one, in its place or its part's."""
    if isinstance(measure, TopTokens):
        return replace(measure, first=_fastest(measure.first, fused_measures))
    return fused_measures.get(measure, measure)


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


def _start_packed(
    model: LanguageModel, sequences: Sequence[TokenSequence], inputs: PackedInputs, measure: Measure
) -> Pending:
    decoder = decoder_of(model.module)
    token_ids, positions = inputs.token_ids.to(model.device), inputs.positions.to(model.device)
    with attending(inputs.attended):
        output = decoder(input_ids=token_ids[None], position_ids=positions[None], use_cache=False)
    last: Tensor = output.last_hidden_state  # of a model on several GPUs, this may be on another than the embeddings
    hidden = last[0, inputs.predecessors.to(last.device)]
    arrived = downloading(head_logps(model.module, decoder, output, hidden, inputs.targets.to(last.device), measure))
    row = inputs.attended.row

    def logps_of_paths() -> Logps:
        found = arrived()
        logps = np.full((len(row.token_ids), *found.shape[1:]), np.nan, dtype=np.float32)
        logps[inputs.wanted] = found
        return [logps[at[sequence.first_scored :]] for at, sequence in zip(row.paths, sequences, strict=True)]

    return logps_of_paths


def _start_padded(
    model: LanguageModel, sequences: Sequence[TokenSequence], inputs: PaddedInputs, measure: Measure
) -> Pending:
    token_ids, attention_mask = inputs.token_ids.to(model.device), inputs.attention_mask.to(model.device)
    decoder = decoder_of(model.module)
    if varies_with_length(model.module.config):
        reset_rotary_lengths(decoder)
    output = decoder(input_ids=token_ids, attention_mask=attention_mask, use_cache=False)
    last: Tensor = output.last_hidden_state
    hidden = last[inputs.rows.to(last.device), inputs.columns.to(last.device)]
    arrived = downloading(head_logps(model.module, decoder, output, hidden, inputs.targets.to(last.device), measure))
    ends = np.cumsum([sequence.num_scored for sequence in sequences])
    return lambda: np.split(arrived(), ends[:-1])


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
