"""`prefscope export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prefscope.cli.options import Beta, CsvSafe, Losses, SimpoBeta, SimpoGamma, Texts, Weights, Where, read_preferences


def export(
    ledger: Annotated[Path, typer.Argument(help="A ledger that `prefscope score` wrote.", show_default=False)],
    output: Annotated[
        list[str],
        typer.Option(
            "-o",
            "--output",
            help="Where to: .csv, .tsv, .jsonl (each also .gz), .parquet, or - for CSV on stdout; repeatable.",
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
    """Write a ledger, or some of its pairs, as a flat table, for any beta and losses."""
    from prefscope.cli.output import check_outputs, only, write_tables
    from prefscope.ledger.table import load_ledger

    preferences = read_preferences(beta, simpo_beta, simpo_gamma, loss, weights=weights)
    check_outputs(output, ledger)
    found = only(load_ledger(ledger), preferences, where)
    write_tables(found, preferences, output, texts=texts, csv_safe=csv_safe)
