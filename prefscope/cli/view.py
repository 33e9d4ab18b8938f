"""`prefscope view`, `prefscope demo` and `prefscope open`: the screens."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prefscope.cli import arguments, run_options
from prefscope.cli import options as opt
from prefscope.cli.panels import OUTPUT
from prefscope.cli.run_settings import run_settings
from prefscope.cli.screens import Ascii, Colours, Look, Mouse, Theme, show_screens
from prefscope.errors import DamagedLedgerError, LedgerError, NewerLedgerError, ResourceError, UsageError
from prefscope.ledger.preferences import read_preferences, wants_collisions
from prefscope.settings import PreferenceSettings


def view(
    ledgers: Annotated[
        list[Path],
        typer.Argument(
            metavar="LEDGER",
            help="Ledgers written by `prefscope score`. Others, of the same pairs, are compared with the first. Or the "
            "run folder of a training.",
            show_default=False,
        ),
    ],
    beta: opt.Beta = 0.1,
    simpo_beta: opt.SimpoBeta = 2.0,
    simpo_gamma: opt.SimpoGamma = 0.5,
    loss: opt.Losses = None,
    theme: Theme = None,
    palette: Colours = None,
    ascii_only: Ascii = False,
    mouse: Mouse = True,
) -> None:
    """Open ledgers on the screens; no model is needed."""
    preferences = read_preferences(beta, simpo_beta, simpo_gamma, loss, weights=False)
    show_screens(ledgers, preferences, Look(theme, palette, ascii_only, mouse))


def demo(theme: Theme = None, palette: Colours = None, ascii_only: Ascii = False, mouse: Mouse = True) -> None:
    """Open the bundled ledgers of a real model on the screens."""
    from prefscope.folders import demo_ledgers

    try:
        ledgers = demo_ledgers()
    except OSError as error:
        raise ResourceError(
            f"The demo cannot be copied to your data folder ({error.strerror or error})",
            where=error.filename,
            hint="Set XDG_DATA_HOME to a writable folder.",
        ) from error
    show_screens(ledgers, PreferenceSettings(), Look(theme, palette, ascii_only, mouse))


def open_(
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PATH",
            help="Ledgers, or a data set to score: a file, a folder or a quoted glob. Default: choose on the screen.",
            show_default=False,
        ),
    ] = None,
    policy: opt.Policy = None,
    ref: opt.Ref = None,
    base: opt.Base = None,
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
    beta: opt.Beta = 0.1,
    simpo_beta: opt.SimpoBeta = 2.0,
    simpo_gamma: opt.SimpoGamma = 0.5,
    loss: opt.Losses = None,
    limit: opt.Limit = None,
    sample: opt.Sample = None,
    seed: opt.Seed = 0,
    skip_bad_rows: opt.SkipBadRows = False,
    max_length: opt.MaxLength = None,
    profile: opt.TokenProfile = "trl",
    dtype: opt.ComputeDtype = "auto",
    device: run_options.Device = "auto",
    device_map: run_options.DeviceMap = None,
    tp: run_options.Tp = 1,
    batch_tokens: run_options.BatchTokens = None,
    threads: run_options.Threads = None,
    no_fused: run_options.NoFused = False,
    alternatives: opt.Alternatives = 0,
    kl: opt.Kl = False,
    cache: run_options.CacheFolder = None,
    workers: run_options.Workers = None,
    engine: run_options.EngineOfChoice = "local",
    address: run_options.Address = None,
    gpus_per_worker: run_options.GpusPerWorker = None,
    cpus_per_worker: run_options.CpusPerWorker = 1,
    theme: Theme = None,
    palette: Colours = None,
    ascii_only: Ascii = False,
    mouse: Mouse = True,
) -> None:
    """Open a ledger, or score a data set and watch.

    This is the default command: `prefscope PATH` is `prefscope open PATH`.
    """
    from prefscope.tui.model.run_form import ledger_path

    preferences = read_preferences(beta, simpo_beta, simpo_gamma, loss, weights=False)
    look = Look(theme, palette, ascii_only, mouse)
    ledgers = [Path(path) for path in paths or [] if _is_ledger(Path(path))]
    if ledgers and len(ledgers) == len(paths or []):
        show_screens(ledgers, preferences, look)
        return
    path = _only_data(paths or [], ledgers)
    ledger_path(str(output or ""))  # refuses the name before the screen is taken over
    if path is not None and not Path(path).expanduser().exists() and not {"/", "*", "?"} & {*path}:
        raise UsageError(f"No file is named {path!r}", hint="Check the path.")
    settings = run_settings(
        [path or ""],
        policy,
        ref,
        base,
        limit=limit,
        sample=sample,
        seed=seed,
        skip_bad_rows=skip_bad_rows,
        max_length=max_length,
        profile=profile,
        dtype=dtype,
        device=device,
        device_map=device_map,
        tp=tp,
        cache=cache,
        batch_tokens=batch_tokens,
        threads=threads,
        no_fused=no_fused,
        collisions=wants_collisions(preferences),
        alternatives=alternatives,
        kl=kl,  # the form adds what its losses need
        dispatch=arguments.read_dispatch(workers, engine, address, gpus_per_worker, cpus_per_worker, None, None),
    )
    show_screens([], preferences, look, settings=settings, ledger=output)


def _only_data(paths: list[str], ledgers: list[Path]) -> str | None:
    """Return the data set to score, or None without one.

    Raises:
        UsageError: There are several, or also ledgers.
    """
    if len(paths) < 2:  # noqa: PLR2004 (several)
        return paths[0] if paths else None
    if ledgers:
        raise UsageError(
            f"{ledgers[0]} is a ledger, but not all of these files are", hint="Open ledgers or one data set."
        )
    if missing := next((path for path in paths if not Path(path).exists()), None):
        raise UsageError(f"No file is named {missing!r}", hint="Check the path.")
    raise UsageError(
        "The screens score one data set at a time",
        hint="Pass its folder or a quoted glob such as 'data/*.jsonl', or run prefscope score with several files.",
    )


def _is_ledger(path: Path) -> bool:
    """Return whether a path is a ledger or a run folder; a Parquet data set is not."""
    from prefscope.ledger.file import open_parquet
    from prefscope.ledger.run_folder import is_run_folder

    if is_run_folder(path):
        return True
    if path.suffix != ".parquet" or not path.is_file():
        return False
    try:
        open_parquet(path)
    except (NewerLedgerError, DamagedLedgerError):
        return True
    except LedgerError:
        return False
    return True
