"""Compares the weights of two checkpoints, using their files."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from prefscope.scoring.checkpoints import Checkpoint
from prefscope.scoring.headers import header_files, num_weights

SAMPLED_ROWS = 16
ERASED_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Overlap:
    """The share of equal weights in policy and reference once loaded, from a sample of rows of every tensor."""

    equal: float
    """Share of all weights that are equal."""
    equal_where_trained: float
    """The same share of the weights that training changed: those that differ in the files; for 16-bit files, which may
    have been rounded before they were saved, the rows with a weight that differs. 0 if there are none."""

    @property
    def erased(self) -> bool:
        """Whether rounding has made most of the weights equal that training changed."""
        return self.equal_where_trained >= ERASED_SHARE


def overlap(policy: Checkpoint, ref: Checkpoint, dtype: str) -> Overlap | None:
    """Compare the weights of two full checkpoints in a dtype, reading their files.

    Returns None for adapters, if both are the same checkpoint, or if the tensors in the files do not match.
    """
    if policy.base is not None or ref.base is not None or policy.same_weights(ref):
        return None
    equal = trained = equal_where_trained = total = 0.0
    with ExitStack() as stack:
        ours, theirs = (_tensors(header_files(checkpoint), stack) for checkpoint in (policy, ref))
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
    """Return which weights training changed, judging by the files; shape (rows, width), as both tensors."""
    moved = ours.double() != theirs.double()
    in_16_bit = ours.element_size() == theirs.element_size() == 2  # noqa: PLR2004 (bytes)
    return moved.any(-1, keepdim=True).expand_as(moved) if in_16_bit else moved


def _mean(flags: Tensor) -> float:
    return float(flags.double().mean())


def _tensors(files: list[Path], stack: ExitStack) -> dict[str, Callable[[], tuple[int, Tensor]]]:
    """Return, by name, functions that read some rows of each tensor and its size."""
    readers: dict[str, Callable[[], tuple[int, Tensor]]] = {}
    for file in files:
        opened = stack.enter_context(safe_open(file, framework="pt"))
        for name in opened.keys():  # noqa: SIM118 (no dictionary)
            readers[name] = lambda name=name, opened=opened: _sample(opened.get_slice(name))  # type: ignore[misc]
    return readers


def _sample(tensor: Any) -> tuple[int, Tensor]:
    """Return the size of a stored tensor and evenly spaced rows of it, shape (rows, width); a vector has one row."""
    shape = tensor.get_shape()
    if not shape or not math.prod(shape):
        return math.prod(shape), tensor[...].reshape(1, -1)
    step = max(shape[0] // SAMPLED_ROWS, 1)
    rows = torch.cat([tensor[i : i + 1] for i in range(0, shape[0], step)])
    return math.prod(shape), rows.reshape(1, -1) if rows.dim() == 1 else rows.flatten(1)
