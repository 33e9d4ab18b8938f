"""The values of a text column with their counts, and values in an expression that a column never has."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Sequence
from weakref import WeakKeyDictionary

from prefscope.flags import split_flags
from prefscope.ledger.columns import TEXTS
from prefscope.ledger.filters import Filter
from prefscope.ledger.view import View

FEW = 50
"""A column with more distinct values is not listed."""
SAMPLE = 2000
"""Pairs whose values are read to see whether there are few."""
SHOWN = 6
LONGEST = 40
"""Characters of a value that are shown."""
_COUNTS: WeakKeyDictionary[View, dict[str, list[tuple[str, int]]]] = WeakKeyDictionary()
_UNREAD = frozenset(column.name for column in TEXTS)


def value_counts(view: View, column: str) -> list[tuple[str, int]]:
    """Return the distinct values of a text column with their counts, the most frequent first; empty if too many.

    Texts of pairs are not read: none are returned for prompt, chosen, rejected and source_json.
    """
    if column in _UNREAD or view.names.kinds[column] != "text":
        return []
    if column in view.marked_names:  # marks change
        return Counter(view.column(column).tolist()).most_common(FEW)
    known = _COUNTS.setdefault(view, {})
    if column not in known:
        known[column] = _counted(view, column)
    return known[column]


def _counted(view: View, column: str) -> list[tuple[str, int]]:
    """Count values; of a column with many, only a sample is read."""
    if column in view.ledger.extra_columns:
        sample = {value for group in view.ledger.read([column], SAMPLE) for value in group[column]}
        if len(sample) > FEW:
            return []
    counts = Counter(view.column(column).tolist())
    return counts.most_common() if len(counts) <= FEW else []


def never(view: View, parsed: Filter) -> list[str]:
    """Return a sentence for each text in an expression that the column it is compared with never has."""
    return [
        _sentence(column, text, value_counts(view, column))
        for column, text in dict.fromkeys(parsed.uses.values)
        if column not in _UNREAD and text not in set(view.column(column).tolist())
    ]


def _sentence(column: str, text: str, values: Sequence[tuple[str, int]]) -> str:
    if not values:
        return f'{column} is never "{_short(text)}"; {column} ~ "{_short(text)}" finds it in longer texts.'
    near = difflib.get_close_matches(text, [value for value, _ in values if value], n=1, cutoff=0.5)
    ordered = sorted(values, key=lambda one: one[0] not in near)
    shown = ", ".join(f"{_short(value) or 'empty'} {count:,}" for value, count in ordered[:SHOWN])
    more = ", …" if len(ordered) > SHOWN else "."
    return f'{column} is never "{_short(text)}"; it has: {shown}{more}'


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def flag_counts(view: View) -> Counter[str]:
    """Return the number of pairs with each flag."""
    counts: Counter[str] = Counter()
    for joined, count in Counter(view.ledger.stored["flags"].tolist()).items():
        counts.update(dict.fromkeys(set(split_flags(joined)), count))
    return counts
