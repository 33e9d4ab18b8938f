"""`prefscope compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prefscope.cli.options import AsJson, Beta, Losses, SimpoBeta, SimpoGamma, Where
from prefscope.cli.panels import OUTPUT
from prefscope.errors import UsageError
from prefscope.ledger.preferences import read_preferences


def compare(
    ledgers: Annotated[
        list[Path],
        typer.Argument(
            metavar="LEDGER",
            help="Two or more ledgers of the same pairs, checkpoints in the order of training; or a run folder.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="Write the margins and the course of every shared pair: .csv, .tsv, .jsonl (also .gz) or .parquet; "
            "or the whole comparison with its plots: .html.",
            show_default=False,
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    where: Where = None,
    by: Annotated[
        str,
        typer.Option(
            "--by",
            metavar="COLUMN",
            help="Also follow the subsets of three or more checkpoints, such as --by split.",
            show_default=False,
            rich_help_panel=OUTPUT,
        ),
    ] = "",
    beta: Beta = 0.1,
    simpo_beta: SimpoBeta = 2.0,
    simpo_gamma: SimpoGamma = 0.5,
    loss: Losses = None,
    as_json: AsJson = False,
) -> None:
    """Compare runs on the same pairs.

    Shows paired differences of accuracy, margin and losses with 95% intervals, and which pairs only one run ranks
    right. With three or more checkpoints, also shows which pairs were learnt, forgotten or never learnt. The first
    ledger is A and the last is B.
    """
    from prefscope.cli.output import print_compared
    from prefscope.ledger.run_folder import open_runs
    from prefscope.report.checkpoints import write_followed
    from prefscope.report.compare_page import write_page
    from prefscope.report.compared import compare_runs

    runs, steps = open_runs(ledgers)
    if len(runs) < 2:  # noqa: PLR2004 (a comparison needs two)
        raise UsageError("There is nothing to compare it with", hint="Pass two or more ledgers of the same pairs.")
    preferences = read_preferences(beta, simpo_beta, simpo_gamma, loss, weights=False)
    compared = compare_runs(runs, preferences, where, steps, by)
    if output is not None and output.suffix.lower() in {".html", ".htm"}:
        write_page(compared, output)
    elif output is not None:
        if compared.followed is None:
            raise UsageError("One of the ledgers has no reference, so there are no margins to write", where=str(output))
        write_followed(compared.followed, output)
    print_compared(compared, as_json=as_json)
