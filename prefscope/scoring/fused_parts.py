"""Recognises the parts of a model that fused kernels can replace, by what they compute.

Every kind of part is tried on random values, in float32 and in the dtype that scores, and is replaced only if the fused
kernel agrees within rounding. Everything else stays as it is: parts with accelerate's hooks, which move their inputs,
norms with split weights, and whatever computes something else.
"""

from __future__ import annotations

import copy
import inspect
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from prefscope.scoring.fused_kernels import Gate, Kernels
from prefscope.scoring.head import Measure

EPSILONS = ("variance_epsilon", "eps", "norm_eps", "epsilon")
"""What the ε of a norm is called."""
ROTARY = "apply_rotary_pos_emb"
SCALES = (1e-3, 0.03, 1.0, 30.0)
"""Magnitudes of the values that norms are tried with; the smallest is of the order of √ε."""
NARROW, MANY_ROWS = 256, (1 << 15) + 1
"""Rows up to this width, such as heads, are also tried in this number, for which liger has another kernel."""
ROUNDINGS, LEAST_TOLERANCE = 2.0, 2e-6
"""Largest difference from the model's own code: this many units of the dtype's precision, and at least what fast
exponential functions differ by."""
VOCABULARY = 5000

Forward = Callable[..., Any]


def replacements_of(
    module: nn.Module, kernels: Kernels, device: torch.device, dtype: torch.dtype
) -> Iterator[tuple[nn.Module, Forward]]:
    """Yield the parts of a model that fused kernels can replace, with what to call instead of their forward methods."""
    trials = _Trials(kernels, device, dtype)
    for part in module.modules():
        if "forward" not in part.__dict__:  # where accelerate puts its own
            made = trials.norm(part) or trials.gated(part) or trials.rotary(part)
            if made is not None:
                yield part, made


