"""The tensors that torch allocates in a block of code."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Made(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch says nothing of its types
    """Records dtype and shape of every tensor allocated within it, except views."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.tensors: set[tuple[torch.dtype, tuple[int, ...]]] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {one.untyped_storage().data_ptr() for one in _tensors((args, kwargs))}
        made = [one for one in _tensors(result) if one.untyped_storage().data_ptr() not in given]
        self.tensors |= {(one.dtype, tuple(one.shape)) for one in made}
        return result

    def largest(self, *, dtype: torch.dtype | None = None, last: int | None = None) -> int:
        """Return the largest number of elements of a tensor, optionally of a dtype and with a number of columns."""
        return max(
            math.prod(shape)
            for kind, shape in self.tensors
            if dtype in {None, kind} and (last is None or shape[-1:] == (last,))
        )


def _tensors(tree: Any) -> Iterable[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
