"""Where results go: the summary to a terminal or a pipe, tables and reports to files."""

from __future__ import annotations

import glob
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console

from prefscope.errors import UsageError
from prefscope.ledger.marks import load_marks
from prefscope.ledger.table import Ledger
from prefscope.ledger.view import View
from prefscope.report.compared import Compared
from prefscope.report.curate import curate, write_curated
from prefscope.report.document import build_document
from prefscope.report.examination import Examination, examine
from prefscope.report.export import export, export_suffix, write_csv
from prefscope.report.files import refuse_sources, whole_file
from prefscope.report.folder_status import folder_lines
from prefscope.report.html import as_html
from prefscope.report.markdown import as_markdown
from prefscope.report.parity_sections import Parity, parity_headline, parity_json, parity_sections
from prefscope.report.sections import build_sections, headline
from prefscope.report.summary import summarise
from prefscope.report.tables import PAGE_WIDTH, as_svg, print_sections
from prefscope.report.terminal import json_stream, print_json, text_stream
from prefscope.report.visible import visible
from prefscope.settings import PreferenceSettings

STDOUT = "-"
REPORTS = (".md", ".html", ".svg")
PIPE_WIDTH = 120


def only(ledger: Ledger, preferences: PreferenceSettings, where: str | None) -> Ledger:
    """Return the ledger of those pairs that match an expression, and tell on stderr how many these are.

    Raises:
        FilterError: It is no expression, or names no column.
    """
    if where is None:
        return ledger
    found = ledger.only(View(ledger, preferences).filter(where))
    sys.stderr.write(f"{found.num_pairs:,} of {ledger.num_pairs:,} pairs match {visible(where)}\n")
    return found


def print_summary(
    ledger: Ledger,
    preferences: PreferenceSettings,
    *,
    as_json: bool,
    examined: Examination | None = None,
    stream: TextIO | None = None,
    scoring_seconds: float | None = None,
) -> None:
    """Print the summary: tables and plots, or one JSON object.

    Args:
        ledger: What to summarise.
        preferences: The knobs.
        as_json: Print JSON instead.
        examined: What a diagnosis found, where one was asked for.
        stream: Where to; None is stdout. Off a terminal the text has no escape sequences.
        scoring_seconds: Goes into the JSON, where a run was made.
    """
    out = stream if stream is not None else sys.stdout
    summary = summarise(ledger, preferences)
    if as_json:
        timing = {} if scoring_seconds is None else {"timing": {"scoring_seconds": scoring_seconds}}
        found = {} if examined is None else examined.to_json()
        print_json(summary.to_json() | found | timing, out)
        return
    console = _console(out)
    tables = () if examined is None else examined.tables(console.width)
    print_sections(console, headline(summary), build_sections(summary, ledger, preferences, console.width, tables))


def print_report(
    ledger: Ledger, preferences: PreferenceSettings, by: Sequence[str], *, diagnosis: bool, as_json: bool
) -> None:
    """Print the summary with the diagnosis, if wanted, and subsets by some columns.

    Raises:
        UsageError: The ledger has no such column.
    """
    examined = examine(View(ledger, preferences), by, diagnosis=diagnosis)
    print_summary(ledger, preferences, as_json=as_json, examined=examined)


def write_report(
    ledger: Ledger, preferences: PreferenceSettings, path: Path, by: Sequence[str], *, diagnosis: bool
) -> None:
    """Write a self-contained report file, Markdown, HTML or a picture by its suffix.

    Raises:
        UsageError: It is none of these, it is the ledger or what was scored, or the ledger has no such column.
        ResourceError: The file cannot be written.
    """
    if path.suffix not in REPORTS:
        raise UsageError(f"No report has the suffix of {path.name!r}", hint="Use .md, .html or .svg.")
    refuse_sources(path, ledger)
    if path.suffix == ".svg":
        summary = summarise(ledger, preferences)
        tables = examine(View(ledger, preferences), by, diagnosis=diagnosis).tables(PAGE_WIDTH)
        text = as_svg(headline(summary), build_sections(summary, ledger, preferences, PAGE_WIDTH, tables))
    else:
        document = build_document(ledger, preferences, by, diagnosis=diagnosis)
        text = as_markdown(document) if path.suffix == ".md" else as_html(document)
    with whole_file(path) as part:
        part.write_text(text, encoding="utf-8", newline="\n", errors="backslashreplace")


