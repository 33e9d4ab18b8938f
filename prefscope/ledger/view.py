"""A ledger with beta, losses and marks: all columns for filters, sorting and screens, computed on demand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from prefscope.errors import LedgerError
from prefscope.flags import split_flags
from prefscope.ledger.arrays import Columns, Inherited
from prefscope.ledger.columns import DERIVED, DIVERGENCES, RANKS, STORED, TEXTS, Column
from prefscope.ledger.courses import KINDS, Courses, course_names
from prefscope.ledger.filters import Filter, FilterError, Kind, Names, parse_filter
from prefscope.ledger.lexemes import lexemes_of
from prefscope.ledger.marks import Marks, load_marks
from prefscope.ledger.names import ambiguities, marked_names
from prefscope.ledger.scopes import SIGN, load_scopes
from prefscope.ledger.search import Needle
from prefscope.ledger.table import STORED_NAMES, Ledger
from prefscope.preference.registry import LOSSES
from prefscope.settings import LossChoice, PreferenceSettings

_OWN_KINDS: Mapping[str, Kind] = {"integer": "number", "number": "number", "boolean": "truth"}


class View:
    """The columns of a ledger by name."""

    def __init__(self, ledger: Ledger, preferences: PreferenceSettings, marks: Marks | None = None) -> None:
        self.ledger = ledger
        self.preferences = preferences
        self.marks = marks
        self.names = names_of(ledger)
        self.marked_names = marked_names(ledger.extra_columns)
        """The columns of the user's decisions and notes; see there."""
        self._known: Columns = {}
        self._inherited: Inherited | None = None
        """What is known of the view that this is a part of."""
        self.courses: Courses | None = None
        """The pairs over all runs, if there are three or more."""
        self._course_names: Mapping[str, str] = {}
        self._of_marks: dict[str, tuple[tuple[int, int], NDArray[Any]]] = {}
        """The columns of marks and notes, with the generation of the marks."""

    def with_courses(self, courses: Courses | None) -> Self:
        """Add the columns of the pairs' courses to this view, and return it."""
        if courses is not None:
            self.courses, self._course_names = courses, course_names(self.ledger.extra_columns)
            kinds = {name: KINDS[column] for name, column in self._course_names.items()}
            self.names = replace(self.names, kinds={**self.names.kinds, **kinds})
        return self

    @property
    def course_names(self) -> Mapping[str, str]:
        """The columns of `courses.KINDS` by their names in this view; empty without courses."""
        return self._course_names

    def filter(self, text: str) -> NDArray[np.bool_]:
        """Return which pairs match an expression. Shape (num_pairs,).

        Raises:
            FilterError: If the expression is malformed or has an unknown column.
        """
        return self.parse(text).mask(self, self.ledger.num_pairs)

    def parse(self, text: str) -> Filter:
        """Parse an expression, with the scopes that are named beside the ledger.

        Raises:
            FilterError: If the expression is malformed or has an unknown column or scope, or the file of scopes that it
                needs is damaged.
        """
        named = next((one for one in lexemes_of(text) if one.kind == "scope"), None) if SIGN in text else None
        try:
            scopes = {} if named is None else load_scopes(self.ledger.path)
        except LedgerError as error:
            start, stop = (0, 1) if named is None else (named.start - 1, named.stop)
            raise FilterError(f"{error.what}: {error.where}", text, start, stop, hint=error.hint) from error
        return parse_filter(text, self.names, scopes)

    def only(self, wanted: NDArray[np.bool_]) -> View:
        """Return a view of the pairs selected by a mask; columns that are already known are not computed again."""
        part = View(self.ledger.only(wanted), self.preferences, self.marks)
        return part.inherit(self, wanted)

    def inherit(self, whole: View, wanted: NDArray[np.bool_]) -> Self:
        """Take over what another view knows of its pairs that are wanted, which are those of this view."""
        self._inherited = Inherited(whole._known, wanted, whole._inherited)
        return self.with_courses(None if whole.courses is None else whole.courses.only(wanted))

    def column(self, name: str) -> NDArray[Any]:
        """Return a column by its full name, with one value per pair; texts as objects, missing numbers as nan.

        Raises:
            KeyError: If the ledger has no such column.
        """
        if name in self.marked_names:
            return self._marked_column(name)
        if name not in self._known:
            inherited = self._inherited
            self._known |= {name: inherited[name]} if inherited and name in inherited else self._find(name)
        return self._known[name]

    def _marked_column(self, name: str) -> NDArray[Any]:
        """Return the column of marks or notes; cached until the marks change."""
        marks = load_marks(self.ledger.path) if self.marks is None else self.marks
        known = self._of_marks.get(name)
        if self.marks is None or known is None or known[0] != (id(marks), marks.generation):
            known = (id(marks), marks.generation), marks.column(self.ledger, self.marked_names[name])
            self._of_marks[name] = known
        return known[1]

    def _find(self, name: str) -> Columns:
        """Compute a column, along with any that are read together with it."""
        ledger = self.ledger
        if name in STORED_NAMES:
            return {name: ledger.column(name)}
        if name in DERIVED:
            return {name: self._derive(name)}
        if self.courses is not None and name in self._course_names:
            return {name: self.courses.column(self._course_names[name], self.preferences.beta)}
        method, _, what = name.rpartition("_")
        if method in LOSSES and name in self.names.kinds:
            chosen = next((one for one in self.preferences.losses if one.name == method), LossChoice(method))
            compute = ledger.loss if what == "loss" else ledger.loss_weight
            return {name: compute(chosen, self.preferences)}
        values = [value for group in ledger.read([name]) for value in group[name]]
        return {name: _as_array(self.names.kinds[name], values)}

    def _derive(self, name: str) -> NDArray[Any]:
        """Compute a derived column, and cache the columns that it is computed from."""
        column, beta = DERIVED[name], self.preferences.beta
        if column.compute is None or column.over_all_pairs:
            return self.ledger.derive([name], beta)[name]
        with np.errstate(invalid="ignore"):
            return column.compute(self.column, beta)

    def flagged(self, flag: str) -> NDArray[np.bool_]:
        """Return which pairs have a flag."""
        found: dict[str, bool] = {flags: flag in split_flags(flags) for flags in set(self.ledger.stored["flags"])}
        return np.array([found[flags] for flags in self.ledger.stored["flags"]], dtype=np.bool_)

    def linted(self, check: str) -> NDArray[np.bool_]:
        """Return which pairs a check of `prefscope lint` has found; the first call reads all texts."""
        from prefscope.ledger.source_pairs import lint_of  # imports all checks, which few filters need

        return np.isin(self.ledger.stored["row"], lint_of(self.ledger).rows_of(check))

    def searched(self, needle: Needle) -> NDArray[np.bool_]:
        """Return which pairs have a text or pattern in their prompt, chosen or rejected response."""
        return self.ledger.search(needle)

    def marked(self, mark: str) -> NDArray[np.bool_]:
        """Return which pairs have a mark of the user: `keep`, `drop`, `swap`, `note` or `any`."""
        marks = load_marks(self.ledger.path) if self.marks is None else self.marks
        return marks.mask(self.ledger, mark)


