"""`prefscope watch`."""

from __future__ import annotations

import hashlib
import json
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from prefscope.cli import options as opt
from prefscope.cli import run_options
from prefscope.cli.panels import DATA, MODELS, OUTPUT
from prefscope.cli.run_settings import run_settings
from prefscope.cli.screens import Ascii, Colours, Look, Mouse, Theme, is_terminal, show_screens
from prefscope.errors import ModelError, UsageError
from prefscope.ledger.preferences import check_reference_free, read_preferences, wants_collisions, wants_divergences
from prefscope.report.visible import visible
from prefscope.settings import DispatchSettings, PreferenceSettings
from prefscope.training.settings import WatchSettings

Checkpoints = Annotated[
    Path,
    typer.Option(
        "--checkpoints",
        metavar="FOLDER",
        help="Folder that the trainer writes its checkpoints to; it may appear later.",
        show_default=False,
        rich_help_panel=MODELS,
    ),
]
WatchedRef = Annotated[
    str | None,
    typer.Option(
        "--ref",
        metavar="MODEL",
        envvar="PREFSCOPE_REF",
        help="Checkpoint folder, Hugging Face id, adapter folder or GGUF file, or `base` (the adapters' base model), "
        "`adapter-off` (each policy with its adapter disabled), or `none`.",
        show_default=False,
        rich_help_panel=MODELS,
    ),
]
WatchedSample = Annotated[
    int,
    typer.Option("--sample", min=1, metavar="N", help="Use N pairs drawn at random.", rich_help_panel=DATA),
]
Every = Annotated[
    int,
    typer.Option(min=1, metavar="N", help="Score only steps that are multiples of N.", rich_help_panel=MODELS),
]
Once = Annotated[
    bool,
    typer.Option(
        "--once",
        help="Score the checkpoints that are there, with --every also the last, and end.",
        rich_help_panel=MODELS,
    ),
]
Runs = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--output",
        metavar="FOLDER",
        help="Run folder: a ledger for each step, and an index. Default: in your data folder.",
        show_default=False,
        rich_help_panel=OUTPUT,
    ),
]
By = Annotated[
    str,
    typer.Option(
        "--by",
        metavar="COLUMN",
        help="Column to tell pairs apart by in alarms, such as --by split: held-out accuracy past its peak.",
        show_default=False,
        rich_help_panel=OUTPUT,
    ),
]
AsLines = Annotated[
    bool, typer.Option("--lines", help="Print a line for each checkpoint in a terminal, too.", rich_help_panel=OUTPUT)
]
AsObjects = Annotated[
    bool, typer.Option("--json", help="Print one JSON object a line for each checkpoint.", rich_help_panel=OUTPUT)
]


