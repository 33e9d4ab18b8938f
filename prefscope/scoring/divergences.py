"""The exact KL divergences of policy and reference at each position, over the whole vocabulary.

Both models run on the same batch. Their final hidden states are held, and the logits of some positions at a time are
computed with both heads, so that no tensor of all positions and the vocabulary exists.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from prefscope.errors import ModelError
from prefscope.scoring.alternatives import LOGITS_AT_ONCE_GPU
from prefscope.scoring.batches import Batch, PackedInputs, PaddedInputs
from prefscope.scoring.copies import downloading
from prefscope.scoring.forward_pass import (
    FinalStates,
    Pending,
    by_sequence,
    check_vocabulary,
    computing,
    fastest,
    final_states,
)
from prefscope.scoring.head import Measure, head_logits, rows_at_once
from prefscope.scoring.logps import CACHED_LOGITS, token_logps, widened
from prefscope.scoring.models import LanguageModel

COLUMNS = 2
"""Numbers per position: KL(policy‖reference) and KL(reference‖policy)."""


@dataclass(frozen=True, slots=True)
class ModelPair:
    """A policy and its reference, which may share weights and are switched on in turn."""

    policy: Callable[[], AbstractContextManager[LanguageModel]]
    """Returns a context in which the model is set up for its passes."""
    ref: Callable[[], AbstractContextManager[LanguageModel]]
    device: torch.device
    """Device of the inputs of both."""


def start_pair(pair: ModelPair, batch: Batch, measure: Measure = token_logps) -> Pending:
    """Start forward passes of both models, and return a function that waits for the device and returns the numbers.

    Returns:
        A function that returns, for each sequence, what `measure` computes from the policy's logits, then both
        divergences in nats, shape (num_scored, columns of `measure` + 2).

    Raises:
        ModelError: If the models have vocabularies of different sizes.
    """
    if batch.inputs is None:
        raise ValueError("the batch has no scored token")
    states = [_states(model, batch, batch.inputs) for model in (pair.ref, pair.policy)]
    targets = states[1].targets
    with pair.policy() as policy:
        size = max(rows_at_once(policy.module, states[1].output, states[1].hidden) // 2, 1)
    parts = []
    for start in range(0, len(targets), size):
        rows = slice(start, start + size)
        with _on(pair.ref) as (ref, _):
            of_ref = _logits(ref, states[0], rows)
        with _on(pair.policy) as (policy, measure_of):
            logits = _logits(policy, states[1], rows)
            first = measure_of(measure)(logits, targets[rows])
        with torch.inference_mode():
            found = divergences(logits, of_ref.to(logits.device))
            parts.append(torch.cat([first.reshape(len(first), -1), found.to(first.dtype)], dim=-1))
    with torch.inference_mode():
        return by_sequence(batch, downloading(torch.cat(parts)))


@contextmanager
def _on(
    model: Callable[[], AbstractContextManager[LanguageModel]],
) -> Iterator[tuple[LanguageModel, Callable[[Measure], Measure]]]:
    """Provide a model that is set up for its passes, and a function that returns the fastest form of a measure."""
    with model() as active, torch.inference_mode(), computing(active) as measures:  # adapters are switched outside it
        yield active, lambda measure: fastest(measure, measures)


def _states(
    model: Callable[[], AbstractContextManager[LanguageModel]], batch: Batch, inputs: PackedInputs | PaddedInputs
) -> FinalStates:
    with _on(model) as (active, _):
        check_vocabulary(active, batch.sequences)
        return final_states(active, inputs)


def _logits(model: LanguageModel, states: FinalStates, rows: slice) -> Tensor:
    return head_logits(model.module, states.decoder, states.output, states.hidden[rows])


def divergences(policy_logits: Tensor, ref_logits: Tensor) -> Tensor:
    """Return KL(policy‖reference) and KL(reference‖policy) at each position, in nats.

    Definition: KL(p‖q) = Σ_v p(v) log(p(v) / q(v)). It is computed as Σ_v [q(v) − p(v) + p(v) log(p(v) / q(v))], whose
    terms are not negative, and in which errors of the two normalisers cancel: between a policy and its reference, they
    would be as large as the divergence. It is infinite if q is 0 where p is not.

    Args:
        policy_logits: Shape (N, V).
        ref_logits: Shape (N, V).

    Returns:
        Shape (N, 2), float32 (float64 for float64 logits).

    Raises:
        ModelError: If the vocabularies differ in size.
    """
    if policy_logits.shape != ref_logits.shape:
        sizes = policy_logits.shape[-1], ref_logits.shape[-1]
        raise ModelError(
            f"The policy's vocabulary has {sizes[0]} entries and the reference's {sizes[1]}, so there is no divergence",
            hint="Omit --kl, or make the embeddings of both checkpoints equally long.",
        )
    at_once = CACHED_LOGITS if policy_logits.device.type == "cpu" else LOGITS_AT_ONCE_GPU
    rows = max(at_once // policy_logits.shape[-1], 1)
    parts = zip(torch.split(policy_logits, rows), torch.split(ref_logits, rows), strict=True)
    return torch.cat([_both(widened(p), widened(q)) for p, q in parts])


def _both(policy_logits: Tensor, ref_logits: Tensor) -> Tensor:
    of_policy, of_ref = policy_logits.log_softmax(-1), ref_logits.log_softmax(-1)
    p, q = of_policy.exp(), of_ref.exp()
    ratios = of_policy.sub_(of_ref)
    return torch.stack([_divergence(p, q, ratios), _divergence(q, p, ratios.neg_())], dim=-1)


def _divergence(p: Tensor, q: Tensor, ratios: Tensor) -> Tensor:
    """Return Σ (q − p + p × ratio) over the last dimension; the second term is 0 where p is."""
    return (q - p).add_(torch.where(p == 0, 0, p * ratios)).sum(-1).clamp_min_(0)
