"""Available memory, and the memory that scoring needs."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import nn
from transformers import PretrainedConfig

from prefscope.scoring.blocks import PAIRS_AT_ONCE, QUERY_BLOCK
from prefscope.scoring.head import inner_size, logits_at_once

LIBRARY_BYTES = 650 << 20
"""Python, torch, transformers, tokenizer and cached kernels."""
SHARD_BYTES = 200 << 20
"""Two copies of the sequences of a shard (pipeline/shards.py): token ids, digests and plan."""


OUT_OF_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_NOT_INITIALIZED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
"""How devices and their libraries say that memory ran out; cuBLAS needs some for its handle."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that a device ran out of memory."""
    return isinstance(error, torch.OutOfMemoryError) or any(text in str(error) for text in OUT_OF_MEMORY)


def release_cached(device: torch.device) -> None:
    """Return memory that torch keeps for later tensors to the device."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def available_bytes(device: torch.device) -> int:
    """Return a device's free memory in bytes; for CPUs, within the limit of the container, if any.

    On a GPU, memory that torch keeps for later tensors counts as free.
    """
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + cached
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory())
    return min(_free_ram(), _container_room())


def _free_ram() -> int:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):  # not Linux: total memory is the best guess
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _container_room() -> int:
    folder = Path("/sys/fs/cgroup")
    try:
        limit, used = ((folder / name).read_text(encoding="ascii").strip() for name in ("memory.max", "memory.current"))
        return int(limit) - int(used)
    except (OSError, ValueError):  # no container, or no limit ("max")
        return 1 << 62


def resident_bytes(module: nn.Module) -> int:
    """Return the size of a module's weights and buffers in bytes."""
    tensors = [*module.parameters(), *module.buffers()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def final_state_bytes(config: PretrainedConfig, tokens: int, *, width: int) -> int:
    """Return the maximum memory of the final hidden states that are held while another model runs on the same batch.

    Args:
        config: The model's config.
        tokens: Tokens of the largest forward pass.
        width: Bytes per number.
    """
    hidden = int(getattr(config.get_text_config(), "hidden_size", 0))
    return 2 * tokens * hidden * width  # of all tokens, and of those that predict a scored one


def bytes_beside_weights(
    config: PretrainedConfig, tokens: int, longest: int, *, device: torch.device, width: int, writes_scores: bool
) -> int:
    """Return the maximum memory beside the weights, in bytes: libraries, token ids of one shard, one forward pass.

    Args:
        config: The model's config.
        tokens: Tokens of the largest forward pass.
        longest: Tokens of the longest sequence.
        device: The device of the model.
        width: Bytes per number.
        writes_scores: Whether attention holds the scores of all queries and keys in memory at the same time (`eager`).
    """
    text = config.get_text_config()
    hidden = int(getattr(text, "hidden_size", 0))
    inner = inner_size(config)
    heads = int(getattr(text, "num_attention_heads", 0) or 0)
    logits = logits_at_once(config, tokens, device=device, width=width)
    # Alive at once in a layer: residual, normed, query, key, value, output, its float32 join, and three of the MLP.
    activations = tokens * (8 * hidden * max(width, 4) + 3 * inner * width)
    pairs = (tokens if writes_scores else min(tokens, QUERY_BLOCK)) * longest
    if device.type != "cpu":  # blocks are computed together
        pairs = max(pairs, min(tokens * longest, PAIRS_AT_ONCE))
    scores = 4 * heads * pairs * max(width, 4)  # as computed, capped, masked, and as weights
    return LIBRARY_BYTES + SHARD_BYTES + activations + scores + 3 * logits * 4
