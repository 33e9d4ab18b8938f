"""What the weight files of a checkpoint say: how wide, how many, and how many equal another checkpoint's."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from prefscope.errors import ModelError
from prefscope.scoring.checkpoints import Checkpoint

_WIDTHS = {"F64": ("float64", 8), "F32": ("float32", 4), "F16": ("float16", 2), "BF16": ("bfloat16", 2)}
BYTES = dict(_WIDTHS.values())
MINOR_SHARE = 0.01  # a dtype with a smaller share of the weights (a router's bias, say) does not decide
SAMPLED_ROWS = 16
ERASED_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Overlap:
    """How far the policy's weights equal the reference's once both are loaded; by a sample of rows of every tensor."""

    equal: float
    """Share of all weights."""
    equal_where_trained: float
    """The same among weights that differ as they are stored, and in 16-bit files, where rounding may have come before
    storing, among rows with one that differs; 0 where there are none."""

    @property
    def erased(self) -> bool:
        """Whether rounding has made most weights equal that training moved."""
        return self.equal_where_trained >= ERASED_SHARE


def stored_dtype(checkpoint: Checkpoint) -> str:
    """Return the widest floating dtype that holds at least 1% of the weights, from the file headers alone.

    GGUF weights are dequantized to float32 on loading, so they count as float32; so do pickled weights, which have no
    header to read.
    """
    counts = _count(checkpoint)
    main = [dtype for dtype, count in counts.items() if count >= MINOR_SHARE * sum(counts.values())]
    return max(main, key=lambda dtype: (BYTES[dtype], dtype), default="float32")


def num_weights(checkpoint: Checkpoint) -> int | None:
    """Return how many weights a full checkpoint has, from its file headers; None where they do not say."""
    return sum(_count(checkpoint).values()) or None


def _count(checkpoint: Checkpoint) -> dict[str, int]:
    """Return how many weights of each floating dtype a full checkpoint's safetensors files hold."""
    counts: dict[str, int] = {}
    for file in _files(checkpoint.full):
        for tensor in _safetensors_header(file).values():
            if tensor.get("dtype") in _WIDTHS:
                dtype, width = _WIDTHS[tensor["dtype"]]
                size = tensor["data_offsets"][1] - tensor["data_offsets"][0]
                counts[dtype] = counts.get(dtype, 0) + size // width
    return counts


def _files(full: Checkpoint) -> list[Path]:
    return [] if full.is_gguf else sorted(full.path.glob("*.safetensors"))


def overlap(policy: Checkpoint, ref: Checkpoint, dtype: str) -> Overlap | None:
    """Return how far two full checkpoints are equal in a dtype, read from their files.

    None for an adapter, for the same checkpoint twice, and where the files do not name the same tensors.
    """
    if policy.base is not None or ref.base is not None or policy.same_weights(ref):
        return None
    equal = trained = equal_where_trained = total = 0.0
    with ExitStack() as stack:
        ours, theirs = (_tensors(_files(checkpoint), stack) for checkpoint in (policy, ref))
        for name in ours.keys() & theirs.keys():
            (size, some), (other_size, others) = ours[name](), theirs[name]()
            if not size or some.shape != others.shape or size != other_size or not some.is_floating_point():
                continue
            same = some.to(getattr(torch, dtype)) == others.to(getattr(torch, dtype))
            moved = _moved(some, others)
            total, equal = total + size, equal + size * _mean(same)
            trained += size * _mean(moved)
            equal_where_trained += size * _mean(same & moved)
    if total < (num_weights(policy) or 0) / 2 or not total:
        return None
    return Overlap(equal / total, equal_where_trained / trained if trained else 0.0)


def _moved(ours: Tensor, theirs: Tensor) -> Tensor:
    """Return which weights training moved, as far as what is stored can tell; shape (rows, width), as both."""
    moved = ours.double() != theirs.double()
    in_16_bit = ours.element_size() == theirs.element_size() == 2  # noqa: PLR2004 (bytes)
    return moved.any(-1, keepdim=True).expand_as(moved) if in_16_bit else moved


def _mean(flags: Tensor) -> float:
    return float(flags.double().mean())


def _tensors(files: list[Path], stack: ExitStack) -> dict[str, Callable[[], tuple[int, Tensor]]]:
    """Return by name what reads some rows of each tensor, with the tensor's size."""
    readers: dict[str, Callable[[], tuple[int, Tensor]]] = {}
    for file in files:
        opened = stack.enter_context(safe_open(file, framework="pt"))
        for name in opened.keys():  # noqa: SIM118 (no dictionary)
            readers[name] = lambda name=name, opened=opened: _sample(opened.get_slice(name))  # type: ignore[misc]
    return readers


def _sample(tensor: Any) -> tuple[int, Tensor]:
    """Return the size of a stored tensor and evenly spaced rows of it, of a vector one row; shape (rows, width)."""
    shape = tensor.get_shape()
    if not shape or not math.prod(shape):
        return math.prod(shape), tensor[...].reshape(1, -1)
    step = max(shape[0] // SAMPLED_ROWS, 1)
    rows = torch.cat([tensor[i : i + 1] for i in range(0, shape[0], step)])
    return math.prod(shape), rows.reshape(1, -1) if rows.dim() == 1 else rows.flatten(1)


def _safetensors_header(file: Path) -> dict[str, Any]:
    """Return the tensor table of a safetensors file: 8 bytes of length, then JSON.

    Raises:
        ModelError: The file is cut off or is no safetensors file.
    """
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if length > file.stat().st_size:
                raise ValueError("the header is longer than the file")  # noqa: TRY301 (told below with the rest)
            header = json.loads(stream.read(length))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"This is no whole safetensors file ({error})", where=str(file), hint="Copy the checkpoint again."
        ) from error
    header.pop("__metadata__", None)
    return dict(header)