def agreeing_measures(kernels: Kernels, device: torch.device, dtype: torch.dtype) -> Mapping[Measure, Measure]:
    """Return the fused functions that compute log-probs as their counterparts do, −∞ and NaN included."""
    logits = 4 * _random(6, VOCABULARY, device=device)
    logits[1, : VOCABULARY // 2] = logits[2] = -torch.inf
    logits[3, 5], logits[4, 6] = torch.nan, torch.inf
    token_ids = torch.full((6,), VOCABULARY - 2, device=device)
    trials = [(logits.to(one), token_ids) for one in (torch.float32, dtype)]
    return {plain: fused for plain, fused in kernels.measures.items() if max(_errors(fused, plain, trials)) <= 1.0}


@dataclass(slots=True)
class _Trials:
    """Tries kernels in place of parts; those of one kind are tried once."""

    kernels: Kernels
    device: torch.device
    dtype: torch.dtype
    _known: dict[Any, Any] = field(default_factory=dict)

    def norm(self, part: nn.Module) -> Forward | None:
        """Return a fused forward method of a root mean square norm; None for other modules."""
        fused, weight = self.kernels.rms_norm, part._parameters.get("weight")  # noqa: SLF001
        epsilon = next((getattr(part, name) for name in EPSILONS if isinstance(getattr(part, name, None), float)), None)
        if fused is None or epsilon is None or weight is None or weight.ndim != 1 or isinstance(weight, DTensor):
            return None
        if part._modules or part._buffers or {*part._parameters} != {"weight"}:  # noqa: SLF001
            return None
        settings = sorted((k, v) for k, v in vars(part).items() if isinstance(v, bool | int | float | str))
        kind = (type(part), *settings, len(weight), weight.dtype)
        if kind not in self._known:
            self._known[kind] = self._form_of_norm(part, epsilon, weight.dtype)
        form, plain, dtype = self._known[kind], part.forward, self.dtype
        if form is None:
            return None

        def forward(values: Tensor, *args: Any, **kwargs: Any) -> Any:
            if args or kwargs or values.dtype != dtype or isinstance(values, DTensor):
                return plain(values, *args, **kwargs)
            return fused(values, part.weight, epsilon, *form)  # type: ignore[arg-type]

        return forward

    def _form_of_norm(self, part: Any, epsilon: float, stored: torch.dtype) -> tuple[float, str] | None:
        """Return what is added to the weight, and how a norm rounds; None if the fused norm does not agree with it."""
        fused: Any = self.kernels.rms_norm
        scales = torch.tensor(SCALES, device=self.device)[:, None]
        values = (_random(len(SCALES), len(part.weight), device=self.device) * scales)[None]
        weights = _random(len(part.weight), device=self.device)
        trials = [(values, weights), (values.to(self.dtype), weights.to(stored))]

        def plain(values: Tensor, weights: Tensor) -> Any:
            twin = copy.copy(part)
            twin.__dict__["_parameters"] = {"weight": weights}
            return twin.forward(values)

        def error(form: tuple[float, str], trial: tuple[Tensor, Tensor]) -> float:
            return _errors(lambda values, weights: fused(values, weights, epsilon, *form), plain, [trial])[0]

        errors = {form: [error(form, one) for one in trials] for form in product((0.0, 1.0), ("llama", "gemma"))}
        best = min(errors, key=lambda form: sum(errors[form]))
        if len(part.weight) <= NARROW:
            rows = _random(MANY_ROWS, len(part.weight), device=self.device)
            errors[best].append(error(best, (rows.to(self.dtype), weights.to(stored))))
        return best if max(errors[best]) <= 1.0 else None

    def gated(self, part: nn.Module) -> Forward | None:
        """Return a fused forward method of a gated linear unit; None for other modules.

        Its linear layers are called as modules, so they may be quantized, split, or wrapped by adapters.
        """
        activation: Any = getattr(part, "act_fn", None)
        if activation is None or not {"gate_proj", "up_proj", "down_proj"} <= part._modules.keys():  # noqa: SLF001
            return None
        kind = (type(part), type(activation), repr(activation))
        if kind not in self._known:
            self._known[kind] = self._agreeing_gate(type(part).forward, activation)
        fused, plain, dtype = self._known[kind], part.forward, self.dtype
        unit: Any = part
        if fused is None:
            return None

        def forward(*args: Any, **kwargs: Any) -> Any:
            if len(args) != 1 or kwargs:
                return plain(*args, **kwargs)
            gate, up = unit.gate_proj(*args), unit.up_proj(*args)
            if gate.dtype == up.dtype == dtype and not isinstance(gate, DTensor):
                return unit.down_proj(fused(gate, up))
            return unit.down_proj(activation(gate) * up)

        return forward

    def _agreeing_gate(self, plain: Forward, activation: Any) -> Gate | None:
        """Return the kernel that computes what is between the linear layers of a gated linear unit."""
        values = 4 * _random(8, 512, device=self.device)
        trials = [(values.to(one).chunk(2, -1)) for one in (torch.float32, self.dtype)]

        def between(gate: Tensor, up: Tensor) -> Any:
            return plain(_Unit(lambda _: gate, lambda _: up, lambda found: found, activation), gate)

        agreeing = (kernel for kernel in self.kernels.gates.values() if max(_errors(kernel, between, trials)) <= 1.0)
        return next(agreeing, None)

    def rotary(self, part: nn.Module) -> Forward | None:
        """Return a copy of an attention layer's forward method that rotates by the fused kernel; None for others."""
        method: Any = inspect.unwrap(type(part).forward)
        if self.kernels.rotary is None or ROTARY not in getattr(getattr(method, "__code__", None), "co_names", ()):
            return None
        if method not in self._known:
            self._known[method] = self._rotating(method)
        found = self._known[method]
        return None if found is None else types.MethodType(found, part)

    def _rotating(self, method: Any) -> Forward | None:
        """Return a copy of a function in whose globals the rotation is the fused one, if that agrees."""
        plain, fused, dtype = method.__globals__.get(ROTARY), self.kernels.rotary, self.dtype
        heads = _random(1, 6, 10, 64, device=self.device)
        angles = 9 * _random(1, 10, 32, device=self.device).repeat(1, 1, 2)
        parts = (heads[:, :4], heads[:, 4:], angles.cos(), angles.sin())
        trials = [[one.to(into) for one in parts] for into in (torch.float32, dtype)]
        if plain is None or fused is None or max(_errors(fused, plain, trials)) > 1.0:
            return None

        def rotated(query: Tensor, key: Tensor, *others: Any, **kwargs: Any) -> Any:
            if kwargs or not _are_like_the_trial(query, key, others, dtype):
                return plain(query, key, *others, **kwargs)
            return fused(query, key, *others)

        known = {**method.__globals__, ROTARY: rotated}
        found = types.FunctionType(method.__code__, known, method.__name__, method.__defaults__, method.__closure__)
        found.__kwdefaults__ = method.__kwdefaults__
        return found


@dataclass(frozen=True, slots=True)
class _Unit:
    """Stands in for a gated linear unit, to compute what is between its linear layers."""

    gate_proj: Callable[[Tensor], Tensor]
    up_proj: Callable[[Tensor], Tensor]
    down_proj: Callable[[Tensor], Tensor]
    act_fn: Callable[[Tensor], Tensor]


def _are_like_the_trial(query: Tensor, key: Tensor, others: Sequence[Any], dtype: torch.dtype) -> bool:
    """Return whether whole heads of one row are rotated by cosines and sines, all of one dtype."""
    if len(others) != 2 or query.ndim != 4 or len(query) != 1:  # noqa: PLR2004
        return False
    parts = (query, key, *others)
    return all(
        isinstance(one, Tensor)
        and not isinstance(one, DTensor)
        and one.dtype == dtype
        and one.shape[-1] == query.shape[-1]
        for one in parts
    )


def _errors(fused: Forward, plain: Forward, trials: Sequence[Sequence[Tensor]]) -> list[float]:
    """Return the largest error of a fused function in each trial, as a multiple of what rounding explains.

    It is infinite if either function fails.
    """
    try:
        with torch.inference_mode():
            return [_error(fused(*(one.clone() for one in trial)), plain(*trial)) for trial in trials]
    except Exception:  # noqa: BLE001 (not a part of this kind, or Triton cannot compile here)
        return [np.inf] * len(trials)


def _error(found: Any, expected: Any) -> float:
    if isinstance(expected, tuple):
        return max(map(_error, found, expected))
    if found.dtype != expected.dtype or found.shape != expected.shape:
        return np.inf
    tolerance = max(ROUNDINGS * torch.finfo(expected.dtype).eps, LEAST_TOLERANCE)
    same = (found == expected) | (found.isnan() & expected.isnan())
    error = (found.double() - expected.double()).abs() / (tolerance * (1 + expected.double().abs()))
    return float(torch.where(same, 0.0, error).nan_to_num(nan=torch.inf).amax())


def _random(*shape: int, device: torch.device) -> Tensor:
    """Return the same normal values each time, without a change of the global random state."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))).to(device)
