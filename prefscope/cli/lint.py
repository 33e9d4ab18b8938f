"""`prefscope lint`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from prefscope.cli import arguments
from prefscope.cli import options as opt
from prefscope.cli.panels import DATA, OUTPUT
from prefscope.errors import DataError, UsageError

if TYPE_CHECKING:
    from prefscope.data.records import BadRow, PreferencePair
    from prefscope.data.sources import Source
    from prefscope.events import Event
    from prefscope.pipeline.remarks import Remarks

EXIT_FOUND = 1
NO_CHECK = "none"
ROWS_AN_EVENT = 1_000
Against = Annotated[
    str | None,
    typer.Option(
        "--against",
        metavar="OTHER",
        help="Data set whose prompts must not occur in DATA.",
        show_default=False,
        rich_help_panel=DATA,
    ),
]
Tokenizer = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL",
        help="Checkpoint folder or Hugging Face id; lengths are measured in its tokens.",
        show_default=False,
        rich_help_panel=DATA,
    ),
]
FailOn = Annotated[
    list[str] | None,
    typer.Option(
        "--fail-on",
        metavar="CHECK",
        help="Exit with 1 if this check finds something, or never with `none`. Repeatable. Default: the checks marked "
        "FAIL.",
        show_default=False,
        rich_help_panel=OUTPUT,
    ),
]


def lint(
    data: opt.Data,
    against: Against = None,
    tokenizer: Tokenizer = None,
    fail_on: FailOn = None,
    as_json: opt.AsJson = False,
    format_: opt.Format = "auto",
    mapping: opt.ColumnMap = None,
    split: opt.Split = None,
    config: opt.Config = None,
    revision: opt.Revision = None,
) -> None:
    """Check a data set for errors, without a model.

    Looks for repeated, contradictory, empty and leaked pairs, chat templates in texts, turns out of order, damaged
    characters, and clues that give the label away: a phrase, white space, length. Exits with 1 if a check marked FAIL
    finds something.
    """
    from rich.console import Console

    from prefscope.cli.output import PIPE_WIDTH
    from prefscope.cli.progress import RunProgress
    from prefscope.data.checks import find_check, index_texts, lint_pairs
    from prefscope.data.sources import open_several, open_source
    from prefscope.pipeline.remarks import Remarks
    from prefscope.report.terminal import lint_json, print_json, print_lint

    failing = None if fail_on is None else {find_check(name).name for name in fail_on if name != NO_CHECK}
    if against == "-" and "-" in data:
        raise UsageError("Standard input cannot be both data sets", hint="Pass a file to --against.")
    count_tokens = None
    if tokenizer is not None:
        from prefscope.scoring.token_counts import token_counter

        count_tokens = token_counter(tokenizer)
    columns = arguments.read_mapping(mapping)
    with (
        RunProgress() as progress,
        closing(open_several(data, split=split, config=config, revision=revision)) as source,
    ):
        other = None
        if against is not None:
            with closing(open_source(against)) as other_source:
                other = index_texts(_pairs(other_source, format_, columns, Remarks(), progress))
        remarks = Remarks()
        pairs = _pairs(source, format_, columns, remarks, progress)
        report = lint_pairs(pairs, against=other, count_tokens=count_tokens)
        for note in remarks.notes(source):
            progress(note)
        name = source.name
    if not any((report.pairs, *(len(finding.found.rows) for finding in report.findings))):
        raise DataError("This data set has no pairs", where=name)
    if as_json:
        print_json({"source": name} | lint_json(report), sys.stdout)
    else:
        width = None if sys.stdout.isatty() else PIPE_WIDTH
        print_lint(Console(width=width, highlight=False, markup=False, emoji=False), name, report)
    found = [finding.check for finding in report.findings if not finding.is_clean]
    if any(check.severity == "fail" if failing is None else check.name in failing for check in found):
        raise typer.Exit(EXIT_FOUND)


def _pairs(
    source: Source, dialect: str, mapping: dict[str, str] | None, remarks: Remarks, emit: Callable[[Event], None]
) -> Iterator[PreferencePair | BadRow]:
    """Yield the pairs and bad rows of a source, and emit its progress."""
    from prefscope.data.reading import pairs_of
    from prefscope.data.records import BadRow
    from prefscope.events import Progressed

    for number, found in enumerate(pairs_of(source, dialect=dialect, mapping=mapping), start=1):
        if isinstance(found, BadRow):
            yield found
        else:
            remarks.add(*found)
            yield found[0]
        if number % ROWS_AN_EVENT == 0:
            emit(Progressed(f"reading {source.name}", number))
