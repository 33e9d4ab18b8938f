"""Reads dtypes, shapes and numbers of weights from the headers of weight files, without importing torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeGuard

from prefscope.errors import UNREADABLE, ModelError
from prefscope.scoring.checkpoints import Checkpoint
from prefscope.scoring.folder_contents import loaded_weights

_WIDTHS = {"F64": ("float64", 8), "F32": ("float32", 4), "F16": ("float16", 2), "BF16": ("bfloat16", 2)}
BYTES = dict(_WIDTHS.values())
_LONGEST_NAME = 80
MINOR_SHARE = 0.01  # a dtype with a smaller share of the weights (of a router's bias, say) is ignored


def stored_dtype(checkpoint: Checkpoint) -> str:
    """Return the widest floating-point dtype with at least 1% of the weights, from the file headers.

    GGUF weights count as float32, because they are dequantized to float32 when loaded; so do pickled weights, which
    have no header.
    """
    counts = _count(checkpoint)
    main = [dtype for dtype, count in counts.items() if count >= MINOR_SHARE * sum(counts.values())]
    return max(main, key=lambda dtype: (BYTES[dtype], dtype), default="float32")


def num_weights(checkpoint: Checkpoint) -> int | None:
    """Return the number of weights of a full checkpoint, or None if its files have no headers."""
    return sum(_count(checkpoint).values()) or None


def _count(checkpoint: Checkpoint) -> dict[str, int]:
    """Return the number of weights of each floating-point dtype in a full checkpoint's safetensors files."""
    counts: dict[str, int] = {}
    for file in header_files(checkpoint.full):
        for tensor in safetensors_header(file).values():
            if tensor["dtype"] in _WIDTHS:
                dtype, width = _WIDTHS[tensor["dtype"]]
                size = tensor["data_offsets"][1] - tensor["data_offsets"][0]
                counts[dtype] = counts.get(dtype, 0) + size // width
    return counts


def tensor_shapes(checkpoint: Checkpoint) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor in a checkpoint's own safetensors files, by name.

    Raises:
        ModelError: If a file is truncated or is not a safetensors file.
    """
    return {
        name: tuple(tensor["shape"])
        for file in header_files(checkpoint)
        for name, tensor in safetensors_header(file).items()
    }


def header_files(checkpoint: Checkpoint) -> list[Path]:
    """Return the files of a checkpoint's own weights that have a header."""
    return [] if checkpoint.is_gguf else loaded_weights(checkpoint.path, is_adapter=checkpoint.base is not None)


def safetensors_header(file: Path) -> dict[str, Any]:
    """Return the tensor table of a safetensors file, which starts with 8 bytes of length, then JSON of that length.

    Raises:
        ModelError: If the file is truncated or is not a safetensors file.
    """
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if length > size:
                raise ValueError("its header is longer than the file")
            header = json.loads(stream.read(length))
        header.pop("__metadata__", None)
        odd = next((name for name, tensor in header.items() if not _is_tensor(tensor)), None)
        if odd is not None:
            raise ValueError(f"the entry {odd[:_LONGEST_NAME]!r} of its header is not a tensor")
        ends = [tensor["data_offsets"][1] for tensor in header.values()]
        whole = 8 + length + max(ends, default=0)
        if size < whole:
            raise ValueError(f"it has {size:,} of {whole:,} bytes")
    except (OSError, TypeError, AttributeError, *UNREADABLE) as error:
        raise ModelError(
            f"This safetensors file is incomplete or damaged ({error})",
            where=str(file),
            hint="Copy the checkpoint again.",
        ) from error
    return dict(header)


def _is_tensor(value: Any) -> bool:
    """Return whether an entry of a header has a valid dtype, shape and offsets."""
    if not isinstance(value, dict) or not isinstance(value.get("dtype"), str):
        return False
    shape, offsets = value.get("shape"), value.get("data_offsets")
    if not (_are_counts(shape) and _are_counts(offsets)):
        return False
    return len(offsets) == 2 and offsets[0] <= offsets[1]  # noqa: PLR2004 (begin and end)


def _are_counts(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)
