"""Print summaries to a terminal or a pipe, and write tables and reports to files."""

from __future__ import annotations

import glob
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console

from prefscope.errors import UsageError
from prefscope.ledger.column_values import never
from prefscope.ledger.marks import load_marks
from prefscope.ledger.table import Ledger
from prefscope.ledger.view import View
from prefscope.report.compared import Compared
from prefscope.report.curate import curate, write_curated
from prefscope.report.document import build_document, build_sections
from prefscope.report.examination import Examination, examine
from prefscope.report.explained import ExplainedPair
from prefscope.report.explanation_sections import explanation_headline, explanation_json, explanation_tables
from prefscope.report.export import export, export_suffix, write_csv
from prefscope.report.files import refuse_sources, whole_file
from prefscope.report.html import as_html
from prefscope.report.markdown import as_markdown
from prefscope.report.parity_sections import Parity, parity_headline, parity_json, parity_sections
from prefscope.report.sections import headline, not_scored_yet
from prefscope.report.summary import summarise
from prefscope.report.tables import PAGE_WIDTH, as_svg, print_sections
from prefscope.report.terminal import folder_lines, json_stream, print_json, text_stream
from prefscope.report.visible import visible
from prefscope.settings import PreferenceSettings

STDOUT = "-"
REPORTS = (".md", ".html", ".svg")
PIPE_WIDTH = 120


def only(ledger: Ledger, preferences: PreferenceSettings, where: str | None) -> Ledger:
    """Return a ledger of the pairs that match an expression, and report on stderr how many there are.

    Raises:
        FilterError: The expression is malformed, or names an unknown column.
    """
    if where is None:
        return ledger
    view = View(ledger, preferences)
    found = ledger.only(view.filter(where), where)
    for note in never(view, view.parse(where)):
        sys.stderr.write(f"note: {visible(note)}\n")
    sys.stderr.write(f"{found.num_pairs:,} of {ledger.num_pairs:,} pairs match {visible(where)}\n")
    return found


