"""`prefscope compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prefscope.cli.options import AsJson, Beta, Losses, SimpoBeta, SimpoGamma, Where, read_preferences
from prefscope.errors import UsageError


def compare(
    ledgers: Annotated[
        list[Path],
        typer.Argument(
            metavar="A B…",
            help="Ledgers of the same pairs; three and more in the order of training.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="Write every shared pair's margins and course: .csv, .tsv, .jsonl (each also .gz), .parquet.",
            show_default=False,
        ),
    ] = None,
    where: Where = None,
    beta: Beta = 0.1,
    simpo_beta: SimpoBeta = 2.0,
    simpo_gamma: SimpoGamma = 0.5,
    loss: Losses = None,
    as_json: AsJson = False,
) -> None:
    """Compare runs on the same pairs, pair by pair: what differs, by how much, and which pairs changed sides.

    Of three and more, checkpoints of one training, also what became of each pair: learnt, forgotten, never learnt.
    The first is A and the last is B.
    """
    from prefscope.cli.output import print_compared
    from prefscope.ledger.pairing import load_runs
    from prefscope.report.checkpoints import write_followed
    from prefscope.report.compared import compare_runs

    if len(ledgers) < 2:  # noqa: PLR2004 (it takes two)
        raise UsageError("There is nothing to compare it with", hint="Give two ledgers of the same pairs, or more.")
    preferences = read_preferences(beta, simpo_beta, simpo_gamma, loss, weights=False)
    compared = compare_runs(load_runs(ledgers), preferences, where)
    if output is not None:
        if compared.followed is None:
            raise UsageError("A ledger here has no reference, so there are no margins to write", where=str(output))
        write_followed(compared.followed, output)
    print_compared(compared, as_json=as_json)
