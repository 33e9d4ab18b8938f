"""What is printed on stdout besides tables: JSON, texts, the findings of lint, doctor's verdicts, a folder's status.

On a terminal, control characters are made visible; files and pipes get data unchanged.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO, cast

from rich.console import Console
from rich.text import Text

from prefscope.report.visible import is_shown, visible, visible_lines

if TYPE_CHECKING:
    from prefscope.data.checks import Example, LintFinding, LintReport

LINT_MARKS = {"fail": ("FAIL", "bold red"), "note": ("note", "bold yellow")}
VERDICT_MARKS = {
    "fail": ("FAIL", "bold red"),
    "warn": ("warn", "bold yellow"),
    "ok": ("ok", "green"),
    "skip": ("skip", "dim"),
}
MARGIN = Text(" " * 6)
NAME_CELLS = 15
ROLES = {"policy": "policy", "ref": "reference"}


@dataclass(frozen=True, slots=True)
class _Shown:
    """A stream that transforms what is written to it."""

    stream: TextIO
    change: Callable[[str], str]

    def write(self, text: str) -> int:
        return self.stream.write(self.change(text))

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)


def text_stream(stream: TextIO) -> TextIO:
    """Return a stream for text; on a terminal, it shows control characters as pictures."""
    return cast("TextIO", _Shown(stream, visible_lines)) if stream.isatty() else stream


def json_stream(stream: TextIO) -> TextIO:
    """Return a stream for JSON; on a terminal, it writes control characters as JSON escapes."""
    return cast("TextIO", _Shown(stream, escaped)) if stream.isatty() else stream


def print_json(value: Any, stream: TextIO) -> None:
    """Print a value as indented JSON."""
    json_stream(stream).write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def escaped(text: str) -> str:
    r"""Return equivalent JSON without characters that control a terminal or are invisible.

    >>> escaped('{"a": "\x9b31m"}')
    '{"a": "\\u009b31m"}'
    """
    return "".join(one if one == "\n" or is_shown(one) else json.dumps(one)[1:-1] for one in text)


def print_lint(console: Console, name: str, report: LintReport) -> None:
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


def _tally(found: list[LintFinding]) -> str:
    failing = sum(one.check.severity == "fail" for one in found)
    noted = len(found) - failing
    return f"{failing} failing check{'' if failing == 1 else 's'}, {noted} note{'' if noted == 1 else 's'}"


def _print_finding(console: Console, finding: LintFinding) -> None:
    check, found = finding.check, finding.found
    mark, style = LINT_MARKS[check.severity]
    count = f"  {len(found.rows):,} row{'' if len(found.rows) == 1 else 's'}" if found.rows.size else ""
    console.print(Text.assemble((mark, style), "  ", (check.name, "bold"), count), soft_wrap=True)
    _print_indented(console, Text(_sentence(check.meaning)), MARGIN)
    if found.detail:
        _print_indented(console, Text(_sentence(found.detail)), MARGIN)
    for example in found.examples:
        place = Text(_place(example), style="dim", no_wrap=True)
        place.truncate(console.width - MARGIN.cell_len, overflow="ellipsis")
        _print_indented(console, place, MARGIN)
    _print_indented(console, Text(f"→ {check.advice}"), MARGIN)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _place(example: Example) -> str:
    like = f" like {example.like}" if example.like else ""
    return visible(f"{example.place}{like}: {example.excerpt}")


def lint_json(report: LintReport) -> dict[str, Any]:
    """Return the report as JSON values with excerpts that are safe to show."""
    value = report.to_json()
    for check in value["checks"].values():
        for example in check["examples"]:
            example["excerpt"] = visible(example["excerpt"])
    return value


def print_verdicts(console: Console, diagnosis: dict[str, Any]) -> None:
    """Print a diagnosis, as returned by its `to_json`: a verdict per check, and what to do."""
    for name in ("policy", "ref"):
        console.print(Text(f"{'reference' if name == 'ref' else name} {visible(diagnosis[name])}"), soft_wrap=True)
    states = Counter(check["state"] for check in diagnosis["checks"].values())
    tally = ", ".join(f"{states[state]} {state}" for state in VERDICT_MARKS if states[state])
    noun = "pair" if diagnosis["pairs"] == 1 else "pairs"
    console.print(Text(f"{diagnosis['pairs']:,} {noun} of {visible(diagnosis['data'])}: {tally}\n"), soft_wrap=True)
    for name, check in diagnosis["checks"].items():
        mark, style = VERDICT_MARKS[check["state"]]
        head = Text.assemble((f"{mark:<4}", style), "  ", (f"{name:<{NAME_CELLS}}", "bold"), "  ")
        _print_indented(console, Text(visible(check["detail"])), head)
        if check["advice"]:
            _print_indented(console, Text(f"→ {check['advice']}"), Text(" " * len(head)))


def folder_lines(folder: str, status: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of a status, as returned by its `to_json`."""
    shards = status["shards"]
    yield f"{folder}: {status['pairs']:,} pairs in {shards:,} shards"
    if not status["runs"] and not status["unrecorded"]:
        yield "no parts yet"
    for run in status["runs"]:
        state = "complete" if run["missing"] == 0 else f"{run['missing']:,} parts missing"
        yield f"run {run['run']}: {state}"
        for role, name in run["models"].items():
            done = run["shards"][role]
            yield f"  {ROLES[role]:<9}  {done:>6,} of {shards:,} ({done / max(shards, 1):4.0%})  {name}"
    for scope, done in status["unrecorded"].items():
        yield f"model {scope[:16]}: {done:,} of {shards:,}, its first slice is not finished"


def _print_indented(console: Console, text: Text, head: Text) -> None:
    """Print a paragraph with `head` in its left margin, without trailing spaces."""
    for number, line in enumerate(text.wrap(console, console.width - head.cell_len)):
        line.rstrip()
        console.print((head if number == 0 else Text(" " * head.cell_len)) + line, soft_wrap=True)
