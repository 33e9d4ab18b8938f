"""The registry of data set checks: name, meaning, advice, and the function that finds pairs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from prefscope.data.checks.text_index import PairTexts, TextIndex
from prefscope.data.records import Json
from prefscope.errors import UsageError

Severity = Literal["fail", "note"]
EXAMPLES = 3
"""Maximum number of examples per finding."""


@dataclass(frozen=True, slots=True)
class Example:
    """An example of a finding. Texts are raw excerpts of the data set and must be sanitised before they are shown."""

    line: int
    """1-based line (or row number) in the source."""
    excerpt: str
    like: str = ""
    """The pair it resembles, such as `line 12`; empty if the finding is about a single pair."""
    file: str = ""
    """The file, if the data set has several."""

    @property
    def place(self) -> str:
        """The position of the pair, for display."""
        return f"{self.file}:{self.line}" if self.file else f"line {self.line}"


@dataclass(frozen=True, slots=True)
class Found:
    """The result of a check; `rows` and `detail` (the measurement) are empty if nothing is wrong."""

    rows: NDArray[np.int64]
    """The affected pairs, as ascending positions in the source; empty for a finding about all pairs together."""
    examples: tuple[Example, ...] = ()
    detail: str = ""
    """The measurement, as a sentence without a full stop."""
    figures: Mapping[str, Json] = field(default_factory=dict)


NOTHING = Found(np.empty(0, dtype=np.int64))

PairTest: TypeAlias = Callable[[PairTexts], str | None]
"""Checks one pair: returns an excerpt that shows the problem, or None."""
DataTest: TypeAlias = Callable[[TextIndex, TextIndex | None], Found]
"""Checks all pairs together, and compares them with another data set if there is one."""


@dataclass(frozen=True, slots=True)
class Check:
    """A test of a data set."""

    name: str
    severity: Severity
    meaning: str
    advice: str
    of_pair: PairTest | None = None
    of_data: DataTest | None = None
    compares: bool = False
    """Whether the check compares with another data set; it is skipped if there is none."""
    rule: str = ""
    """The thresholds of the check; empty if the meaning says it all."""


CHECKS: dict[str, Check] = {}
"""All checks by name, in the order in which findings are shown."""


def check_of_pair(
    name: str, severity: Severity, meaning: str, advice: str, *, rule: str = ""
) -> Callable[[PairTest], PairTest]:
    """Register a function that checks one pair."""

    def register(test: PairTest) -> PairTest:
        CHECKS[name] = Check(name, severity, meaning, advice, of_pair=test, rule=rule)
        return test

    return register


def check_of_data(
    name: str, severity: Severity, meaning: str, advice: str, *, compares: bool = False, rule: str = ""
) -> Callable[[DataTest], DataTest]:
    """Register a function that checks all pairs together."""

    def register(test: DataTest) -> DataTest:
        CHECKS[name] = Check(name, severity, meaning, advice, of_data=test, compares=compares, rule=rule)
        return test

    return register


def find_check(name: str) -> Check:
    """Return the check of that name.

    Raises:
        UsageError: If there is no such check.
    """
    if name not in CHECKS:
        raise UsageError(f"There is no check {name!r}", hint=f"Choose from: {', '.join(CHECKS)}.")
    return CHECKS[name]
