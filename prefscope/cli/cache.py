"""`prefscope cache`."""

from __future__ import annotations

from typing import Annotated

import typer


def cache(
    folder: Annotated[
        str | None, typer.Option("--cache", envvar="PREFSCOPE_CACHE", help="Folder of the store.")
    ] = None,
    clear: Annotated[
        bool, typer.Option("--clear", help="Delete every stored log-prob, unfinished plan, and store set aside.")
    ] = False,
) -> None:
    """Show the log-prob store's place and size, or clear it."""
    from prefscope.folders import store_path
    from prefscope.scoring.store import LogpStore
    from prefscope.scoring.store_file import set_aside_files

    path = store_path(folder)
    if not path.is_file():
        typer.echo(f"{path}: not there yet")
        return
    with LogpStore(path) as store:
        if store.set_aside:
            typer.echo(store.set_aside, err=True)
        if clear:
            store.clear()
        sequences, plans = store.counts()
    aside = set_aside_files(path)
    megabytes = sum(part.stat().st_size for part in {*path.parent.glob(f"{path.name}*")} - {*aside}) / 1e6
    typer.echo(f"{path}: {sequences:,} sequences, {megabytes:,.1f} MB, {plans} unfinished runs")
    for file in aside:
        typer.echo(f"set aside: {file}, {file.stat().st_size / 1e6:,.1f} MB")
