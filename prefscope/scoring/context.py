"""The context length of a model: from its config, including the scaling of rotary positions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn
from transformers import PretrainedConfig

from prefscope.errors import ModelError

_LARGEST_FACTOR = 1e6
_FINAL = ("llama3", "longrope", "su")
"""Types of rotary scaling for which `max_position_embeddings` is the length after scaling."""


def context_of(config: PretrainedConfig) -> int | None:
    """Return the number of positions of a model, or None if its config does not define it.

    Linear and dynamic scaling multiply `max_position_embeddings`. YaRN multiplies the length before scaling; as configs
    use either length as `max_position_embeddings`, the larger number counts. For other types, and for Gemma 3, it is
    the final length already. (vLLM reads configs in the same way.)

    Raises:
        ModelError: If `max_position_embeddings` is not a whole number.
    """
    text = config.get_text_config()
    length = getattr(text, "max_position_embeddings", None)
    if length is not None and type(length) is not int:  # older transformers take any value
        raise ModelError(
            f"max_position_embeddings is {length!r:.80}, not a whole number", hint="Fix the config.json of the model."
        )
    if length is None or length <= 0:
        return None
    if str(text.model_type).startswith("gemma3"):
        return length
    return max((_scaled(length, rope) for rope in _ropes(text)), default=length)


def is_rotary(config: PretrainedConfig) -> bool:
    """Return whether positions are rotary, and so defined for any length, unlike tables of positions."""
    return any(True for _ in _ropes(config.get_text_config()))


def varies_with_length(config: PretrainedConfig) -> bool:
    """Return whether the rotary frequencies depend on the longest sequence of a batch, as with dynamic NTK scaling."""
    return any("dynamic" in str(rope.get("rope_type")) for rope in _ropes(config.get_text_config()))


def reset_rotary_lengths(module: nn.Module) -> None:
    """Reset dynamic rotary frequencies, which otherwise stay those of the longest batch, to their initial state."""
    for part in module.modules():
        original: Any = getattr(part, "original_max_seq_len", None)
        if original is None:
            continue
        for name in [name for name, _ in part.named_buffers(recurse=False) if name.endswith("inv_freq")]:
            prefix = name.removesuffix("inv_freq").removesuffix("original_")
            first: Any = getattr(part, f"{prefix}original_inv_freq", None)
            current: Any = getattr(part, f"{prefix}inv_freq")
            if first is not None:
                part.register_buffer(f"{prefix}inv_freq", first.to(current.device), persistent=False)
                setattr(part, f"{prefix}max_seq_len_cached", original)


def _ropes(text: Any) -> Iterator[dict[str, Any]]:
    """Yield the rotary parameters of a text model: one set, or one for each type of layer."""
    rope = getattr(text, "rope_parameters", None) or {}
    by_layer = [value for value in rope.values() if isinstance(value, dict)]
    yield from by_layer or ([rope] if rope else [])


def _scaled(length: int, rope: dict[str, Any]) -> int:
    kind, factor = rope.get("rope_type", "default"), rope.get("factor")
    if kind in _FINAL or not isinstance(factor, int | float) or not 1 < factor <= _LARGEST_FACTOR:
        return length
    if kind == "yarn":
        before = rope.get("original_max_position_embeddings")
        return max(length, int(factor * before)) if isinstance(before, int) else length
    return int(length * factor)
