"""What a check of a data set is: its name, what it means, what to do about it, and how it finds pairs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from prefscope.data.checks.text_index import Distilled, PairTexts
from prefscope.data.records import Json
from prefscope.errors import UsageError

Severity = Literal["fail", "note"]
EXAMPLES = 3
"""Places that a finding shows."""


@dataclass(frozen=True, slots=True)
class Example:
    """One place of a finding. Its texts are those of the data set, cut short but not made safe to show."""

    line: int
    """1-based line (or row number) in the source."""
    excerpt: str
    like: str = ""
    """What it is like, as in `line 12`; empty for a pair that stands for itself."""
    file: str = ""
    """The file, where the data set has several."""

    @property
    def place(self) -> str:
        """Where it is, for people."""
        return f"{self.file}:{self.line}" if self.file else f"line {self.line}"


@dataclass(frozen=True, slots=True)
class Found:
    """What a check found; neither pairs nor a word where all is well."""

    rows: NDArray[np.int64]
    """The pairs that fall under it, by their positions in the source, ascending; none for what is true of all pairs
    together."""
    examples: tuple[Example, ...] = ()
    told: str = ""
    """What the check measured, as a sentence without a full stop."""
    figures: Mapping[str, Json] = field(default_factory=dict)


NOTHING = Found(np.empty(0, dtype=np.int64))

PairTest: TypeAlias = Callable[[PairTexts], str | None]
"""Looks at one pair: an excerpt that shows what is wrong, None where nothing is."""
DataTest: TypeAlias = Callable[[Distilled, Distilled | None], Found]
"""Looks at all pairs together, and at those of another data set where one is given."""


@dataclass(frozen=True, slots=True)
class Check:
    """A rule that a data set should keep."""

    name: str
    severity: Severity
    meaning: str
    advice: str
    of_pair: PairTest | None = None
    of_data: DataTest | None = None
    compares: bool = False
    """Whether it compares with another data set, and is left out where none is given."""
    rule: str = ""
    """By which thresholds it judges; empty where the meaning says all."""


CHECKS: dict[str, Check] = {}
"""Every check by its name, in the order in which findings are told."""


def check_of_pair(
    name: str, severity: Severity, meaning: str, advice: str, *, rule: str = ""
) -> Callable[[PairTest], PairTest]:
    """Register a function that looks at one pair."""

    def register(test: PairTest) -> PairTest:
        CHECKS[name] = Check(name, severity, meaning, advice, of_pair=test, rule=rule)
        return test

    return register


def check_of_data(
    name: str, severity: Severity, meaning: str, advice: str, *, compares: bool = False, rule: str = ""
) -> Callable[[DataTest], DataTest]:
    """Register a function that looks at all pairs together."""

    def register(test: DataTest) -> DataTest:
        CHECKS[name] = Check(name, severity, meaning, advice, of_data=test, compares=compares, rule=rule)
        return test

    return register


def find_check(name: str) -> Check:
    """Return a check by its name.

    Raises:
        UsageError: There is none of that name.
    """
    if name not in CHECKS:
        raise UsageError(f"There is no check {name!r}", hint=f"Choose from: {', '.join(CHECKS)}.")
    return CHECKS[name]
