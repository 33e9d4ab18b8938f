"""Rows of the Health screen: diagnostics, flags, lint findings, and the subsets of a column."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from prefscope.flags import FLAGS, split_flags
from prefscope.ledger.view import View
from prefscope.preference.diagnostics import DIAGNOSTICS
from prefscope.report.diagnosis import MOST_READ, Finding, finding_of
from prefscope.report.diagnosis_sections import STANDS_OUT, signed
from prefscope.report.split_noise import OUT_OF_REACH, noise_by_split
from prefscope.report.subsets import Group, Grouping
from prefscope.report.visible import visible
from prefscope.tui.model.numbers import minus

if TYPE_CHECKING:
    from prefscope.data.checks import LintFinding, LintReport

CLEAN, WARNING, SEVERE = "✓", "⚠", "✗"
NOISE = "flips"
"""The diagnostic that is also given by split."""
TOKENS = "concentration"
"""The diagnostic that needs the tokens of pairs."""
LINT = "lint"
"""Key of the row shown until the data set has been linted; prefix of the keys of lint findings."""
EXAMPLE = 400
"""Maximum length of each text in an example, in characters."""


@dataclass(frozen=True, slots=True)
class HealthRow:
    """A row of the table, its long description, and the filter expression of its pairs (empty: none)."""

    key: str
    glyph: str
    name: str
    figure: str
    meaning: str
    expression: str
    detail: Callable[[], str]


def finding_row(view: View, finding: Finding, rest: View | None = None) -> HealthRow:
    """Return the row for a finding of a diagnostic, with the figure of the other pairs, if any, in its description."""
    conclusion, diagnostic = finding.conclusion, finding.diagnostic

    def detail() -> str:
        lines = [f"{diagnostic.title}: {conclusion.figure}."]
        other = None if rest is None else finding_of(rest, diagnostic)
        lines += [] if other is None else [f"The other pairs: {other.conclusion.figure}."]
        lines.append(f"{conclusion.sentence}.")
        lines += _split_lines(view) if diagnostic.name == NOISE else []
        if finding.expression:
            count = int(np.count_nonzero(view.filter(finding.expression)))
            listed = "the pair" if count == 1 else f"the {count:,} pairs"
            lines.append(f"Enter lists {listed} {finding.about}." if count else f"No pair is {finding.about}.")
        lines += ["", diagnostic.formula, f"Source: {diagnostic.source}.", f"Rule: {diagnostic.rule}."]
        lines += [f"Papers disagree: {diagnostic.dispute}."] if diagnostic.dispute else []
        return "\n".join(lines)

    glyph = WARNING if conclusion.warns else CLEAN
    figure, meaning = minus(conclusion.figure), conclusion.sentence
    return HealthRow(diagnostic.name, glyph, diagnostic.title, figure, meaning, finding.expression, detail)


def _split_lines(view: View) -> Iterator[str]:
    """Yield the label noise of each split, and what cannot be found in a split that the policy was trained on."""
    splits = noise_by_split(view)
    if splits:
        noises = (f"{visible(one.split)} {minus(one.figures.conclude().figure)}" for one in splits)
        yield f"By split: {'; '.join(noises)}."
    if any(one.is_trained for one in splits):
        yield f"{OUT_OF_REACH}."


def unread_row(view: View) -> HealthRow:
    """Return the placeholder row of the diagnostic that needs tokens, before they are read."""
    one = DIAGNOSTICS[TOKENS]
    count = min(MOST_READ, view.ledger.num_pairs)
    meaning = f"Enter reads the tokens of {count:,} pairs"
    return HealthRow(one.name, "·", one.title, "not read yet", meaning, "", lambda: f"{one.title}: {one.formula}")


def count_flags(view: View) -> Counter[str]:
    """Return the number of pairs with each known flag that occurs."""
    counts: Counter[str] = Counter()
    for joined, count in Counter(view.ledger.stored["flags"].tolist()).items():
        counts.update(dict.fromkeys(set(split_flags(joined)) & FLAGS.keys(), count))
    return counts


def flag_rows(view: View, *, clean: bool) -> Iterator[HealthRow]:
    """Yield a row for every flag that occurs, the most frequent first; with `clean`, also for the other flags."""
    counts = count_flags(view)
    total = max(view.ledger.num_pairs, 1)
    for flag in sorted(FLAGS, key=lambda flag: (-counts[flag], flag)):
        count = counts[flag]
        if count or clean:
            glyph = CLEAN if not count else SEVERE if FLAGS[flag].serious else WARNING
            figure = f"{count:,} pair{'' if count == 1 else 's'}, {count / total:.1%}"
            yield HealthRow(flag, glyph, flag, figure, FLAGS[flag].meaning, f"flag({flag})", _example(view, flag))


def _example(view: View, flag: str) -> Callable[[], str]:
    """Return a function that describes the first pair with a flag."""

    def detail() -> str:
        found = np.flatnonzero(view.flagged(flag))
        lines = [f"{flag}: {FLAGS[flag].meaning}"]
        if found.size:
            pair = view.ledger.pair(int(found[0]))
            texts = (("prompt", pair["prompt"]), ("+ chosen", pair["chosen"]), ("− rejected", pair["rejected"]))
            lines.append(f"For example, row {pair['row']}, line {pair['line']}:")
            lines += [f"{name:<11} {visible(text[:EXAMPLE])}" for name, text in texts]
        return "\n".join(lines)

    return detail


def lint_rows(report: LintReport, rows: NDArray[np.int64]) -> Iterator[HealthRow]:
    """Yield a row for every lint finding about some of the pairs, given by their rows, sorted by severity."""
    found = (one for one in report.findings if not one.is_clean)
    for finding in sorted(found, key=lambda one: one.check.severity):
        check, count = finding.check, int(np.isin(rows, finding.found.rows).sum())
        if finding.found.rows.size and not count:
            continue
        share = f"{count:,} pair{'' if count == 1 else 's'}, {count / max(len(rows), 1):.1%}"
        figure = share if count else "all pairs"
        glyph = SEVERE if check.severity == "fail" else WARNING
        name = check.name.replace("_", " ")
        expression = f"lint({check.name})" if count else ""
        yield HealthRow(f"{LINT} {check.name}", glyph, name, figure, check.meaning, expression, _lint_detail(finding))


def unlinted_row(view: View, *, is_running: bool) -> HealthRow:
    """Return the placeholder row of the lint checks, before they have run."""
    count = view.ledger.num_pairs
    meaning = f"Checking {count:,} pairs …" if is_running else f"Enter checks the texts of {count:,} pairs"

    def detail() -> str:
        return "The checks of `prefscope lint`: repeated and contradicting pairs, leaked templates, label shortcuts."

    return HealthRow(LINT, "·", "data", "not checked yet", meaning, "", detail)


def _lint_detail(finding: LintFinding) -> Callable[[], str]:
    check, found = finding.check, finding.found

    def detail() -> str:
        lines = [f"{check.name}: {check.meaning}."]
        lines += [f"{visible(found.detail[:1].upper() + found.detail[1:])}."] if found.detail else []
        for one in found.examples:
            like = f" like {visible(one.like)}" if one.like else ""
            lines.append(f"{visible(one.place)}{like}: {visible(one.excerpt[:EXAMPLE])}")
        return "\n".join([*lines, f"→ {check.advice}"])

    return detail


def subset_rows(grouping: Grouping) -> Iterator[HealthRow]:
    """Yield a row for every subset of the pairs."""
    for number, group in enumerate(grouping.groups):
        one = group.subset
        right = f"{one.accuracy:.1%} ({100 * one.accuracy_low:.0f}–{one.accuracy_high:.0%})"
        bound = f" ({signed(one.margin_low)} to {signed(one.margin_high)})" if one.pairs > 1 else ""
        margin = minus(f"{signed(one.margin)}{bound}")
        glyph = STANDS_OUT if one.differs else ""
        name = visible(group.label)
        yield HealthRow(
            str(number),
            glyph,
            name,
            f"{one.pairs:>6,}  {right:>17}",
            margin,
            group.expression,
            _subset_detail(grouping, group),
        )


def _subset_detail(grouping: Grouping, group: Group) -> Callable[[], str]:
    """Return a function that describes a subset in full."""
    unlike = "Its accuracy differs from that of the other pairs by more than chance." if group.subset.differs else ""
    listed = "Enter lists its pairs." if group.expression else "No filter can select its pairs."
    lines = [f"{visible(grouping.title)}: {visible(group.label)}", unlike, listed]
    return lambda: "\n".join(filter(None, lines))
