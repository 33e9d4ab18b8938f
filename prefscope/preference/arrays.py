"""Write a formula once for plain floats, NumPy arrays and torch tensors.

Formulas use the array API; `elementwise` converts their arguments to a common array namespace.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeAlias

import numpy as np
from array_api_compat import array_namespace, is_array_api_obj

Array: TypeAlias = Any
"""A NumPy array, a torch tensor, another array-API array, or a plain float."""

P = ParamSpec("P")


def elementwise(formula: Callable[P, Array]) -> Callable[P, Array]:
    """Wrap a formula so that its array arguments (those without a default) share a namespace and a floating dtype.

    Arrays keep their namespace, dtype and device. If all arguments are plain numbers, the result is computed in float64
    and returned as a float; sequences of numbers become float64 NumPy arrays. Integer arrays (token counts) are
    converted to the floating dtype of the others.
    """
    signature = inspect.signature(formula)
    names = [name for name, parameter in signature.parameters.items() if parameter.default is inspect.Parameter.empty]

    @functools.wraps(formula)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Array:
        bound = signature.bind(*args, **kwargs)
        given = [bound.arguments[name] for name in names]
        plain = all(isinstance(value, int | float) for value in given)
        bound.arguments.update(zip(names, _unify(given), strict=True))
        result = formula(*bound.args, **bound.kwargs)
        return float(result) if plain else result

    return wrapper


def _unify(values: list[Any]) -> list[Any]:
    """Convert values to arrays of a common namespace and floating dtype."""
    arrays = [value for value in values if is_array_api_obj(value)]
    if not arrays:
        return [np.asarray(value, dtype=np.float64) for value in values]
    xp = array_namespace(*arrays)
    floating = [array.dtype for array in arrays if xp.isdtype(array.dtype, "real floating")]
    dtype = xp.result_type(*floating) if floating else xp.float64
    device = getattr(arrays[0], "device", None)
    return [
        xp.astype(value, dtype) if is_array_api_obj(value) else xp.asarray(value, dtype=dtype, device=device)
        for value in values
    ]


def softplus_neg(x: Array) -> Array:
    """Compute −log σ(x) with correct value and gradient everywhere (gradient −½ at 0, value −x towards −∞)."""
    xp = array_namespace(x)
    return xp.logaddexp(xp.zeros_like(x), -x)


def sigmoid(x: Array) -> Array:
    """Compute σ(x) without overflow."""
    xp = array_namespace(x)
    return xp.exp(-softplus_neg(x))


def constant(x: Array) -> Array:
    """Detach values from the gradient."""
    return x.detach() if hasattr(x, "detach") else x
