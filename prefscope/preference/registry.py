"""The list of losses, and the one declaration that options, docs and knobs are made from."""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal, ParamSpec

from prefscope.errors import UsageError
from prefscope.preference.arrays import Array, elementwise
from prefscope.preference.symbols import with_arguments_of
from prefscope.settings import DEFAULT_LOSSES, LossChoice, PreferenceSettings

P = ParamSpec("P")
LossFunction = Callable[..., Array]
Spelling = Callable[[Mapping[str, float], float], tuple[str, float]]
"""Returns the parameter that is meant and its value, given all parameters and the value as it was spelled."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A knob of a loss."""

    name: str
    low: float
    high: float
    """Inclusive range in which the loss is defined and a knob makes sense."""
    scale: Literal["linear", "log"]
    meaning: str
    default: float = math.nan
    """Of a registered loss: what its signature says."""


@dataclass(frozen=True, slots=True)
class Loss:
    """A registered loss."""

    name: str
    title: str
    formula: str
    source: str
    convention: str
    """Sums or means over tokens, and what beta multiplies."""
    parameters: tuple[Parameter, ...]
    compute: LossFunction
    weight: LossFunction
    """−∂loss/∂policy_chosen_logps, with the arguments of `compute`; population terms are held constant."""
    inputs: tuple[str, ...]
    """The ledger columns that `compute` and `weight` take."""
    population: str
    """What of it is taken over all pairs that are given at once, empty for nothing; a trainer takes it over a batch."""
    target_gap: Callable[[Mapping[str, float]], tuple[float, str]] | None
    """For the IPO family: the gap at which the loss is zero, and its unit."""
    spellings: Mapping[str, Spelling]
    """Other ways to give a parameter."""

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
        given = self._respelled(given)
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

    def _respelled(self, given: Mapping[str, float]) -> dict[str, float]:
        """Return given parameters under the names that they have here."""
        plain = {name: value for name, value in given.items() if name not in self.spellings}
        whole = {parameter.name: parameter.default for parameter in self.parameters} | plain
        return plain | dict(self.spellings[name](whole, given[name]) for name in given if name in self.spellings)


_LOSSES: dict[str, Loss] = {}
LOSSES: Mapping[str, Loss] = MappingProxyType(_LOSSES)
"""Every registered loss by name."""


def listed_losses() -> list[Loss]:
    """Return every loss, those first that are shown unasked, the others by name."""
    first = [choice.name for choice in DEFAULT_LOSSES]
    return [_LOSSES[name] for name in [*first, *sorted(_LOSSES.keys() - {*first})]]


ALIASES: Mapping[str, tuple[str, Mapping[str, float]]] = {
    "sigmoid": ("dpo", {}),
    "cdpo": ("dpo", {"label_smoothing": 0.1}),
    "dpo_norm": ("sigmoid_norm", {}),
}
"""Names of other stacks: the loss here, and parameters that the name stands for."""


def register(
    *,
    title: str,
    formula: str,
    source: str,
    convention: str,
    parameters: tuple[Parameter, ...],
    weight: Callable[..., Array],
    population: str = "",
    target_gap: Callable[[Mapping[str, float]], tuple[float, str]] | None = None,
    spellings: Mapping[str, Spelling] | None = None,
) -> Callable[[Callable[P, Array]], Callable[P, Array]]:
    """Return a decorator that lists a function named `<method>_loss` as the loss `<method>`.

    The function takes columns of the ledger by their names, then its parameters with their defaults. What comes back
    takes plain floats, NumPy arrays or torch tensors.

    Args:
        title: What the loss is called.
        formula: As `prefscope losses` and the docs show it, in the symbols of symbols.py.
        source: The paper, and the trainer's name for it.
        convention: Sums or means over tokens, and what beta multiplies.
        parameters: The ranges of its parameters.
        weight: −∂loss/∂policy_chosen_logps, a function of symbols and of the parameters.
        population: What of it is taken over all pairs; empty for nothing.
        target_gap: For the IPO family: the gap at which the loss is zero, and its unit.
        spellings: Other ways to give a parameter.
    """

    def decorate(written: Callable[P, Array]) -> Callable[P, Array]:
        name = written.__name__.removesuffix("_loss")
        arguments = inspect.signature(written).parameters
        compute = elementwise(written)
        _LOSSES[name] = Loss(
            name,
            title,
            formula,
            source,
            convention,
            tuple(replace(one, default=arguments[one.name].default) for one in parameters),
            compute,
            with_arguments_of(written, weight),
            tuple(name for name, argument in arguments.items() if argument.default is argument.empty),
            population,
            target_gap,
            spellings or {},
        )
        return compute

    return decorate


def find_loss(name: str) -> Loss:
    """Return the loss of that name, or of an alias.

    Raises:
        UsageError: No loss has that name.
    """
    known = ALIASES[name][0] if name in ALIASES else name
    if known not in _LOSSES:
        near = difflib.get_close_matches(name, [*_LOSSES, *ALIASES], n=2)
        hint = f"Did you mean {' or '.join(map(repr, near))}? " if near else ""
        names = ", ".join(loss.name for loss in listed_losses())
        raise UsageError(f"There is no loss {name!r}", hint=f"{hint}Choose from: {names}.")
    return _LOSSES[known]


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
    _, implied = ALIASES.get(name.strip(), ("", {}))
    given = {**implied, **given}
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
