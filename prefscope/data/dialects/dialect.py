"""What a dialect is: one layout in which preference pairs are written as rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from prefscope.data.records import Json, PreferencePair, Text
from prefscope.errors import DataError

Row: TypeAlias = Mapping[str, Json]
"""One row as a file holds it."""


class NotAPairError(DataError):
    """A row that holds no preference pair that can be read."""

    def __init__(self, reason: str) -> None:
        """Keep the reason, a sentence without a full stop, as it goes into a `BadRow`."""
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Fields:
    """What a dialect finds in a row."""

    prompt: Text
    chosen: Text
    rejected: Text
    tools: list[Json] | None
    chat_template_kwargs: Mapping[str, Json] | None
    consumed: frozenset[str]
    """The columns that the other parts were read from."""


class Dialect(Protocol):
    """One layout: how it is recognised, read, written and swapped."""

    @property
    def name(self) -> str:
        """Return the name that `--dialect` takes."""

    @property
    def title(self) -> str:
        """Return the name for people."""

    def matches(self, value: Row) -> bool:
        """Return whether the row's columns and their types are this layout's."""

    def read(self, value: Row) -> Fields:
        """Return the parts of the pair.

        Raises:
            NotAPairError: If the row holds no pair in this layout.
        """

    def write(self, pair: PreferencePair, like: Row) -> dict[str, Json]:
        """Return `like` with the pair's parts in it; what the pair did not change stays as it is.

        Raises:
            DataError: If this layout cannot hold the pair.
        """

    def swap(self, value: Row) -> dict[str, Json]:
        """Return the row with chosen and rejected exchanged; swapping twice gives the row back."""


def columns_found(value: Row) -> str:
    """Return the end of a reason: the columns that a row has."""
    return f"columns found: {', '.join(map(str, value)) or 'none'}"


def code_names(names: Iterable[str]) -> str:
    """Return column names for a sentence: "`a`, `b`"."""
    return ", ".join(f"`{name}`" for name in names)


def exchange(value: Row, first: str, second: str) -> dict[str, Json]:
    """Return the row with the values of two columns exchanged, and those of the columns that describe them.

    `score_chosen` and `score_rejected` describe the texts beside them, so they change places with them.
    """
    partners = {first: second, second: first}
    for name in value:
        partner = name.replace("chosen", "rejected")
        if partner != name and partner in value and name not in partners:
            partners |= {name: partner, partner: name}
    return {name: value[partners.get(name, name)] for name in value}
