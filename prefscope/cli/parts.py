"""`prefscope parts`: what many processes fill together, planned, looked at and made a ledger."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from prefscope.cli import options as opt
from prefscope.cli.template_file import read_template
from prefscope.settings import DataSettings, ModelSettings, ScoreSettings, TokenizationSettings

EXIT_FOUND = 1
Folder = Annotated[
    str, typer.Argument(metavar="DIR|URL", help="Where the parts are, as of `score --parts`.", show_default=False)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]

parts = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@parts.callback(invoke_without_command=True)
def overview(context: typer.Context) -> None:
    """Score with many processes: plan, look at and merge what `score --parts` fills."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@parts.command()
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
    """Cut a data set into shards for all slices.

    It is read and tokenized once; no weights are loaded. The slices are `score DATA … --parts FOLDER --slice I/N`, with
    the same options.
    """
    from prefscope.cli.progress import RunProgress
    from prefscope.pipeline.parts.urls import shown_place
    from prefscope.pipeline.run import plan_parts

    opt.refuse_reference_alone(policy, ref, base)
    source, more = opt.several(data)
    settings = ScoreSettings(
        data=DataSettings(
            source,
            more=more,
            dialect=format_,
            mapping=opt.read_mapping(mapping),
            split=split,
            config=config,
            revision=revision,
            limit=limit,
            sample=sample,
            seed=seed,
            skip_bad_rows=skip_bad_rows,
        ),
        models=ModelSettings(policy or "", ref, base, trust_remote_code=trust_remote_code),
        tokenization=TokenizationSettings(max_length, truncation, read_template(chat_template), profile, template_date),
    )
    with RunProgress() as progress:
        plan_parts(folder, settings, progress)
    quoted = shlex.quote(shown_place(folder))
    typer.echo(f"score it: prefscope score DATA … --parts {quoted} --slice 0/N, 1/N, … (any N)", err=True)


@parts.command()
def status(folder: Folder, as_json: AsJson = False) -> None:
    """Tell how far a folder of parts is."""
    from prefscope.cli.output import print_folder_status
    from prefscope.pipeline.parts.folder import PartsFolder
    from prefscope.pipeline.parts.merge import status_of
    from prefscope.pipeline.parts.urls import place_of

    place = place_of(folder)
    print_folder_status(place.shown(), status_of(PartsFolder(place)).to_json(), as_json=as_json)


@parts.command()
def verify(
    folder: Folder,
    delete: Annotated[
        bool, typer.Option("--delete", help="Delete what is damaged, so that it is scored again.")
    ] = False,
) -> None:
    """Name the parts that are damaged.

    All are read: those that are cut, changed or of another plan are named. Exits with 1 if there are any and they stay.
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
        typer.echo("All parts are sound.")
    elif delete:
        typer.echo("Run their slices again: what is there is not scored twice.", err=True)
    else:
        typer.echo("With --delete they go, and their slices score them again.", err=True)
        raise typer.Exit(EXIT_FOUND)


@parts.command()
def merge(
    folder: Folder,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="x.parquet: the ledger.", show_default=False)
    ] = None,
    run: Annotated[
        str | None,
        typer.Option(help="Which run, where the folder has several: `status` names them.", show_default=False),
    ] = None,
) -> None:
    """Make the ledger of a complete folder.

    It takes neither models nor a GPU.
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
