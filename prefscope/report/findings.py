"""Print the findings of lint; all text of data sets is made safe."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from prefscope.data.checks import Example, Finding, LintReport
from prefscope.report.indented import print_indented
from prefscope.report.visible import visible

MARKS = {"fail": ("FAIL", "bold red"), "note": ("note", "bold yellow")}
MARGIN = Text(" " * 6)


def print_findings(console: Console, name: str, report: LintReport) -> None:
    """Print the findings, failures first, and the checks that found nothing."""
    found = sorted((one for one in report.findings if not one.is_clean), key=lambda one: one.check.severity)
    console.print(
        Text(f"{visible(name)}: {report.pairs:,} pair{'' if report.pairs == 1 else 's'}, {_tally(found)}"),
        soft_wrap=True,
    )
    for finding in found:
        console.print()
        _print_finding(console, finding)
    clean = [one.check.name for one in report.findings if one.is_clean]
    if clean:
        console.print()
        console.print(Text(f"Nothing found by {', '.join(clean)}."))


def _tally(found: list[Finding]) -> str:
    failing = sum(one.check.severity == "fail" for one in found)
    noted = len(found) - failing
    return f"{failing} failing check{'' if failing == 1 else 's'}, {noted} note{'' if noted == 1 else 's'}"


def _print_finding(console: Console, finding: Finding) -> None:
    check, found = finding.check, finding.found
    mark, style = MARKS[check.severity]
    count = f"  {len(found.rows):,} row{'' if len(found.rows) == 1 else 's'}" if found.rows.size else ""
    console.print(Text.assemble((mark, style), "  ", (check.name, "bold"), count), soft_wrap=True)
    print_indented(console, Text(_sentence(check.meaning)), MARGIN)
    if found.told:
        print_indented(console, Text(_sentence(found.told)), MARGIN)
    for example in found.examples:
        place = Text(_place(example), style="dim", no_wrap=True)
        place.truncate(console.width - MARGIN.cell_len, overflow="ellipsis")
        print_indented(console, place, MARGIN)
    print_indented(console, Text(f"→ {check.advice}"), MARGIN)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _place(example: Example) -> str:
    like = f" like {example.like}" if example.like else ""
    return visible(f"{example.place}{like}: {example.excerpt}")


def findings_json(report: LintReport) -> dict[str, Any]:
    """Return the report as JSON values with excerpts that are safe to show."""
    value = report.to_json()
    for check in value["checks"].values():
        for example in check["examples"]:
            example["excerpt"] = visible(example["excerpt"])
    return value
