"""Copies between the host and a device for which neither waits: from pinned memory, and back into it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def uploaded(arrays: Sequence[NDArray[Any]], device: torch.device) -> Sequence[Tensor]:
    """Return arrays of one dtype on a device, sent there in one copy."""
    together = torch.from_numpy(np.concatenate(arrays))
    if _can_pin(device):
        together = together.pin_memory()
    return torch.split(together.to(device, non_blocking=True), [len(array) for array in arrays])


def downloading(found: Tensor) -> Callable[[], NDArray[np.float32]]:
    """Start to copy a result to the host, and return a function that waits for it.

    The copy follows what the device has been given to do so far, so that what it is given next does not delay it.
    """
    if not _can_pin(found.device):
        values: NDArray[np.float32] = found.cpu().numpy()
        return lambda: values
    host = torch.empty(found.shape, dtype=found.dtype, pin_memory=True)
    host.copy_(found, non_blocking=True)
    done: Any = torch.cuda.Event()  # type: ignore[no-untyped-call]
    done.record(torch.cuda.current_stream(found.device))

    def wait() -> NDArray[np.float32]:
        done.synchronize()
        arrived: NDArray[np.float32] = host.numpy()
        return arrived

    return wait


def _can_pin(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.is_available()