def report_unscored(ledger: Ledger) -> None:
    """Report on stderr how many pairs of an unfinished run's ledger are not scored yet."""
    if unscored := ledger.num_unscored:
        sys.stderr.write(f"{not_scored_yet(unscored, ledger.num_pairs)}\n")


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
        ledger: The ledger to summarise.
        preferences: Beta and losses.
        as_json: Print JSON instead of text.
        examined: Diagnosis and subsets to include.
        stream: The output, stdout by default. Without a terminal, the text has no escape sequences.
        scoring_seconds: Scoring time of a run, included in the JSON.
    """
    out = stream if stream is not None else sys.stdout
    summary = summarise(ledger, preferences)
    if as_json:
        timing = {} if scoring_seconds is None else {"timing": {"scoring_seconds": scoring_seconds}}
        found = {} if examined is None else examined.to_json()
        print_json(summary.to_json() | found | timing, out)
        return
    console = _console(out)
    sections = build_sections(summary, View(ledger, preferences), console.width, examined)
    print_sections(console, headline(summary), sections)


def print_report(
    ledger: Ledger, preferences: PreferenceSettings, by: Sequence[str], *, diagnosis: bool, as_json: bool
) -> None:
    """Print the summary, optionally with the diagnosis and with subsets by some columns.

    Raises:
        UsageError: The ledger has no such column.
    """
    examined = examine(View(ledger, preferences), by, diagnosis=diagnosis)
    print_summary(ledger, preferences, as_json=as_json, examined=examined)


def write_report(
    ledger: Ledger, preferences: PreferenceSettings, path: Path, by: Sequence[str], *, diagnosis: bool
) -> None:
    """Write a self-contained report: Markdown, HTML or an SVG picture, by the suffix.

    Raises:
        UsageError: The suffix is unknown, the path is that of the ledger or its data set, or a column is unknown.
        ResourceError: The file cannot be written.
    """
    if path.suffix not in REPORTS:
        raise UsageError(f"No report has the suffix of {path.name!r}", hint="Use .md, .html or .svg.")
    refuse_sources(path, ledger)
    if path.suffix == ".svg":
        summary = summarise(ledger, preferences)
        view = View(ledger, preferences)
        examined = examine(view, by, diagnosis=diagnosis)
        text = as_svg(headline(summary), build_sections(summary, view, PAGE_WIDTH, examined))
    else:
        document = build_document(ledger, preferences, by, diagnosis=diagnosis)
        text = as_markdown(document) if path.suffix == ".md" else as_html(document)
    with whole_file(path) as part:
        part.write_text(text, encoding="utf-8", newline="\n", errors="backslashreplace")


def print_compared(compared: Compared, *, as_json: bool) -> None:
    """Print a comparison of runs: tables and a map, or one JSON object."""
    out = sys.stdout
    if as_json:
        print_json(compared.to_json(), out)
        return
    console = _console(out)
    print_sections(console, compared.headline(), compared.sections(console.width))


def print_explained(pair: ExplainedPair, *, as_json: bool) -> None:
    """Print the explanation of a pair: lines and tables, or one JSON object."""
    if as_json:
        print_json(explanation_json(pair), sys.stdout)
        return
    print_sections(_console(sys.stdout), explanation_headline(pair), explanation_tables(pair))


def print_parity(parity: Parity, preferences: PreferenceSettings, *, as_json: bool) -> None:
    """Print a comparison of two tokenization profiles: tables, or one JSON object."""
    if as_json:
        print_json(parity_json(parity, preferences), sys.stdout)
        return
    print_sections(_console(sys.stdout), parity_headline(parity), parity_sections(parity, preferences))


def _console(stream: TextIO) -> Console:
    """Return a console that prints text literally, and without escape sequences unless on a terminal."""
    width = None if stream.isatty() else PIPE_WIDTH
    return Console(file=stream, width=width, highlight=False, markup=False, emoji=False)


def check_outputs(outputs: Sequence[str], *sources: str | Path) -> None:
    """Check the names of outputs before anything is computed.

    Raises:
        UsageError: A suffix is unknown, a file is named twice, or an output is one of the sources.
    """
    for name in outputs:
        if name != STDOUT:
            export_suffix(name)
            if any(is_read_from(Path(name), source) for source in sources):
                raise UsageError(f"The output {name} is also an input", hint="Choose another name.")
    if len(set(outputs)) < len(outputs):
        raise UsageError("An output is named twice", hint="Name each -o once.")


def is_read_from(path: Path, source: str | Path) -> bool:
    """Return whether a file is part of a source: the file itself, in its folder, or matched by its pattern."""
    named = Path(source)
    if not path.exists():
        return False
    if named.is_dir():
        return path.resolve().is_relative_to(named.resolve())
    if named.exists():
        return path.samefile(named)
    return any(path.samefile(found) for found in glob.glob(str(source), recursive=True))  # noqa: PTH207


def check_ledger(path: Path) -> None:
    """Check the name of a ledger.

    Raises:
        UsageError: It does not end in .parquet.
    """
    if path.suffix != ".parquet":
        raise UsageError(f"The name of a ledger must end in .parquet, unlike {path.name!r}", hint="Use -o x.parquet.")


def print_folder_status(folder: str, status: dict[str, Any], *, as_json: bool) -> None:
    """Print the status of a folder of parts, as returned by `to_json`: lines, or one JSON object."""
    out = sys.stdout
    if as_json:
        print_json(status, out)
        return
    for line in folder_lines(folder, status):
        out.write(f"{visible(line)}\n")


def write_tables(
    ledger: Ledger, preferences: PreferenceSettings, outputs: Sequence[str], *, texts: bool, csv_safe: bool
) -> None:
    """Write the flat table to each output; `-` is CSV on stdout."""
    for name in outputs:
        if name == STDOUT:
            write_csv(ledger, preferences, text_stream(sys.stdout), texts=texts, csv_safe=csv_safe)
        else:
            export(ledger, preferences, Path(name), texts=texts, csv_safe=csv_safe)


def write_curated_to(ledger: Ledger, output: str) -> None:
    """Write the curated data set and report counts on stderr; `-` is JSON lines on stdout.

    Raises:
        UsageError: The suffix is unknown, the output is the ledger's, or no pair is left.
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
