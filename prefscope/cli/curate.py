"""`prefscope curate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prefscope.cli.options import Beta, Losses, SimpoBeta, SimpoGamma, Where, read_preferences


def curate(
    ledger: Annotated[Path, typer.Argument(help="A ledger that `prefscope score` wrote.", show_default=False)],
    output: Annotated[
        str,
        typer.Option(
            "-o",
            "--output",
            help="Where to: .jsonl, .json, .csv, .tsv (each also .gz), .parquet, or - for JSON lines on stdout.",
            show_default=False,
        ),
    ],
    where: Where = None,
    beta: Beta = 0.1,
    simpo_beta: SimpoBeta = 2.0,
    simpo_gamma: SimpoGamma = 0.5,
    loss: Losses = None,
) -> None:
    """Write the data set as its pairs are marked, in its own layout: dropped ones left out, swapped ones exchanged.

    Marks are made on the screen (`prefscope view`). Pairs without a mark stay as they are; for those alone that are
    marked keep or swap: --where 'mark(keep) or mark(swap)'.
    """
    from prefscope.cli.output import only, write_curated_to
    from prefscope.ledger.table import load_ledger

    preferences = read_preferences(beta, simpo_beta, simpo_gamma, loss, weights=False)
    write_curated_to(only(load_ledger(ledger), preferences, where), output)
