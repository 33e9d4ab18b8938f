"""`prefscope report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prefscope.cli.options import (
    AsJson,
    Beta,
    By,
    Losses,
    SimpoBeta,
    SimpoGamma,
    Weights,
    Where,
    WithDiagnosis,
)
from prefscope.cli.panels import OUTPUT
from prefscope.ledger.preferences import read_preferences


def report(
    ledger: Annotated[
        Path, typer.Argument(metavar="LEDGER", help="A ledger written by `prefscope score`.", show_default=False)
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="Write a report: .md, .html, or .svg for a picture of the summary.",
            show_default=False,
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    where: Where = None,
    beta: Beta = 0.1,
    simpo_beta: SimpoBeta = 2.0,
    simpo_gamma: SimpoGamma = 0.5,
    loss: Losses = None,
    weights: Weights = False,
    by: By = None,
    diagnosis: WithDiagnosis = True,
    as_json: AsJson = False,
) -> None:
    """Print or write a report: summary and diagnosis of a ledger.

    Rewards, margins and losses are computed for the given beta and losses; no model is needed.
    """
    from prefscope.cli.output import only, print_report, write_report
    from prefscope.ledger.table import load_ledger

    preferences = read_preferences(beta, simpo_beta, simpo_gamma, loss, weights=weights)
    opened = only(load_ledger(ledger), preferences, where)
    if output is not None:
        write_report(opened, preferences, output, by or [], diagnosis=diagnosis)
    else:
        print_report(opened, preferences, by or [], diagnosis=diagnosis, as_json=as_json)
