"""Triton's interpreter, with what its compiler does and the interpreter does not; imported before any kernel.

The compiler passes floats as float32 scalars, computes with bfloat16, rounds to it to the nearest, and has a library of
functions of the device. The interpreter passes Python floats, computes with the bits of bfloat16 as if they were whole
numbers, loses a carry when it rounds, and returns None for the library's functions.
"""

from __future__ import annotations

import os

os.environ["TRITON_INTERPRET"] = "1"  # kernels read it when they are defined

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import triton.language as tl
from liger_kernel.ops import geglu, rms_norm
from triton.runtime import interpreter

PLAIN_ARGUMENT, PLAIN_CAST = interpreter._implicit_cvt, interpreter.InterpreterBuilder.cast_impl
PLAIN_OPERATOR = interpreter.InterpreterBuilder.binary_op


def _argument(value: Any) -> Any:
    if type(value) is not float:
        return PLAIN_ARGUMENT(value)
    return tl.tensor(interpreter.TensorHandle(np.array([value], dtype=np.float32), tl.float32), tl.float32)


def _cast(builder: Any, value: Any, into: Any) -> Any:
    directions = (value.dtype.scalar, into.scalar)
    if directions == (tl.bfloat16, tl.float32):
        return interpreter.TensorHandle(_wide(value.data), tl.float32)
    if directions == (tl.float32, tl.bfloat16):
        return interpreter.TensorHandle(_narrow(value.data), tl.bfloat16)
    return PLAIN_CAST(builder, value, into)


def _operator(builder: Any, left: Any, right: Any, operator: Callable[..., Any]) -> Any:
    if left.dtype.scalar != tl.bfloat16:
        return PLAIN_OPERATOR(builder, left, right, operator)
    found = operator(_wide(left.data), _wide(right.data))
    if found.dtype == np.bool_:
        return interpreter.TensorHandle(found, tl.int1)
    return interpreter.TensorHandle(_narrow(found), tl.bfloat16)


def _wide(bits: Any) -> Any:
    return torch.from_numpy(np.array(bits).view(np.int16)).view(torch.bfloat16).float().numpy()


def _narrow(values: Any) -> Any:
    return torch.from_numpy(np.array(values, dtype=np.float32)).bfloat16().view(torch.int16).numpy().view(np.uint16)


interpreter._implicit_cvt = _argument
interpreter.InterpreterBuilder.cast_impl = _cast
interpreter.InterpreterBuilder.binary_op = _operator
for name in ("create_fp_ext", "create_fp_trunc"):
    setattr(interpreter.InterpreterBuilder, name, _cast)
rms_norm.rsqrt = lambda values: tl.rsqrt(values)  # noqa: PLW0108 (tl.rsqrt is another function in a kernel)
geglu.tanh = lambda values: 2 * tl.sigmoid(2 * values) - 1
