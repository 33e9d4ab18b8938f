"""`prefscope curate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prefscope.cli.options import Beta, Losses, SimpoBeta, SimpoGamma, Where
from prefscope.cli.panels import OUTPUT
from prefscope.ledger.preferences import read_preferences


def curate(
    ledger: Annotated[
        Path, typer.Argument(metavar="LEDGER", help="A ledger written by `prefscope score`.", show_default=False)
    ],
    output: Annotated[
        str,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="Output file: .jsonl, .json, .csv, .tsv (also .gz) or .parquet; - is JSON lines on stdout.",
            show_default=False,
            rich_help_panel=OUTPUT,
        ),
    ],
    where: Where = None,
    beta: Beta = 0.1,
    simpo_beta: SimpoBeta = 2.0,
    simpo_gamma: SimpoGamma = 0.5,
    loss: Losses = None,
) -> None:
    """Write the data set with its marks applied, in its own layout.

    Pairs marked drop are left out, chosen and rejected of pairs marked swap are exchanged, and all others stay as they
    are. Pairs are marked on the screens (`prefscope view`). To write only the marked ones, use --where 'mark(keep) or
    mark(swap)'.
    """
    from prefscope.cli.output import only, report_unscored, write_curated_to
    from prefscope.ledger.table import load_ledger

    preferences = read_preferences(beta, simpo_beta, simpo_gamma, loss, weights=False)
    found = only(load_ledger(ledger), preferences, where)
    report_unscored(found)
    write_curated_to(found, output)
