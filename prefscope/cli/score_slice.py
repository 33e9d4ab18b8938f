"""`prefscope score --slice`: score some of the shards into a folder of parts."""

from __future__ import annotations

import shlex
import sys

import typer

from prefscope.settings import ScoreSettings


def score_slice(settings: ScoreSettings, *, as_json: bool) -> None:
    """Score a slice with progress on stderr, then print the status of the folder."""
    from prefscope.cli.output import print_folder_status
    from prefscope.cli.progress import RunProgress
    from prefscope.pipeline import run
    from prefscope.pipeline.parts.folder import PartsFolder
    from prefscope.pipeline.parts.merge import status_of
    from prefscope.pipeline.parts.urls import place_of
    from prefscope.report.terminal import print_json

    parts = str(settings.dispatch.parts)
    with RunProgress() as progress:
        seconds = run.score_slice(settings, progress)
    place = place_of(parts)
    status = status_of(PartsFolder(place)).to_json()
    if as_json:
        print_json(status | {"timing": {"scoring_seconds": seconds}}, sys.stdout)
        return
    print_folder_status(place.shown(), status, as_json=False)
    if any(run["missing"] == 0 for run in status["runs"]):
        typer.echo(f"write the ledger: prefscope parts merge {shlex.quote(place.shown())} -o ledger.parquet", err=True)
