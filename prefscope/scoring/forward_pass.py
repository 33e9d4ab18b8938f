"""One forward pass of a model: from a batch to the final hidden states that predict scored tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from prefscope.errors import ModelError, was_interrupted
from prefscope.scoring.alternatives import TopTokens
from prefscope.scoring.attention import attending
from prefscope.scoring.batches import Batch, PackedInputs, PaddedInputs
from prefscope.scoring.context import reset_rotary_lengths, varies_with_length
from prefscope.scoring.fused import fused
from prefscope.scoring.head import Measure, decoder_of
from prefscope.scoring.linear import matrix_products
from prefscope.scoring.models import LanguageModel
from prefscope.scoring.precision import full_precision
from prefscope.scoring.sequences import TokenSequence

Logps = list[NDArray[np.float32]]
Pending = Callable[[], Logps]
"""Waits for the device and returns the log-probs."""


@dataclass(frozen=True, slots=True)
class FinalStates:
    """What a model's head needs to predict the scored tokens of a batch."""

    decoder: nn.Module
    output: Any
    """The decoder's output, whose other fields some heads read."""
    hidden: Tensor
    """The final hidden states that predict the N tokens. Shape (N, hidden size)."""
    targets: Tensor
    """The tokens, on the same device. Shape (N,)."""


@contextmanager
def computing(model: LanguageModel) -> Iterator[Mapping[Measure, Measure]]:
    """Set the libraries up for forward passes of a model, and yield the fused measures.

    Raises:
        KeyboardInterrupt: Also if ctrl+C left torch's stack of modes short, which fails on the way out.
    """
    _, products = matrix_products(model.device, model.dtype)
    fusing = fused(model.fusion, model.module, model.device, model.module.dtype)
    try:
        with products, full_precision(), fusing as measures:
            yield measures
    except RuntimeError as error:
        if was_interrupted(error):
            raise KeyboardInterrupt from error
        raise


def fastest(measure: Measure, fused_measures: Mapping[Measure, Measure]) -> Measure:
    """Return a measure with its fused counterpart, if there is one, in its place or its part's."""
    if isinstance(measure, TopTokens):
        return replace(measure, first=fastest(measure.first, fused_measures))
    return fused_measures.get(measure, measure)


def final_states(model: LanguageModel, inputs: PackedInputs | PaddedInputs) -> FinalStates:
    """Run a model's decoder, whose attention is set for the forward mode of the inputs (`self_check.follow`)."""
    decoder = decoder_of(model.module)
    token_ids = inputs.token_ids.to(model.device)
    if isinstance(inputs, PackedInputs):
        with attending(inputs.attended):
            positions = inputs.positions.to(model.device)
            output = decoder(input_ids=token_ids[None], position_ids=positions[None], use_cache=False)
        last: Tensor = output.last_hidden_state  # of a model on several GPUs, it may be on another than the embeddings
        return FinalStates(
            decoder, output, last[0, inputs.predecessors.to(last.device)], inputs.targets.to(last.device)
        )
    if varies_with_length(model.module.config):
        reset_rotary_lengths(decoder)
    output = decoder(input_ids=token_ids, attention_mask=inputs.attention_mask.to(model.device), use_cache=False)
    last = output.last_hidden_state
    hidden = last[inputs.rows.to(last.device), inputs.columns.to(last.device)]
    return FinalStates(decoder, output, hidden, inputs.targets.to(last.device))


def by_sequence(batch: Batch, arrived: Callable[[], NDArray[np.float32]]) -> Pending:
    """Return a function that waits for the numbers of all positions, and returns those of each sequence."""
    inputs, sequences = batch.inputs, batch.sequences
    if not isinstance(inputs, PackedInputs):
        ends = np.cumsum([sequence.num_scored for sequence in sequences])
        return lambda: np.split(arrived(), ends[:-1])
    row, wanted = inputs.attended.row, inputs.wanted

    def of_paths() -> Logps:
        found = arrived()
        numbers = np.full((len(row.token_ids), *found.shape[1:]), np.nan, dtype=np.float32)
        numbers[wanted] = found
        return [numbers[at[sequence.first_scored :]] for at, sequence in zip(row.paths, sequences, strict=True)]

    return of_paths


def check_vocabulary(model: LanguageModel, sequences: Sequence[TokenSequence]) -> None:
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
