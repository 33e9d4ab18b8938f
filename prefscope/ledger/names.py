"""Reserved names, and the names under which a data set's own columns appear in a ledger.

Reserved names are never shadowed. A column of the data set with a reserved name, ignoring case and surrounding white
space, becomes `data_<name>` everywhere: in ledgers, tables, filters and on the screens.
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Collection, Iterable, Mapping
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
"""Suffix of columns of the other run."""
MARK, NOTE = "mark", "note"
RENAMED = "renamed"
"""Key of a ledger's manifest: the original names of renamed columns of the data set."""


@functools.cache
def declared_names() -> frozenset[str]:
    """Return all reserved names: columns, their aliases, losses, and the functions and constants of filters."""
    names = {column.name for column in all_columns()}
    aliases = {column.alias for column in all_columns() if column.alias}
    comparable = (names - OF_THE_PAIR) | aliases | {*LOSSES} | {f"{name}_loss" for name in LOSSES}
    comparable |= {f"{name}_weight" for name in LOSSES}
    of_other_run = {f"{name}{SUFFIX}" for name in comparable}
    return frozenset({*names, *comparable, *of_other_run, *ALIASES, *DIGESTS, *FILTER_FUNCTIONS, *FILTER_TRUTHS})


def carried_names(columns: Iterable[str]) -> dict[str, str]:
    """Return the name in the ledger of each of the data set's own columns.

    The name is unchanged unless it clashes with a reserved name or another column; it is then prefixed with `data_`.
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


def marked_names(own: Collection[str]) -> dict[str, str]:
    """Return the names of the columns of decisions and notes beside a data set's own columns: `mark` and `note`.

    The values say which of the two a name is: a data set's own `note` leaves `mark_note` to the user's notes.
    """
    name = NOTE
    while name in own:
        name = f"mark_{name}"
    return {MARK: MARK, name: NOTE}


def renamed(names: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Return the manifest's entry about renamed columns; empty if none were renamed."""
    changed = {column: name for column, name in names.items() if column != name}
    return {RENAMED: changed} if changed else {}


def ambiguities(
    changed: Mapping[str, str], known: Iterable[str], aliases: Mapping[str, str]
) -> dict[str, tuple[str, ...]]:
    """Return the names that could mean prefscope's column or the data set's, each with its unambiguous alternatives.

    Full names of prefscope's columns are not ambiguous: they always mean prefscope's. Only `mark` is, which was not a
    column at first.

    Args:
        changed: The new names of renamed columns of the data set, by their original names.
        known: The full names of prefscope's columns.
        aliases: The full names of prefscope's columns by their aliases.
    """
    full = {*known} - {MARK}
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
    """The columns that an expression may refer to."""

    kinds: Mapping[str, Kind]
    aliases: Mapping[str, str]
    ambiguous: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Names that could mean prefscope's column or the data set's, with the unambiguous names, prefscope's first."""

    def full(self, name: str) -> str | None:
        """Return the full name of a column, or None if the name is unknown or ambiguous."""
        if name in self.ambiguous:
            return None
        return name if name in self.kinds else self.aliases.get(name)

    def short(self, full: str) -> str:
        """Return the alias of a column, or its name if it has none."""
        return next((alias for alias, name in self.aliases.items() if name == full and self.full(alias) == full), full)

    @property
    def usable_aliases(self) -> list[str]:
        """The aliases that are not ambiguous."""
        return [alias for alias in self.aliases if alias not in self.ambiguous]

    def problem(self, name: str) -> tuple[str, str]:
        """Return why a name does not refer to a column, and a hint: the alternatives, or similar names."""
        if name in self.ambiguous:
            *ours, theirs = map(_spelled, self.ambiguous[name])
            hint = f"Write {ours[0]} for prefscope's column, {theirs} for the data set's." if ours else ""
            if not ours and name.strip().casefold() == MARK:
                hint = f"Write {theirs} for the data set's column, mark(keep), mark(drop), … for your marks."
            what = f"The name {name} is ambiguous: the data set also has a column of this name"
            return what, hint or f"Write {theirs}."
        near = self.nearest(name)
        return f"There is no column {name}", f"Did you mean {' or '.join(near)}?" if near else ""

    def nearest(self, name: str) -> list[str]:
        """Return the names that are most similar to a name."""
        return difflib.get_close_matches(name, [*self.kinds, *self.usable_aliases], n=3, cutoff=0.62)


def _spelled(name: str) -> str:
    """Return a column's name as written in an expression, in backticks if necessary."""
    return name if re.fullmatch(r"[^\W\d]\w*", name) else f"`{name}`"
