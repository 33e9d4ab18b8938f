"""The vocabulary head: computes log-probs of tokens from final hidden states, in chunks that limit memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from prefscope.errors import ModelError
from prefscope.scoring.logps import token_logps

CHUNK_LOGITS = 1 << 22
"""Logits computed at once: few enough that their softmax finds them in the cache of a CPU."""
CHUNK_LOGITS_GPU, MOST_LOGITS_GPU = 1 << 26, 1 << 28
"""The least and the most on a GPU, which is faster with large products."""
BYTES_A_LOGIT = 8
"""In 16 bits with its copies: 4 with fused kernels and 14 without, when layers take more than is counted for them."""
FEWEST_ROWS = 64
Measure = Callable[[Tensor, Tensor], Tensor]
"""Takes logits and the next tokens, as `token_logps`, `token_logps_and_collisions` and `TopTokens` do."""


def logits_at_once(config: PretrainedConfig, tokens: int, *, device: torch.device, width: int) -> int:
    """Return how many logits are computed at once.

    On a GPU, they may take the memory of what the feed-forward network of a layer computed for all tokens of the pass
    (gate, up, and their product), which is free by then. So they do not raise the peak, which grows in proportion to
    the tokens, as probe.py assumes. As that gives larger passes to GPUs with more memory, these compute larger chunks,
    and two runs on one GPU the same.

    Args:
        config: The model's config.
        tokens: Tokens of the forward pass, padding included.
        device: The device of the head.
        width: Bytes per number.
    """
    if device.type == "cpu":
        return CHUNK_LOGITS
    fitting = tokens * 3 * inner_size(config) * width // BYTES_A_LOGIT
    return min(max(fitting, CHUNK_LOGITS_GPU), MOST_LOGITS_GPU)


def inner_size(config: PretrainedConfig) -> int:
    """Return the width of a model's feed-forward networks, or the widest if its layers differ."""
    text = config.get_text_config()
    found = getattr(text, "intermediate_size", None) or 4 * int(getattr(text, "hidden_size", 0))
    return max(found) if isinstance(found, list | tuple) else int(found)


def decoder_of(module: PreTrainedModel) -> nn.Module:
    """Return the part of a causal language model that computes the final hidden states.

    Raises:
        ModelError: If the model has no such part.
    """
    # transformers does not find Llama 4's decoder, and for ModernBERT it returns the head.
    candidates = (module.get_decoder(), module.base_model, getattr(module, "model", module))
    for candidate in candidates:
        if candidate is not module and not isinstance(candidate, nn.Linear):
            decoder: nn.Module = candidate
            return decoder
    raise ModelError(f"A {type(module).__name__} has no decoder separate from its head, so it cannot be scored")


def head_logps(
    module: PreTrainedModel,
    decoder: nn.Module,
    output: Any,
    hidden: Tensor,
    targets: Tensor,
    measure: Measure = token_logps,
) -> Tensor:
    """Return the log-prob of one target token per position, from final hidden states.

    The logits are computed by the model's own forward method, with its decoder replaced by one that returns the hidden
    states. So the soft caps, scales and biases of any model family's head are applied.

    Args:
        module: The causal language model.
        decoder: Its decoder, which ends in the final norm.
        output: The decoder's output; its other fields are passed on.
        hidden: Shape (N, hidden size).
        targets: Token ids, shape (N,).
        measure: Computes the results from the logits.

    Returns:
        The result of `measure` on the device: shape (N,), or (N, n) if it returns n numbers each.
    """
    size = rows_at_once(module, output, hidden)
    parts = []
    for start in range(0, len(hidden), size):
        logits = head_logits(module, decoder, output, hidden[start : start + size])
        parts.append(measure(logits, targets[start : start + size]))
    return torch.cat(parts)


def rows_at_once(module: PreTrainedModel, output: Any, hidden: Tensor) -> int:
    """Return the number of positions whose logits are computed at once; arguments as in `head_logps`."""
    embeddings: Any = module.get_output_embeddings()
    tokens, width = output.last_hidden_state.shape[:-1].numel(), hidden.element_size()
    logits = logits_at_once(module.config, tokens, device=hidden.device, width=width)
    return max(FEWEST_ROWS, logits // int(embeddings.weight.shape[0]))


def head_logits(module: PreTrainedModel, decoder: nn.Module, output: Any, hidden: Tensor) -> Tensor:
    """Return the logits of some positions, shape (N, vocabulary); arguments as in `head_logps`.

    Raises:
        ModelError: If the head reads more than a position's own hidden state.
    """
    answer = dataclasses.replace(output, last_hidden_state=hidden.unsqueeze(0))
    token_ids = torch.zeros(1, len(hidden), dtype=torch.long, device=hidden.device)
    with _answering(decoder, answer):
        scores: Tensor = module(input_ids=token_ids, use_cache=False).logits
    if scores.shape[:2] != token_ids.shape:
        raise ModelError("The model does not compute each position's logits from its hidden state alone")
    return scores[0]


@contextmanager
def _answering(decoder: nn.Module, answer: Any) -> Iterator[None]:
    """Make a module return a fixed value from every call."""
    previous = decoder.__dict__.get("forward")  # accelerate stores its hooks here
    decoder.forward = lambda *_, **__: answer
    try:
        yield
    finally:
        if previous is None:
            del decoder.forward
        else:
            decoder.forward = previous
