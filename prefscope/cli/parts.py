"""`prefscope parts`: plan, check and merge a folder of parts that several processes fill."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from prefscope.cli import options as opt
from prefscope.cli.panels import OUTPUT, PanelCommand
from prefscope.cli.run_settings import run_settings

EXIT_FOUND = 1
Folder = Annotated[
    str,
    typer.Argument(metavar="FOLDER", help="Folder or URL of the parts, as in `score --parts`.", show_default=False),
]

parts = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@parts.callback(invoke_without_command=True)
def overview(context: typer.Context) -> None:
    """Plan, check and merge what `score --parts` writes."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@parts.command(cls=PanelCommand)
def plan(
    folder: Folder,
    data: opt.Data,
    policy: opt.Policy = None,
    ref: opt.Ref = None,
    base: opt.Base = None,
    limit: opt.Limit = None,
    sample: opt.Sample = None,
    seed: opt.Seed = 0,
    format_: opt.Format = "auto",
    mapping: opt.ColumnMap = None,
    split: opt.Split = None,
    config: opt.Config = None,
    revision: opt.Revision = None,
    skip_bad_rows: opt.SkipBadRows = False,
    max_length: opt.MaxLength = None,
    truncation: opt.TruncationSide = "keep_start",
    profile: opt.TokenProfile = "trl",
    chat_template: opt.ChatTemplate = None,
    template_date: opt.TemplateDate = None,
    trust_remote_code: opt.TrustRemoteCode = False,
) -> None:
    """Read and tokenize a data set once, and divide it into shards.

    No weights are loaded. Then run `prefscope score DATA … --parts FOLDER --slice I/N` with the same options for every
    slice.
    """
    from prefscope.cli.progress import RunProgress
    from prefscope.pipeline.parts.urls import shown_place
    from prefscope.pipeline.run import plan_parts

    settings = run_settings(
        data,
        policy,
        ref,
        base,
        limit=limit,
        sample=sample,
        seed=seed,
        format_=format_,
        mapping=mapping,
        split=split,
        config=config,
        revision=revision,
        skip_bad_rows=skip_bad_rows,
        max_length=max_length,
        truncation=truncation,
        profile=profile,
        chat_template=chat_template,
        template_date=template_date,
        trust_remote_code=trust_remote_code,
    )
    with RunProgress() as progress:
        plan_parts(folder, settings, progress)
    quoted = shlex.quote(shown_place(folder))
    typer.echo(
        f"score it: prefscope score DATA … --parts {quoted} --slice I/N, for I from 0 to N − 1 (any N)", err=True
    )


@parts.command(cls=PanelCommand)
def status(folder: Folder, as_json: opt.AsJson = False) -> None:
    """Show the progress of a folder of parts."""
    from prefscope.cli.output import print_folder_status
    from prefscope.pipeline.parts.folder import PartsFolder
    from prefscope.pipeline.parts.merge import status_of
    from prefscope.pipeline.parts.urls import place_of

    place = place_of(folder)
    print_folder_status(place.shown(), status_of(PartsFolder(place)).to_json(), as_json=as_json)


@parts.command(cls=PanelCommand)
def verify(
    folder: Folder,
    delete: Annotated[
        bool, typer.Option("--delete", help="Delete the damaged parts, so that they are scored again.")
    ] = False,
) -> None:
    """List damaged parts.

    Reads every part, and lists those that are truncated, changed or from another plan. Exits with 1 if there are any,
    unless --delete removes them.
    """
    from prefscope.cli.progress import RunProgress
    from prefscope.pipeline.parts.folder import PartsFolder
    from prefscope.pipeline.parts.merge import damaged_parts
    from prefscope.pipeline.parts.urls import place_of
    from prefscope.report.visible import visible

    place = place_of(folder)
    with RunProgress() as progress:
        found = []
        for path in damaged_parts(PartsFolder(place), progress):
            found.append(path)
            if delete:
                place.delete(path)
    for path in found:
        typer.echo(f"{'deleted' if delete else 'damaged'}: {visible(place.shown(path))}")
    if not found:
        typer.echo("All parts are intact.")
    elif delete:
        typer.echo("Run their slices again; intact parts are not scored again.", err=True)
    else:
        typer.echo("Use --delete to remove them; their slices will score them again on the next run.", err=True)
        raise typer.Exit(EXIT_FOUND)


@parts.command(cls=PanelCommand)
def merge(
    folder: Folder,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="Ledger to write (.parquet).",
            show_default=False,
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    run: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Run to merge, if the folder has several; `status` lists them.", show_default=False
        ),
    ] = None,
) -> None:
    """Merge the parts of a complete folder into a ledger.

    Neither models nor a GPU are needed.
    """
    from prefscope.cli.output import check_ledger
    from prefscope.cli.progress import RunProgress
    from prefscope.folders import unnamed_ledger
    from prefscope.pipeline.parts.folder import PartsFolder
    from prefscope.pipeline.parts.merge import merge as merge_parts
    from prefscope.pipeline.parts.urls import place_of

    if output is not None:
        check_ledger(output)

    def place(source: str, run_name: str) -> Path:
        return output if output is not None else unnamed_ledger(source, run_name)

    with RunProgress() as progress:
        path = merge_parts(PartsFolder(place_of(folder)), run, place, progress)
    quoted = shlex.quote(str(path))
    typer.echo(f"ledger: {path}\nsummary: prefscope report {quoted}\nopen it: prefscope view {quoted}", err=True)
    progress.conclude()
