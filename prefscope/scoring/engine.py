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

from prefscope.errors import ResourceError
from prefscope.scoring.alternatives import columns_of
from prefscope.scoring.batches import Batch, PackedInputs, prepare
from prefscope.scoring.copies import downloading
from prefscope.scoring.divergences import COLUMNS as DIVERGENCES
from prefscope.scoring.divergences import ModelPair, start_pair
from prefscope.scoring.forward_mode import ForwardMode
from prefscope.scoring.forward_pass import (
    Logps,
    Pending,
    by_sequence,
    check_vocabulary,
    computing,
    fastest,
    final_states,
)
from prefscope.scoring.head import Measure, head_logps
from prefscope.scoring.linear import matrix_products
from prefscope.scoring.logps import token_logps
from prefscope.scoring.memory import is_out_of_memory, release_cached
from prefscope.scoring.models import LanguageModel, Part
from prefscope.scoring.sequences import TokenSequence
from prefscope.scoring.split_vocabulary import SPLIT

NUMERICS_VERSION = 7
"""Part of every store key; to be incremented when a change of this package may change a number."""


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
    model: LanguageModel | ModelPair,
    path: ForwardMode,
    sequences: Sequence[TokenSequence],
    halved: Callable[[Sequence[TokenSequence]], None],
    measure: Measure = token_logps,
) -> Logps:
    """Return the log-prob of every scored token of each sequence, in nats, in the given order.

    Args:
        model: A loaded model whose attention is set for the forward mode (`self_check.follow`), or a policy with its
            reference, whose numbers follow those of the policy (`divergences.start_pair`).
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
    model: LanguageModel | ModelPair,
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
        return _start_pair(model, batch, measure) if isinstance(model, ModelPair) else start(model, batch, measure)
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


def _start_pair(pair: ModelPair, batch: Batch, measure: Measure) -> Pending:
    if batch.inputs is None:
        return lambda: _nothing(batch, columns_of(measure) + columns_of(pair.ref_measure) + DIVERGENCES)
    return start_pair(pair, batch, measure)


@torch.inference_mode()
def start(
    model: LanguageModel, batch: Batch, measure: Measure = token_logps, poisoned: NDArray[np.int64] | None = None
) -> Pending:
    """Start a forward pass, and return a function that waits for the device and returns the log-probs."""
    if batch.inputs is None:
        return lambda: _nothing(batch, columns_of(measure))
    check_vocabulary(model, batch.sequences)
    part = model.part
    followed: AbstractContextManager[None] = nullcontext()
    if part is not None and part.ranks is not None:  # the processes with the other parts run the same pass
        path: ForwardMode = "packed" if isinstance(batch.inputs, PackedInputs) else "padded"
        followed = part.ranks.followed(part.number, path, batch.sequences, measure, poisoned, is_fused=model.fusion.on)
    with _poisoning(model, poisoned), followed, computing(model) as measures:
        measuring = _measuring(part, measure, fastest(measure, measures))
        states = final_states(model, batch.inputs)
        found = head_logps(model.module, states.decoder, states.output, states.hidden, states.targets, measuring)
        return by_sequence(batch, downloading(found))


def _nothing(batch: Batch, columns: int) -> Logps:
    """Return the numbers of a batch without scored tokens, as a measure with some columns would."""
    shape = (0,) if columns == 1 else (0, columns)
    return [np.empty(shape, dtype=np.float32) for _ in batch.sequences]


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
