"""`prefscope export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prefscope.cli.options import Beta, CsvSafe, Losses, SimpoBeta, SimpoGamma, Texts, Weights, Where
from prefscope.cli.panels import OUTPUT
from prefscope.ledger.preferences import read_preferences


def export(
    ledger: Annotated[
        Path, typer.Argument(metavar="LEDGER", help="A ledger written by `prefscope score`.", show_default=False)
    ],
    output: Annotated[
        list[str],
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="Output file: .csv, .tsv, .jsonl (also .gz) or .parquet; - is CSV on stdout. Repeatable.",
            rich_help_panel=OUTPUT,
        ),
    ],
    where: Where = None,
    beta: Beta = 0.1,
    simpo_beta: SimpoBeta = 2.0,
    simpo_gamma: SimpoGamma = 0.5,
    loss: Losses = None,
    weights: Weights = False,
    texts: Texts = False,
    csv_safe: CsvSafe = False,
) -> None:
    """Write the pairs of a ledger as a flat table.

    Rewards, margins and losses are computed for the given beta and losses; no model is needed.
    """
    from prefscope.cli.output import check_outputs, only, report_unscored, write_tables
    from prefscope.ledger.table import load_ledger

    preferences = read_preferences(beta, simpo_beta, simpo_gamma, loss, weights=weights)
    check_outputs(output, ledger)
    found = only(load_ledger(ledger), preferences, where)
    report_unscored(found)
    write_tables(found, preferences, output, texts=texts, csv_safe=csv_safe)
