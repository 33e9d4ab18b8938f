"""Pairs grouped by a column: accuracy and margin of every group, and the expression that selects its pairs."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prefscope.errors import UsageError
from prefscope.ledger.filters import WORDS
from prefscope.ledger.view import View
from prefscope.preference.diagnostics import Subset, quantile_edges, subsets
from prefscope.report.cards import sides
from prefscope.report.summary import finite_pairs

BINS = 5
"""Number of ranges for a numeric column with more than FEW distinct values."""
FEW = 8
MOST_GROUPS = 20
"""Limit of groups; all smaller ones are combined."""
OTHERS, ABSENT = "others", "(none)"
WORTH_A_TABLE = range(2, MOST_GROUPS + 1)
"""Distinct values of a column that is shown by default."""
LEAST_PAIRS = 10
"""Least pairs in each of the two largest groups of a column that is shown by default."""
MOST_UNASKED = 3
_PLAIN = re.compile(r"[^\W\d]\w*")
TRUTHS = ("true", "false")
_FIXED_WORDS = WORDS | {*TRUTHS}


@dataclass(frozen=True, slots=True)
class Group:
    """The pairs with one value of a column, or with a range of values."""

    label: str
    """From the data set; untrusted text."""
    expression: str
    """Filter expression for its pairs; empty if there is none."""
    subset: Subset


@dataclass(frozen=True, slots=True)
class Grouping:
    """All groups of a column, over the pairs with finite log-probs."""

    column: str
    title: str
    """The requested name: the column's own or an alias."""
    groups: tuple[Group, ...]
    by_margin: bool
    """Whether margins are reward margins; without a reference, they are differences of log-probs per token."""

    @property
    def caution(self) -> str:
        """A caution about comparing many groups."""
        count = len(self.groups)
        chance = 1 - 0.95**count
        return (
            f"Wilson's and Student's intervals. With {count} groups, at least one interval misses its true value in "
            f"{chance:.0%} of such tables; ✱ marks groups that differ even so (Fisher's exact test, Bonferroni)"
        )

    def to_json(self) -> dict[str, Any]:
        """Return the figures of every group, and the caution."""
        return {"caution": self.caution, "groups": [{"value": one.label, **asdict(one.subset)} for one in self.groups]}


def group_by(view: View, name: str) -> Grouping:
    """Return accuracy and mean margin by the values of a column, or by five ranges if it has many numbers.

    Raises:
        UsageError: The ledger has no such column.
    """
    column = view.names.full(name)
    if column is None:
        if name in view.names.ambiguous:
            what, hint = view.names.problem(name)
            raise UsageError(what, hint=hint)
        near = view.names.nearest(name)
        listed = ", ".join(near or groupable(view) or ["outcome", "flags"])
        raise UsageError(f"There is no column {name!r} to group by", hint=f"Try {listed}.")
    margins, _, _ = sides(view)
    known = finite_pairs(view.ledger) & np.isfinite(margins)
    numbers, labels, expressions = _groups(view, column, known)
    found = subsets(margins[known], numbers[known], len(labels))
    groups = tuple(Group(*one) for one in zip(labels, expressions, found, strict=True) if one[2].pairs)
    return Grouping(column, name, groups, view.ledger.has_reference)


def groupable(view: View) -> list[str]:
    """Return the data set's columns to group by unless others are named: few values, of which two are frequent."""
    found = []
    for name in view.ledger.extra_columns:
        counts = [count for _, count in Counter(view.column(name).tolist()).most_common()]
        if len(counts) in WORTH_A_TABLE and counts[1] >= LEAST_PAIRS:
            found.append(name)
    return found[:MOST_UNASKED]


def _groups(view: View, column: str, known: NDArray[np.bool_]) -> tuple[NDArray[np.int64], list[str], list[str]]:
    """Return the group of each pair, and the label and expression of each group."""
    values, name = view.column(column), _written(column)
    if view.names.kinds[column] == "number":
        numbers = values.astype(np.float64)
        if np.unique(numbers[known & np.isfinite(numbers)]).size > FEW:
            return _ranges(numbers, quantile_edges(numbers[known], BINS), name)
        texts = [_number(value) for value in numbers.tolist()]
        return _values(texts, known, name)
    if view.names.kinds[column] == "truth":
        texts = [TRUTHS[not value] for value in values.tolist()]
        return _values(texts, known, name)
    return _values([str(value) for value in values.tolist()], known, name, quoted=True)


def _values(
    texts: list[str], known: NDArray[np.bool_], name: str, *, quoted: bool = False
) -> tuple[NDArray[np.int64], list[str], list[str]]:
    """Group pairs by value, the largest groups first; those after the twentieth are combined."""
    counts = dict.fromkeys(sorted(set(texts)), 0) | Counter(itertools.compress(texts, known))
    ordered = sorted(counts, key=lambda text: -counts[text])
    ranks = {text: min(rank, MOST_GROUPS) for rank, text in enumerate(ordered)}
    labels = ordered[:MOST_GROUPS]
    expressions = [_equals(name, label, quoted=quoted) for label in labels]
    if len(ordered) > MOST_GROUPS:
        labels.append(f"{OTHERS} ({len(ordered) - MOST_GROUPS:,} values)")
        expressions.append("")
    groups = np.fromiter((ranks[text] for text in texts), dtype=np.int64, count=len(texts))
    return groups, [label or ABSENT for label in labels], expressions


def _ranges(
    numbers: NDArray[np.float64], edges: list[float], name: str
) -> tuple[NDArray[np.int64], list[str], list[str]]:
    """Group pairs by half-open ranges [low, high); missing numbers form their own group."""
    finite = np.isfinite(numbers)
    groups = np.where(finite, np.searchsorted(edges, np.where(finite, numbers, 0), side="right"), len(edges) + 1)
    shown = [f"{edge:.4g}" for edge in edges]
    labels, expressions = [], []
    for low, high in zip(["", *shown], [*shown, ""], strict=True):
        labels.append(f"{low} to below {high}" if low and high else f"below {high}" if high else f"{low} and above")
    for least, beyond in zip([None, *edges], [*edges, None], strict=True):
        parts = [
            f"{name} >= {least!r}" if least is not None else "",
            f"{name} < {beyond!r}" if beyond is not None else "",
        ]
        expressions.append(" and ".join(filter(None, parts)) or f"{name} == {name}")
    if not name:
        expressions = [""] * len(expressions)
    return groups, [*labels, ABSENT], [*expressions, f"not {name} == {name}" if name else ""]


def _number(value: float) -> str:
    return "" if value != value else f"{value:.15g}"  # noqa: PLR0124 (nan)


def _written(column: str) -> str:
    """Return a column as written in an expression; empty if it cannot be."""
    if _PLAIN.fullmatch(column) and column not in _FIXED_WORDS:
        return column
    return "" if "`" in column else f"`{column}`"


def _equals(name: str, label: str, *, quoted: bool) -> str:
    """Return the expression for a value; empty if there is none."""
    if not name or len(label.splitlines()) > 1:
        return ""
    if quoted:
        escaped = label.replace("\\", "\\\\").replace('"', '\\"')
        return f'{name} == "{escaped}"'
    if label in TRUTHS:
        return name if label == TRUTHS[0] else f"not {name}"
    return f"{name} == {label}" if label else f"not {name} == {name}"
