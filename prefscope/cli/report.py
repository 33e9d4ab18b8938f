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
    read_preferences,
)


def report(
    ledger: Annotated[Path, typer.Argument(help="A ledger that `prefscope score` wrote.", show_default=False)],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write R.md, R.html or the picture R.svg.", show_default=False)
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
    """Show the summary of a ledger, or of some of its pairs, with a diagnosis: no model is needed."""
    from prefscope.cli.output import only, print_report, write_report
    from prefscope.ledger.table import load_ledger

    preferences = read_preferences(beta, simpo_beta, simpo_gamma, loss, weights=weights)
    opened = only(load_ledger(ledger), preferences, where)
    if output is not None:
        write_report(opened, preferences, output, by or [], diagnosis=diagnosis)
    else:
        print_report(opened, preferences, by or [], diagnosis=diagnosis, as_json=as_json)