def names_of(ledger: Ledger) -> Names:
    """Return the columns of a ledger that an expression may refer to, with their aliases."""
    kinds: dict[str, Kind] = {column.name: _kind(column) for column in _columns(ledger)}
    aliases = {column.alias: column.name for column in _columns(ledger) if column.alias}
    for name in (name for name in LOSSES if not ledger.missing_input(name)):
        kinds |= {f"{name}_loss": "number", f"{name}_weight": "number"}
        aliases[name] = f"{name}_loss"
    ambiguous = ambiguities(ledger.renamed_columns, kinds, aliases)
    kinds |= dict.fromkeys(marked_names(ledger.extra_columns), "text")
    kinds |= {name: _OWN_KINDS.get(kind, "text") for name, kind in ledger.extra_columns.items()}
    return Names(kinds, aliases, ambiguous)


def _columns(ledger: Ledger) -> list[Column]:
    derived = tuple(DERIVED.values()) if ledger.has_reference else ()
    ranks = RANKS if ledger.alternatives else ()
    divergences = DIVERGENCES if ledger.has_divergences else ()
    columns = (*STORED, *TEXTS, *divergences, *ranks, *derived)
    return [one for one in columns if ledger.has_reference or not one.name.startswith(("ref_", "rank_ref"))]


def _kind(column: Column) -> Kind:
    return "text" if column.kind == "text" else "number"


def _as_array(kind: Kind, values: list[Any]) -> NDArray[Any]:
    """Convert values to an array, with defaults for None."""
    if kind == "number":
        return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    if kind == "truth":
        return np.array([bool(value) for value in values], dtype=np.bool_)
    return np.array(["" if value is None else value for value in values], dtype=object)
