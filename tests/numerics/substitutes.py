"""Kernels in plain torch in the place of fused ones, so that everything but the kernels can be tested anywhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from prefscope.scoring import fused, fused_parts
from prefscope.scoring.fused_kernels import Kernels
from prefscope.scoring.logps import token_logps, token_logps_and_collisions


def rms_norm(values: Tensor, weight: Tensor, epsilon: float, offset: float, casting: str) -> Tensor:
    wide = values.float()
    normed = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + epsilon)
    if casting == "llama":
        return ((offset + weight.float()) * normed.to(values.dtype)).to(values.dtype)
    return ((offset + weight.float()) * normed).to(values.dtype)


def silu(gate: Tensor, up: Tensor) -> Tensor:
    return functional.silu(gate) * up


def gelu_tanh(gate: Tensor, up: Tensor) -> Tensor:
    return functional.gelu(gate, approximate="tanh") * up


def rotary(query: Tensor, key: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    half = query.shape[-1] // 2
    for heads in (query, key):  # liger's kernel overwrites its arguments, too
        turned = torch.cat((-heads[..., half:], heads[..., :half]), -1)
        heads.copy_(heads * cos[:, None] + turned * sin[:, None])
    return query, key


def counted(kernel: Callable[..., Any], calls: list[str], name: str) -> Callable[..., Any]:
    def called(*args: Any) -> Any:
        calls.append(name)
        return kernel(*args)

    return called


def substitutes(calls: list[str] | None = None, **others: Any) -> Kernels:
    """Return kernels in plain torch, which note their calls, with some of them replaced."""
    calls = [] if calls is None else calls
    parts: dict[str, Any] = {
        "measures": {
            token_logps: counted(token_logps, calls, "logps"),
            token_logps_and_collisions: counted(token_logps_and_collisions, calls, "logps"),
        },
        "rms_norm": counted(rms_norm, calls, "norm"),
        "gates": {"silu": counted(silu, calls, "gate"), "gelu_tanh": counted(gelu_tanh, calls, "gate")},
        "rotary": counted(rotary, calls, "rotary"),
    }
    return Kernels("triton 3.9.0", **{**parts, **others})


def install(monkeypatch: pytest.MonkeyPatch, kernels: Kernels) -> None:
    """Let every device have some kernels, tried on few rows."""
    monkeypatch.setattr(fused, "find_kernels", lambda _: kernels)
    monkeypatch.setattr(fused_parts, "MANY_ROWS", 5)