def watch(
    data: opt.Data,
    checkpoints: Checkpoints,
    ref: WatchedRef = None,
    base: opt.Base = None,
    output: Runs = None,
    every: Every = 1,
    once: Once = False,
    beta: opt.Beta = 0.1,
    simpo_beta: opt.SimpoBeta = 2.0,
    simpo_gamma: opt.SimpoGamma = 0.5,
    loss: opt.Losses = None,
    by: By = "",
    lines: AsLines = False,
    as_json: AsObjects = False,
    sample: WatchedSample = 500,
    seed: opt.Seed = 0,
    limit: opt.Limit = None,
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
    dtype: opt.ComputeDtype = "auto",
    device: run_options.Device = "auto",
    device_map: run_options.DeviceMap = None,
    tp: run_options.Tp = 1,
    attn: opt.Attn = "auto",
    batch_tokens: run_options.BatchTokens = None,
    threads: run_options.Threads = None,
    no_fused: run_options.NoFused = False,
    workers: run_options.Workers = None,
    cache: run_options.CacheFolder = None,
    no_cache: run_options.NoCache = False,
    no_tokens: opt.NoTokens = False,
    alternatives: opt.Alternatives = 0,
    kl: opt.Kl = False,
    allow_pickle: opt.AllowPickle = False,
    trust_remote_code: opt.TrustRemoteCode = False,
    theme: Theme = None,
    palette: Colours = None,
    ascii_only: Ascii = False,
    mouse: Mouse = True,
) -> None:
    """Score the checkpoints of a training as they appear.

    Opens the screens in a terminal; piped or with --once, prints a line for each checkpoint. Its ledger is kept in a
    run folder. All are scored on the same pairs, and the reference is computed once. Start it before, during or after
    the training, in another terminal; the same command started again goes on. Without --ref, the reference is the base
    of an adapter or the model that the trainer's files name.
    """
    preferences = read_preferences(beta, simpo_beta, simpo_gamma, loss, weights=False)
    if ref == "none":
        check_reference_free(preferences)
    score = run_settings(
        data,
        None,
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
        dtype=dtype,
        device=device,
        device_map=device_map,
        tp=tp,
        attn=attn,
        allow_pickle=allow_pickle,
        trust_remote_code=trust_remote_code,
        cache=cache,
        no_cache=no_cache,
        no_tokens=no_tokens,
        batch_tokens=batch_tokens,
        threads=threads,
        no_fused=no_fused,
        collisions=wants_collisions(preferences),
        alternatives=alternatives,
        kl=kl or wants_divergences(preferences),
        dispatch=DispatchSettings(workers),
    )
    settings = WatchSettings(score, str(checkpoints), "", every=every, once=once)
    settings = replace(settings, folder=str(_run_folder(output, settings)))

    if is_terminal() and not (lines or as_json or once):
        _show(settings, preferences, Look(theme, palette, ascii_only, mouse))
        return
    from prefscope.cli.watch_lines import print_watched

    if not print_watched(settings, preferences, by, as_json=as_json):
        raise ModelError(
            "No checkpoint was scored",
            where=str(checkpoints),
            hint="Checkpoints are folders named checkpoint-500, step_500, epoch_1 or global_step_500.",
        )


def _show(settings: WatchSettings, preferences: PreferenceSettings, look: Look) -> None:
    """Watch in another process, and show the run folder on the screens until the user quits.

    Raises:
        PrefscopeError: The run folder cannot be opened.
    """
    from prefscope.ledger.run_folder import RunFolder
    from prefscope.training.watch_process import start_watch
    from prefscope.tui.model.watcher import Watcher

    folder = RunFolder(Path(settings.folder).expanduser())
    scored = [folder.path] if folder.ledgers() else []
    watcher = Watcher(Path(settings.checkpoints).expanduser(), start_watch(settings))
    try:
        show_screens(scored, preferences, look, watching=(folder, watcher))
        failure = watcher.failure
    finally:
        watcher.stop()
    if failure is not None and not folder.ledgers():
        raise ModelError(f"The watch has ended: {failure}")
    count, opened = len(folder.ledgers()), shlex.quote(visible(settings.folder))
    scored_now = "1 checkpoint is scored" if count == 1 else f"{count:,} checkpoints are scored"
    again = f"; look at the training again: prefscope view {opened}" if count else ""
    sys.stderr.write(f"{scored_now}{again}\nThe same command goes on watching.\n")


def _run_folder(asked: Path | None, settings: WatchSettings) -> Path:
    """Return the run folder that -o names, or one in the user's data folder for these checkpoints and settings.

    Raises:
        UsageError: It is named as a file.
    """
    from prefscope.folders import unnamed_run_folder

    if asked is None:
        value, output = settings.score.to_json(), Path(settings.checkpoints).expanduser().resolve()
        models = {name: value["models"][name] for name in ("ref", "base", "dtype")}
        parts = [str(output), value["data"], value["tokenization"], models]
        return unnamed_run_folder(output.name, hashlib.blake2b(json.dumps(parts).encode(), digest_size=8).hexdigest())
    if asked.suffix in (".parquet", ".csv", ".tsv", ".jsonl") or str(asked) == "-":
        raise UsageError(
            f"A watch writes several ledgers, but {str(asked)!r} is not a folder",
            hint="Pass a folder with -o; `prefscope export` writes tables.",
        )
    return asked
