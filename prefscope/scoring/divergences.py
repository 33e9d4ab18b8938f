"""The exact KL divergences of policy and reference at each position, over the whole vocabulary.

Both models run on the same batch. Their final hidden states are held, and the logits of some positions at a time are
computed with both heads, so that no tensor of all positions and the vocabulary exists.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
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
from prefscope.scoring.logps import CACHED_LOGITS, log_totals, token_logps, widened
from prefscope.scoring.models import LanguageModel

COLUMNS = 2
"""Numbers per position: KL(policy‖reference) and KL(reference‖policy)."""
Ready = Callable[[], AbstractContextManager[LanguageModel]]
"""Returns a context in which a model is set up for its passes."""


@dataclass(frozen=True, slots=True)
class ModelPair:
    """A policy and its reference, which may share weights and are switched on in turn."""

    policy: Ready
    ref: Ready
    device: torch.device
    """Device of the inputs of both."""
    ref_measure: Measure = token_logps
    """What to compute from the reference's logits."""


def start_pair(pair: ModelPair, batch: Batch, measure: Measure = token_logps) -> Pending:
    """Start forward passes of both models, and return a function that waits for the device and returns the numbers.

    Returns:
        A function that returns, for each sequence, what `measure` computes from the policy's logits, what the pair's
        `ref_measure` computes from the reference's, and both divergences in nats. Shape (num_scored, columns of all).

    Raises:
        ModelError: If the models have vocabularies of different sizes.
    """
    if batch.inputs is None:
        raise ValueError("the batch has no scored token")
    (ref, _), (policy, rows) = (_states(model, batch, batch.inputs) for model in (pair.ref, pair.policy))
    size = max(rows // 2, 1)  # there are the logits of two models
    parts = []
    for start in range(0, len(policy.targets), size):
        some = slice(start, start + size)
        of_ref, ref_numbers = _measured(pair.ref, ref, some, pair.ref_measure)
        of_policy, numbers = _measured(pair.policy, policy, some, measure)
        with torch.inference_mode():
            both = divergences(of_policy, of_ref.to(of_policy.device))
            parts.append(torch.cat([numbers, *(one.to(numbers) for one in (ref_numbers, both))], dim=-1))
    with torch.inference_mode():
        return by_sequence(batch, downloading(torch.cat(parts)))


@contextmanager
def _on(ready: Ready) -> Iterator[tuple[LanguageModel, Mapping[Measure, Measure]]]:
    """Provide a model that is set up for its passes, and its fused measures."""
    with ready() as model, torch.inference_mode(), computing(model) as measures:  # adapters are switched outside it
        yield model, measures


def _states(ready: Ready, batch: Batch, inputs: PackedInputs | PaddedInputs) -> tuple[FinalStates, int]:
    """Return a model's final states, and the number of positions whose logits it would compute at once."""
    with _on(ready) as (model, _):
        check_vocabulary(model, batch.sequences)
        states = final_states(model, inputs)
        return states, rows_at_once(model.module, states.output, states.hidden)


def _measured(ready: Ready, states: FinalStates, rows: slice, measure: Measure) -> tuple[Tensor, Tensor]:
    """Return the logits of some positions, and what a measure computes from them, shape (rows, columns)."""
    with _on(ready) as (model, measures):
        logits = head_logits(model.module, states.decoder, states.output, states.hidden[rows])
        numbers = fastest(measure, measures)(logits, states.targets[rows])
        return logits, numbers.reshape(len(numbers), -1)


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
            f"The policy's vocabulary has {sizes[0]} entries and the reference's {sizes[1]}: KL is not defined",
            hint="Omit --kl, or make the embeddings of both checkpoints equally long.",
        )
    at_once = CACHED_LOGITS if policy_logits.device.type == "cpu" else LOGITS_AT_ONCE_GPU
    rows = max(at_once // policy_logits.shape[-1], 1)
    parts = zip(torch.split(policy_logits, rows), torch.split(ref_logits, rows), strict=True)
    return torch.cat([_both(widened(p), widened(q)) for p, q in parts])


def _both(policy_logits: Tensor, ref_logits: Tensor) -> Tensor:
    of_policy, of_ref = (logits - log_totals(logits).unsqueeze(-1) for logits in (policy_logits, ref_logits))
    p, q = of_policy.exp(), of_ref.exp()
    ratios = of_policy.sub_(of_ref)
    return torch.stack([_divergence(p, q, ratios), _divergence(q, p, ratios.neg_())], dim=-1)


def _divergence(p: Tensor, q: Tensor, ratios: Tensor) -> Tensor:
    """Return Σ (q − p + p × ratio) over the last dimension; the second term is 0 where p is."""
    return (q - p).add_(torch.where(p == 0, 0, p * ratios)).sum(-1).clamp_min_(0)
