"""Which names are the program's own, and under which names the columns of a data set are carried beside them.

A name of ours is never shadowed. A column of the data set that is spelled like one of ours, whatever its case and the
white space around it, is `data_<name>` everywhere: in ledgers, tables, filters and on the screens.
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from prefscope.ledger.columns import (
    DIGESTS,
    FILTER_FUNCTIONS,
    FILTER_TRUTHS,
    OF_THE_PAIR,
    all_columns,
)
from prefscope.preference import losses as _losses  # noqa: F401 (registers the losses)
from prefscope.preference.registry import ALIASES, LOSSES

Kind: TypeAlias = Literal["number", "text", "truth"]
SUFFIX = "_b"
"""Stands after the name of a column that is the other run's."""
RENAMED = "renamed"
"""Key of a ledger's manifest: the data set's names of the columns that are carried under other names."""


@functools.cache
def declared_names() -> frozenset[str]:
    """Return every name of ours: columns, their aliases, losses, and the functions and constants of filters."""
    names = {column.name for column in all_columns()}
    aliases = {column.alias for column in all_columns() if column.alias}
    comparable = (names - OF_THE_PAIR) | aliases | {*LOSSES} | {f"{name}_loss" for name in LOSSES}
    comparable |= {f"{name}_weight" for name in LOSSES}
    of_other_run = {f"{name}{SUFFIX}" for name in comparable}
    return frozenset({*names, *comparable, *of_other_run, *ALIASES, *DIGESTS, *FILTER_FUNCTIONS, *FILTER_TRUTHS})


def carried_names(columns: Iterable[str]) -> dict[str, str]:
    """Return the name under which each of the data set's own columns is carried.

    It is the column's own; where that would clash with one of ours or with another column's, `data_` goes before it.
    """
    own = list(columns)
    names: dict[str, str] = {}
    taken = {name for name in own if not _is_ours(name)}
    for column in own:
        name = column
        while _is_ours(name) or (name != column and name in taken):
            name = f"data_{name}"
        names[column] = name
        taken.add(name)
    return names


def renamed(names: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Return what a manifest says of the columns that are not carried under their own names; nothing without any."""
    changed = {column: name for column, name in names.items() if column != name}
    return {RENAMED: changed} if changed else {}


def ambiguities(
    changed: Mapping[str, str], known: Iterable[str], aliases: Mapping[str, str]
) -> dict[str, tuple[str, ...]]:
    """Return the names that could mean our column or the data set's, each with the names that mean only one of them.

    The full name of a column of ours is not ambiguous: it is ours.

    Args:
        changed: The carried names of the data set's columns that were renamed, by their own names.
        known: The full names of our columns.
        aliases: The full names of our columns by their aliases.
    """
    full = {*known}
    found = {}
    for column, carried in changed.items():
        if column not in full:
            plain = column.strip().casefold()
            ours = plain if plain in full else aliases.get(plain)
            found[column] = (*([ours] if ours else []), carried)
    return found


def _is_ours(column: str) -> bool:
    plain = column.strip().casefold()
    computed = plain.endswith(("_loss", "_weight")) and not plain.startswith("data_")
    return computed or plain in declared_names()


@dataclass(frozen=True, slots=True)
class Names:
    """The columns that an expression may name."""

    kinds: Mapping[str, Kind]
    aliases: Mapping[str, str]
    ambiguous: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Names that could mean our column or the data set's, with the names that mean only one of them, ours first."""

    def full(self, name: str) -> str | None:
        """Return the full name of a column, None for an unknown or an ambiguous one."""
        if name in self.kinds:
            return name
        return None if name in self.ambiguous else self.aliases.get(name)

    @property
    def usable_aliases(self) -> list[str]:
        """The aliases that mean one column."""
        return [alias for alias in self.aliases if alias not in self.ambiguous]

    def problem(self, name: str) -> tuple[str, str]:
        """Return why a name means no column, and a hint: both columns of an ambiguous name, or those spelled alike."""
        if name in self.ambiguous:
            *ours, theirs = map(_spelled, self.ambiguous[name])
            hint = f"Write {ours[0]} for prefscope's column, {theirs} for the data set's." if ours else ""
            what = f"The name {name} is ambiguous: the data set has a column of this name, too"
            return what, hint or f"Write {theirs}."
        near = self.nearest(name)
        return f"There is no column {name}", f"Did you mean {' or '.join(near)}?" if near else ""

    def nearest(self, name: str) -> list[str]:
        """Return the names that look most like one."""
        return difflib.get_close_matches(name, [*self.kinds, *self.usable_aliases], n=3, cutoff=0.5)


def _spelled(name: str) -> str:
    """Return a column's name as an expression has it."""
    return name if re.fullmatch(r"[^\W\d]\w*", name) else f"`{name}`"
