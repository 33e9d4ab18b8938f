"""The interface of a dialect: one layout in which rows store preference pairs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from prefscope.data.records import Json, PreferencePair, Text
from prefscope.errors import DataError

Row: TypeAlias = Mapping[str, Json]
"""One row as stored."""


class NotAPairError(DataError):
    """A row that does not contain a readable preference pair."""

    def __init__(self, reason: str) -> None:
        """Set the reason for the `BadRow`, a sentence without a full stop."""
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields of a pair, as found in a row by a dialect."""

    prompt: Text
    chosen: Text
    rejected: Text
    tools: list[Json] | None
    chat_template_kwargs: Mapping[str, Json] | None
    consumed: frozenset[str]
    """The columns from which the fields were read."""


class Dialect(Protocol):
    """A layout that can be recognised, read, written and swapped."""

    @property
    def name(self) -> str:
        """Return the name for `--dialect`."""

    @property
    def title(self) -> str:
        """Return the display name."""

    def matches(self, value: Row) -> bool:
        """Return whether the row's columns and their types fit this layout."""

    def read(self, value: Row) -> Fields:
        """Return the fields of the pair.

        Raises:
            NotAPairError: If the row does not contain a pair in this layout.
        """

    def write(self, pair: PreferencePair, like: Row) -> dict[str, Json]:
        """Return `like` with the pair's fields in it; unchanged values keep their form.

        Raises:
            DataError: If this layout cannot hold the pair.
        """

    def swap(self, value: Row) -> dict[str, Json]:
        """Return the row with chosen and rejected exchanged; swapping twice restores the row."""


def columns_found(value: Row) -> str:
    """List the columns of a row, for the end of a message."""
    return f"columns found: {', '.join(map(str, value)) or 'none'}"


def code_names(names: Iterable[str]) -> str:
    """Format column names for a message: "`a`, `b`"."""
    return ", ".join(f"`{name}`" for name in names)


def exchange(value: Row, first: str, second: str) -> dict[str, Json]:
    """Exchange the values of two columns, and of the columns that describe them.

    For example, `score_chosen` and `score_rejected` are exchanged together with the texts.
    """
    partners = {first: second, second: first}
    for name in value:
        partner = name.replace("chosen", "rejected")
        if partner != name and partner in value and name not in partners:
            partners |= {name: partner, partner: name}
    return {name: value[partners.get(name, name)] for name in value}
