"""Run all checks over the pairs of a data set."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prefscope.data.checks import duplicates, phrases, responses, shortcuts  # noqa: F401 (they register the checks)
from prefscope.data.checks.check import CHECKS, EXAMPLES, NOTHING, Check, Example, Found
from prefscope.data.checks.text_index import PairTexts, TextIndex, TextIndexBuilder
from prefscope.data.records import BadRow, Json, PreferencePair

JSON_SCHEMA = 1
BAD_ROWS = Check(
    "bad_rows", "fail", "a row that is not a preference pair", "Fix the rows; `score --skip-bad-rows` skips them."
)
CHECKS[BAD_ROWS.name] = BAD_ROWS


@dataclass(frozen=True, slots=True)
class LintFinding:
    """A check and its result."""

    check: Check
    found: Found

    @property
    def is_clean(self) -> bool:
        """Whether the check found nothing."""
        return not (self.found.rows.size or self.found.detail)


@dataclass(frozen=True)
class LintReport:
    """The results of all checks of a data set."""

    pairs: int
    findings: tuple[LintFinding, ...]
    """One finding per check, in the order of the checks."""

    @functools.cached_property
    def _by_row(self) -> Mapping[int, tuple[str, ...]]:
        names: dict[int, list[str]] = defaultdict(list)
        for finding in self.findings:
            for row in finding.found.rows.tolist():
                names[row].append(finding.check.name)
        return {row: tuple(some) for row, some in names.items()}

    def checks_of(self, row: int) -> tuple[str, ...]:
        """Return the names of the checks that apply to the pair at a position in the source."""
        return self._by_row.get(row, ())

    def rows_of(self, check: str) -> NDArray[np.int64]:
        """Return the pairs that a check found, as ascending positions in the source."""
        return next((one.found.rows for one in self.findings if one.check.name == check), NOTHING.rows)

    def to_json(self) -> dict[str, Json]:
        """Return the report as JSON values; excerpts are raw text of the data set."""
        return {
            "schema": JSON_SCHEMA,
            "pairs": self.pairs,
            "checks": {
                check.name: {
                    "severity": check.severity,
                    "meaning": check.meaning,
                    "found": bool(len(found.rows) or found.detail),
                    "count": len(found.rows),
                    "detail": found.detail,
                    "told": found.detail,  # the old name of `detail`, kept for scripts
                    "examples": [_example_to_json(example) for example in found.examples],
                    "figures": dict(found.figures),
                    "rows": found.rows.tolist(),
                }
                for check, found in ((finding.check, finding.found) for finding in self.findings)
            },
        }


def index_texts(
    pairs: Iterable[PreferencePair | BadRow], count_tokens: Callable[[str], int] | None = None
) -> TextIndex:
    """Return the index of a data set to pass as `against` of `lint_pairs`. Bad rows are skipped."""
    builder = TextIndexBuilder(count_tokens)
    for pair in pairs:
        if isinstance(pair, PreferencePair):
            builder.add(PairTexts(pair))
    return builder.build()


def lint_pairs(
    pairs: Iterable[PreferencePair | BadRow],
    *,
    against: TextIndex | None = None,
    count_tokens: Callable[[str], int] | None = None,
) -> LintReport:
    """Run every check on a data set, in one pass over its pairs and in linear time.

    Args:
        pairs: The pairs and bad rows, in the order of the source; positions are their `row`.
        against: The index of another data set, whose prompts should not be in this one.
        count_tokens: Returns a response's length in tokens; if None, lengths are in characters.
    """
    builder = TextIndexBuilder(count_tokens)
    bad: list[BadRow] = []
    hits = {name: _Hits() for name, check in CHECKS.items() if check.of_pair}

    def good() -> Iterator[PairTexts]:
        for pair in pairs:
            if isinstance(pair, BadRow):
                bad.append(pair)
            else:
                yield PairTexts(pair)

    for texts in good():
        builder.add(texts)
        for name, hit in hits.items():
            test = CHECKS[name].of_pair
            if test is not None and (problem := test(texts)) is not None:
                hit.add(texts.pair, problem)
    data = builder.build()
    found = {name: hit.found() for name, hit in hits.items()} | {BAD_ROWS.name: _bad_rows(bad)}
    for name, check in CHECKS.items():
        if check.of_data is not None and (against is not None or not check.compares):
            found[name] = check.of_data(data, against) if len(data.rows) else NOTHING
    return LintReport(len(data.rows), tuple(LintFinding(CHECKS[name], found[name]) for name in CHECKS if name in found))


def _example_to_json(example: Example) -> dict[str, Json]:
    file = {"file": example.file} if example.file else {}
    return {"line": example.line, "excerpt": example.excerpt, "like": example.like, **file}


class _Hits:
    """Collects the pairs found by a check of single pairs."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.examples: list[Example] = []

    def add(self, pair: PreferencePair, problem: str) -> None:
        self.rows.append(pair.row)
        if len(self.examples) < EXAMPLES:
            self.examples.append(Example(pair.line, problem, file=pair.file))

    def found(self) -> Found:
        return Found(np.array(self.rows, dtype=np.int64), tuple(self.examples))


def _bad_rows(bad: list[BadRow]) -> Found:
    rows = np.array([row.row for row in bad], dtype=np.int64)
    return Found(rows, tuple(Example(row.line, row.reason, file=row.file) for row in bad[:EXAMPLES]))
