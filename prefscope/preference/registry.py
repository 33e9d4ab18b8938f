"""The registry of losses, from which options, docs and the controls on screens are derived."""

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
"""Converts another spelling of a parameter: takes all parameters and the value, returns the parameter and its value."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a loss."""

    name: str
    low: float
    high: float
    """Inclusive range in which the loss is defined and the parameter is useful."""
    scale: Literal["linear", "log"]
    meaning: str
    default: float = math.nan
    """Default value, taken from the signature of the loss."""


@dataclass(frozen=True, slots=True)
class Loss:
    """A registered loss."""

    name: str
    title: str
    formula: str
    source: str
    convention: str
    """Whether log-probs are summed or averaged over tokens, and what beta scales."""
    parameters: tuple[Parameter, ...]
    compute: LossFunction
    weight: LossFunction
    """Gradient weight −∂loss/∂policy_chosen_logps, with the arguments of `compute`; population terms are constants."""
    inputs: tuple[str, ...]
    """The ledger columns that are arguments of `compute` and `weight`."""
    population: str
    """The term that is computed over all pairs (by a trainer: over a batch); empty if there is none."""
    target_gap: Callable[[Mapping[str, float]], tuple[float, str]] | None
    """For the IPO family: the gap at which the loss is 0, and its unit."""
    spellings: Mapping[str, Spelling]
    """Alternative spellings of parameters."""

    @property
    def needs_reference(self) -> bool:
        """Whether the loss uses reference log-probs."""
        return any(name.startswith("ref_") for name in self.inputs)

    def resolve(self, given: Mapping[str, float]) -> dict[str, float]:
        """Return the values of all parameters: the given ones, and defaults for the rest.

        Raises:
            UsageError: If a parameter is unknown or out of range.
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
        """Convert alternative spellings of parameters to their canonical names."""
        plain = {name: value for name, value in given.items() if name not in self.spellings}
        whole = {parameter.name: parameter.default for parameter in self.parameters} | plain
        return plain | dict(self.spellings[name](whole, given[name]) for name in given if name in self.spellings)


_LOSSES: dict[str, Loss] = {}
LOSSES: Mapping[str, Loss] = MappingProxyType(_LOSSES)
"""All registered losses by name."""


def listed_losses() -> list[Loss]:
    """Return all losses: first the default ones, then the others by name."""
    first = [choice.name for choice in DEFAULT_LOSSES]
    return [_LOSSES[name] for name in [*first, *sorted(_LOSSES.keys() - {*first})]]


ALIASES: Mapping[str, tuple[str, Mapping[str, float]]] = {
    "sigmoid": ("dpo", {}),
    "cdpo": ("dpo", {"label_smoothing": 0.1}),
    "dpo_norm": ("sigmoid_norm", {}),
}
"""Names used by other stacks: the corresponding loss, and the parameters that the name implies."""

_WITH_REWARDS = (
    "It needs a reward of each response from a reward model, which is not part of a pair here. "
    "The RPO that adds the likelihood of the chosen response is rpo."
)
UNAVAILABLE: Mapping[str, str] = {
    "rpo_sq": _WITH_REWARDS,
    "rpo_bwd_kl": _WITH_REWARDS,
    "rpo_fwd_kl": _WITH_REWARDS,
}
"""Losses of other stacks that cannot be computed from a ledger, and why."""


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
    """Return a decorator that registers a function named `<method>_loss` as the loss `<method>`.

    The arguments of the function are ledger columns by name, then its parameters with defaults. The decorated function
    accepts plain floats, NumPy arrays or torch tensors.

    Args:
        title: Display name of the loss.
        formula: Formula for `prefscope losses` and the docs, in the symbols of symbols.py.
        source: The paper, and the trainer's name for the loss.
        convention: Whether log-probs are summed or averaged over tokens, and what beta scales.
        parameters: The parameters with their ranges.
        weight: Gradient weight −∂loss/∂policy_chosen_logps, as a function of symbols and parameters.
        population: The term that is computed over all pairs; empty if there is none.
        target_gap: For the IPO family: the gap at which the loss is 0, and its unit.
        spellings: Alternative spellings of parameters.
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
    """Return the loss with that name or alias.

    Raises:
        UsageError: If there is no such loss, or a ledger does not have what it needs.
    """
    known = ALIASES[name][0] if name in ALIASES else name
    if name in UNAVAILABLE:
        raise UsageError(f"Loss {name} cannot be computed from a ledger", hint=UNAVAILABLE[name])
    if known not in _LOSSES:
        near = difflib.get_close_matches(name, [*_LOSSES, *ALIASES], n=2)
        hint = f"Did you mean {' or '.join(map(repr, near))}? " if near else ""
        names = ", ".join(loss.name for loss in listed_losses())
        raise UsageError(f"There is no loss {name!r}", hint=f"{hint}Choose from: {names}.")
    return _LOSSES[known]


def parse_choice(text: str) -> LossChoice:
    """Parse a choice of a loss, `name` or `name:parameter=value,...`.

    Raises:
        UsageError: If the loss or a parameter is unknown, or a value is out of range or not a number.
    """
    name, _, rest = text.partition(":")
    loss = find_loss(name.strip())
    given: dict[str, float] = {}
    for item in filter(None, rest.split(",")):
        key, equals, value = item.partition("=")
        if key.strip() in given:
            raise UsageError(f"--loss {text}: {key.strip()} is set twice", hint="Set each parameter only once.")
        try:
            given[key.strip()] = float(value)
        except ValueError:
            problem = f"{value!r} is not a number" if equals else "'=' is missing"
            raise UsageError(f"--loss {text}: {problem}", hint="Write --loss simpo:gamma=0.8.") from None
    _, implied = ALIASES.get(name.strip(), ("", {}))
    given = {**implied, **given}
    loss.resolve(given)
    return LossChoice(loss.name, given)


def refuse_repeats(choices: Sequence[LossChoice]) -> None:
    """Refuse repeated losses, which would share a column.

    Raises:
        UsageError: If a loss is chosen twice.
    """
    names = [choice.name for choice in choices]
    repeated = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if repeated is not None:
        raise UsageError(f"Loss {repeated} is named twice", hint="Name each loss only once.")


def resolve_parameters(choice: LossChoice, preferences: PreferenceSettings) -> dict[str, float]:
    """Return the parameters of a chosen loss; `preferences.beta` is the default beta of losses with a reference.

    Raises:
        UsageError: If a parameter is unknown or out of range.
    """
    loss = find_loss(choice.name)
    shared = {"beta": preferences.beta} if loss.needs_reference else {}
    return loss.resolve({**shared, **choice.parameters})
