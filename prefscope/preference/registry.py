"""The list of losses, and the one declaration that options, docs and knobs are made from."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from prefscope.errors import UsageError
from prefscope.preference.arrays import Array
from prefscope.settings import LossChoice, PreferenceSettings

LossFunction = Callable[..., Array]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A knob of a loss."""

    name: str
    default: float
    low: float
    high: float
    """Inclusive range in which the loss is defined and a knob makes sense."""
    scale: Literal["linear", "log"]
    meaning: str


@dataclass(frozen=True, slots=True)
class Loss:
    """A registered loss."""

    name: str
    title: str
    formula: str
    source: str
    parameters: tuple[Parameter, ...]
    compute: LossFunction
    weight: LossFunction
    """−∂loss/∂policy_chosen_logps, with the arguments of `compute`."""
    inputs: tuple[str, ...]
    """The ledger columns that `compute` and `weight` take."""
    target_gap: Callable[[Mapping[str, float]], tuple[float, str]] | None
    """For the IPO family: the gap at which the loss is zero, and its unit."""

    @property
    def needs_reference(self) -> bool:
        """Whether the loss reads reference log-probs."""
        return any(name.startswith("ref_") for name in self.inputs)

    def resolve(self, given: Mapping[str, float]) -> dict[str, float]:
        """Return every parameter's value, the given ones over the defaults.

        Raises:
            UsageError: A parameter is unknown or out of its range.
        """
        known = {parameter.name: parameter for parameter in self.parameters}
        for name, value in given.items():
            if name not in known:
                listed = ", ".join(known)
                raise UsageError(f"Loss {self.name} has no parameter {name!r}", hint=f"It has: {listed}.")
            parameter = known[name]
            if not parameter.low <= value <= parameter.high:
                raise UsageError(
                    f"Loss {self.name}: {name} = {value:g} is out of range",
                    hint=f"Choose a value from {parameter.low:g} to {parameter.high:g}.",
                )
        return {name: given.get(name, parameter.default) for name, parameter in known.items()}


_LOSSES: dict[str, Loss] = {}
LOSSES: Mapping[str, Loss] = MappingProxyType(_LOSSES)
"""Every registered loss by name, in the order of registration."""


def register(
    *,
    title: str,
    formula: str,
    source: str,
    parameters: tuple[Parameter, ...],
    weight: LossFunction,
    target_gap: Callable[[Mapping[str, float]], tuple[float, str]] | None = None,
) -> Callable[[LossFunction], LossFunction]:
    """Return a decorator that lists a function named `<method>_loss` as the loss `<method>`."""

    def decorate(function: LossFunction) -> LossFunction:
        name = function.__name__.removesuffix("_loss")
        knobs = {parameter.name for parameter in parameters}
        inputs = tuple(argument for argument in inspect.signature(function).parameters if argument not in knobs)
        _LOSSES[name] = Loss(name, title, formula, source, parameters, function, weight, inputs, target_gap)
        return function

    return decorate


def find_loss(name: str) -> Loss:
    """Return the loss of that name.

    Raises:
        UsageError: No loss has that name.
    """
    if name not in _LOSSES:
        raise UsageError(f"There is no loss {name!r}", hint=f"Choose from: {', '.join(_LOSSES)}.")
    return _LOSSES[name]


def parse_choice(text: str) -> LossChoice:
    """Return the loss that `name` or `name:parameter=value,...` asks for.

    Raises:
        UsageError: The loss or a parameter is unknown, out of range, or not a number.
    """
    name, _, rest = text.partition(":")
    loss = find_loss(name.strip())
    given: dict[str, float] = {}
    for item in filter(None, rest.split(",")):
        key, equals, value = item.partition("=")
        if key.strip() in given:
            raise UsageError(f"--loss {text}: {key.strip()} is given twice", hint="Give each parameter once.")
        try:
            given[key.strip()] = float(value)
        except ValueError:
            problem = f"{value!r} is not a number" if equals else "there is no '='"
            raise UsageError(f"--loss {text}: {problem}", hint="Write --loss simpo:gamma=0.8.") from None
    loss.resolve(given)
    return LossChoice(loss.name, given)


def refuse_repeats(choices: Sequence[LossChoice]) -> None:
    """Refuse two choices of one loss, which would fill one column.

    Raises:
        UsageError: A loss is chosen twice.
    """
    names = [choice.name for choice in choices]
    repeated = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if repeated is not None:
        raise UsageError(f"Loss {repeated} is given twice", hint="Give each loss once.")


def resolve_parameters(choice: LossChoice, preferences: PreferenceSettings) -> dict[str, float]:
    """Return a chosen loss's parameters; `preferences.beta` is the default beta of losses with a reference.

    Raises:
        UsageError: A parameter is unknown or out of its range.
    """
    loss = find_loss(choice.name)
    shared = {"beta": preferences.beta} if loss.needs_reference else {}
    return loss.resolve({**shared, **choice.parameters})
