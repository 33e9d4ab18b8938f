"""A report as Markdown: cells are escaped, plots are code blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prefscope.report.cases import Case, CaseList, Strip
from prefscope.report.diagnosis import Finding
from prefscope.report.diagnosis_sections import signed
from prefscope.report.document import Document
from prefscope.report.pair_plots import character_plots
from prefscope.report.sections import WIDE, Table
from prefscope.report.visible import visible, visible_lines

STRONGEST = 5
LONGEST_TEXT = 1000


def as_markdown(document: Document) -> str:
    """Return the report; equal documents give equal bytes."""
    return "\n\n".join(_parts(document)) + "\n"


def _parts(document: Document) -> Iterator[str]:
    yield "# prefscope report"
    yield "\n".join(f"- {_escaped(line)}" for line in document.lines)
    for table in filter(None, (document.metrics, document.losses)):
        yield from _table(table)
    for plot in character_plots(document.plots, WIDE):
        yield f"## {_escaped(plot.title)}"
        yield _block(plot.text)
    if document.diagnosis is not None:
        yield from _table(document.diagnosis)
        yield from _formulas(document.findings)
    for table in filter(None, (*document.details, document.flags, document.worst)):
        yield from _table(table)
    for cases in document.case_lists:
        yield from _case_list(cases)
    yield "## Manifest"
    yield _block(document.manifest, "json")


def _table(table: Table) -> Iterator[str]:
    yield f"## {_escaped(table.title)}"
    rules = ["---:" if index in table.numeric else "---" for index in range(len(table.header))]
    yield "\n".join([_row(table.header), "| " + " | ".join(rules) + " |", *map(_row, table.rows)])
    if table.note:
        yield _escaped(table.note)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_escaped(cell.strip()) for cell in cells) + " |"


def _formulas(findings: Sequence[Finding]) -> Iterator[str]:
    """Yield a list of every finding's formula, source and rule."""
    lines = []
    for finding in findings:
        one = finding.diagnostic
        parts = [one.formula, f"Source: {one.source}", f"Rule: {one.rule}"]
        parts += [f"Papers disagree: {one.dispute}"] if one.dispute else []
        lines.append(f"- **{one.title}**: {_escaped('. '.join(parts))}.")
    yield "\n".join(lines)


def _case_list(cases: CaseList) -> Iterator[str]:
    yield f"## {cases.title}"
    yield cases.note
    for case in cases.cases:
        yield from _case(case)


def _case(case: Case) -> Iterator[str]:
    yield f"### Row {case.row}, line {case.line}, margin {signed(case.margin)}"
    yield from (_escaped(visible(text)) for text in (case.remark, case.flags) if text)
    yield _block(visible_lines(_cut(case.prompt)))
    if case.explanation:
        yield "\n".join(f"- {_escaped(line)}" for line in case.explanation)
    for strip in case.strips:
        yield _strip(strip)


def _strip(strip: Strip) -> str:
    """Return a response and its tokens with the largest changes."""
    text = "".join(token.text for token in strip.tokens) or strip.text
    head = f"{strip.side}, reward {signed(strip.reward)}"
    strong = ", ".join(f"{_code(token.text)} {token.change:+.2f}" for token in strip.strongest(STRONGEST))
    moved = f"; tokens with the largest Δ, in nats: {strong}" if strong else ""
    instead = "".join(
        f"\n- at {_code(token.text)}: {_escaped(token.instead)}"
        for token in strip.strongest(STRONGEST)
        if token.instead
    )
    said = f"\n{instead}" if instead else ""
    return f"{head}{moved}{said}\n\n{_block(visible_lines(_cut(text)))}"


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}…"


def _code(token: str) -> str:
    """Return a token as code, or quoted if it has backticks."""
    return f"`` {visible(token)} ``" if "`" not in token else _escaped(f"'{visible(token)}'")


def _block(text: str, language: str = "text") -> str:
    """Return a code block whose fence does not occur in the text."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}{language}\n{text}\n{fence}"


def _escaped(text: str) -> str:
    """Return text with the special characters of Markdown escaped."""
    for mark in "\\`*_{}[]<>#|~&":
        text = text.replace(mark, f"\\{mark}")
    return text