def print_compared(compared: Compared, *, as_json: bool) -> None:
    """Print what differs between runs: tables and a map, or one JSON object."""
    out = sys.stdout
    if as_json:
        print_json(compared.to_json(), out)
        return
    console = _console(out)
    print_sections(console, compared.headline(), compared.sections(console.width))


def print_parity(parity: Parity, preferences: PreferenceSettings, *, as_json: bool) -> None:
    """Print how two profiles differ: tables, or one JSON object."""
    if as_json:
        print_json(parity_json(parity, preferences), sys.stdout)
        return
    print_sections(_console(sys.stdout), parity_headline(parity), parity_sections(parity, preferences))


def _console(stream: TextIO) -> Console:
    """Return a console that takes all text literally; off a terminal it writes no escape sequences."""
    width = None if stream.isatty() else PIPE_WIDTH
    return Console(file=stream, width=width, highlight=False, markup=False, emoji=False)


def check_outputs(outputs: Sequence[str], *sources: str | Path) -> None:
    """Refuse outputs that could not be written, before anything is computed.

    Raises:
        UsageError: A suffix is unknown, a file is named twice, or one is what is to be read.
    """
    for name in outputs:
        if name != STDOUT:
            export_suffix(name)
            if any(is_read_from(Path(name), source) for source in sources):
                raise UsageError(f"The output {name} is the file that is to be read", hint="Choose another name.")
    if len(set(outputs)) < len(outputs):
        raise UsageError("An output is named twice", hint="Name each -o once.")


def is_read_from(path: Path, source: str | Path) -> bool:
    """Return whether a file is what a source names: the file itself, one in a folder, or one that a pattern matches."""
    named = Path(source)
    if not path.exists():
        return False
    if named.is_dir():
        return path.resolve().is_relative_to(named.resolve())
    if named.exists():
        return path.samefile(named)
    return any(path.samefile(found) for found in glob.glob(str(source), recursive=True))  # noqa: PTH207


def check_ledger(path: Path) -> None:
    """Refuse a name that no ledger can have.

    Raises:
        UsageError: It does not end in .parquet.
    """
    if path.suffix != ".parquet":
        raise UsageError(f"A ledger's name ends in .parquet, and {path.name!r} does not", hint="Use -o x.parquet.")


def print_folder_status(folder: str, status: dict[str, Any], *, as_json: bool) -> None:
    """Print how far a folder of parts is, as its `to_json` gives it: lines, or one JSON object."""
    out = sys.stdout
    if as_json:
        print_json(status, out)
        return
    for line in folder_lines(folder, status):
        out.write(f"{visible(line)}\n")


def write_tables(
    ledger: Ledger, preferences: PreferenceSettings, outputs: Sequence[str], *, texts: bool, csv_safe: bool
) -> None:
    """Write the flat table to every output; `-` is CSV on stdout."""
    for name in outputs:
        if name == STDOUT:
            write_csv(ledger, preferences, text_stream(sys.stdout), texts=texts, csv_safe=csv_safe)
        else:
            export(ledger, preferences, Path(name), texts=texts, csv_safe=csv_safe)


def write_curated_to(ledger: Ledger, output: str) -> None:
    """Write the data set as it is marked and tell on stderr what became of its pairs; `-` is JSON lines on stdout.

    Raises:
        UsageError: No format has that suffix, the output is the ledger's, or no pair is left.
        DataError: A row cannot be swapped, or the format cannot hold it.
        ResourceError: The file cannot be written.
    """
    marks = load_marks(ledger.path)
    found = (
        write_curated(ledger, marks, json_stream(sys.stdout))
        if output == STDOUT
        else curate(ledger, marks, Path(output))
    )
    to = "stdout" if output == STDOUT else visible(output)
    sys.stderr.write(f"{found.written:,} pairs to {to}; {found.dropped:,} dropped, {found.swapped:,} swapped\n")
