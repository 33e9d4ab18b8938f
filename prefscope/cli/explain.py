"""`prefscope explain`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from prefscope.cli.options import AsJson, Beta, SimpoBeta
from prefscope.cli.panels import DATA
from prefscope.errors import UsageError
from prefscope.ledger.preferences import read_preferences


def explain(
    ledger: Annotated[
        Path, typer.Argument(metavar="LEDGER", help="A ledger written by `prefscope score`.", show_default=False)
    ],
    row: Annotated[
        int,
        typer.Argument(
            metavar="ROW", help="The pair's row number, as on the screens and in tables.", show_default=False
        ),
    ],
    against: Annotated[
        Path | None,
        typer.Option(
            "--against",
            metavar="LEDGER",
            help="A ledger of the same pairs: run B, for instance an earlier checkpoint.",
            show_default=False,
            rich_help_panel=DATA,
        ),
    ] = None,
    beta: Beta = 0.1,
    simpo_beta: SimpoBeta = 2.0,
    as_json: AsJson = False,
) -> None:
    """Explain the margin of one pair.

    Shows which sentences and regions carry it, what cancels, how much is due to length, what run B has, whether it may
    be rounding, and the pairs with the most similar prompts. All numbers are in units of the margin and add up to it.
    After `score --alternatives`, also shows what the models would have said at the tokens with the largest effects.
    """
    from prefscope.cli.output import print_explained
    from prefscope.ledger.pairing import PairedView, Pairing, load_runs, run_names
    from prefscope.ledger.view import View
    from prefscope.report.explained import choices_of, explain_pair, position_of, similar_pairs
    from prefscope.report.nearest import PromptIndex

    preferences = read_preferences(beta, simpo_beta, 0.5, None, weights=False)
    ledgers = load_runs([ledger] if against is None else [ledger, against])
    position = position_of(ledgers[0], row)
    if position is None:
        raise UsageError(f"There is no row {row}", where=str(ledger), hint=_rows(ledgers[0].stored["row"].tolist()))
    view = (
        View(ledgers[0], preferences)
        if against is None
        else PairedView(ledgers[0], preferences, None, ledgers[1], Pairing(*ledgers))
    )
    pair = explain_pair(view, position, run_names(ledgers)[-1])
    moved = () if pair.other is None else pair.other.moved
    similar, tokens = similar_pairs(view, PromptIndex(ledgers[0]), position), choices_of(view, position, moved)
    print_explained(replace(pair, similar=similar, tokens=tokens), as_json=as_json)


def _rows(rows: list[int]) -> str:
    """Return which rows a ledger has, as a hint."""
    if not rows:
        return "This ledger has no pairs."
    left_out = max(rows) - min(rows) + 1 - len(rows)
    missing = f", without {left_out:,} that are not in the ledger" if left_out else ""
    return f"Its rows are {min(rows):,} to {max(rows):,}{missing}."
