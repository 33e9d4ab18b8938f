"""`prefscope cache`."""

from __future__ import annotations

from typing import Annotated

import typer

from prefscope.cli.run_options import CacheFolder


def cache_(
    cache: CacheFolder = None,
    clear: Annotated[
        bool,
        typer.Option("--clear", help="Delete all stored log-probs, plans of unfinished runs, and damaged stores."),
    ] = False,
) -> None:
    """Show where the log-prob store is and how large, or clear it."""
    from prefscope.folders import store_path
    from prefscope.scoring.store import LogpStore
    from prefscope.scoring.store_file import set_aside_files

    path = store_path(cache)
    if not path.is_file():
        typer.echo(f"{path}: does not exist yet")
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
