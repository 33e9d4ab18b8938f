"""`prefscope view`, `prefscope demo` and `prefscope [PATH]`: the screens."""

from __future__ import annotations

import gc
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from prefscope.cli import options as opt
from prefscope.cli.config import load_keys
from prefscope.errors import DamagedLedgerError, LedgerError, NewerLedgerError, UsageError
from prefscope.settings import (
    ComputeSettings,
    DataSettings,
    ModelSettings,
    Palette,
    PreferenceSettings,
    ScoreSettings,
    TokenizationSettings,
)

Ascii = Annotated[bool, typer.Option("--ascii", help="Draw with ASCII characters alone.")]
Mouse = Annotated[bool, typer.Option("--mouse/--no-mouse", help="Without it the terminal's own selection works.")]
Theme = Annotated[
    str | None,
    typer.Option(
        envvar="PREFSCOPE_THEME",
        help="prefscope-dark, prefscope-light or one of Textual's. Default: as last time.",
        show_default=False,
    ),
]
Colours = Annotated[
    Palette | None,
    typer.Option(
        envvar="PREFSCOPE_PALETTE",
        help="Colours of what is positive and negative. Default: as last time.",
        show_default=False,
    ),
]
DEMO = ("demo.parquet", "demo-early.parquet")
"""Two steps of one training."""


@dataclass(frozen=True, slots=True)
class Look:
    """How the screens are shown."""

    theme: str | None
    palette: Palette | None
    ascii_only: bool
    mouse: bool


def view(
    ledgers: Annotated[
        list[Path],
        typer.Argument(
            metavar="LEDGER",
            help="What `prefscope score` wrote. The first is shown; further ones, of the same pairs, are compared.",
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
    """Look at ledgers on the screen: no model is needed."""
    preferences = opt.read_preferences(beta, simpo_beta, simpo_gamma, loss, weights=False)
    _show(ledgers, preferences, Look(theme, palette, ascii_only, mouse))


def demo(theme: Theme = None, palette: Colours = None, ascii_only: Ascii = False, mouse: Mouse = True) -> None:
    """Look at the bundled ledgers of a real model on the screen."""
    from prefscope.folders import sample_data

    ledgers = [sample_data() / name for name in DEMO]
    _show(ledgers, PreferenceSettings(), Look(theme, palette, ascii_only, mouse))


def open_(
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PATH]...",
            help="Ledgers, or a data set to score: a file, a folder or a quoted glob; nothing: choose there.",
            show_default=False,
        ),
    ] = None,
    policy: opt.Policy = None,
    ref: opt.Ref = None,
    base: opt.Base = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Where the ledger goes (.parquet).", show_default=False)
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
    device: opt.Device = "auto",
    device_map: opt.DeviceMap = None,
    tp: opt.Tp = 1,
    batch_tokens: opt.BatchTokens = None,
    threads: opt.Threads = None,
    cache: opt.CacheFolder = None,
    workers: opt.Workers = None,
    engine: opt.EngineOfChoice = "local",
    address: opt.Address = None,
    gpus_per_worker: opt.GpusPerWorker = None,
    cpus_per_worker: opt.CpusPerWorker = 1,
    theme: Theme = None,
    palette: Colours = None,
    ascii_only: Ascii = False,
    mouse: Mouse = True,
) -> None:
    """Open the screens: on a ledger, or to score a data set and look on while it is scored."""
    preferences = opt.read_preferences(beta, simpo_beta, simpo_gamma, loss, weights=False)
    look = Look(theme, palette, ascii_only, mouse)
    ledgers = [Path(path) for path in paths or [] if _is_ledger(Path(path))]
    if ledgers and len(ledgers) == len(paths or []):
        _show(ledgers, preferences, look)
        return
    path = _only_data(paths or [], ledgers)
    if output is not None and output.suffix != ".parquet":
        raise UsageError("The screens write a ledger", where=str(output), hint="Name a .parquet file.")
    if path is not None and not Path(path).expanduser().exists() and not {"/", "*", "?"} & {*path}:
        raise UsageError(f"There is neither a command nor a file {path!r}", hint="prefscope --help lists the commands.")
    settings = ScoreSettings(
        data=DataSettings(path or "", limit=limit, sample=sample, seed=seed, skip_bad_rows=skip_bad_rows),
        models=ModelSettings(policy or "", ref, base, dtype, device, device_map, tp=tp),
        tokenization=TokenizationSettings(max_length, profile=profile),
        compute=ComputeSettings(
            cache, batch_tokens=batch_tokens, threads=threads, collisions=opt.wants_collisions(preferences)
        ),
        dispatch=opt.read_dispatch(workers, engine, address, gpus_per_worker, cpus_per_worker, None, None),
    )
    _show([], preferences, look, settings=settings, ledger=output)


def _only_data(paths: list[str], ledgers: list[Path]) -> str | None:
    """Return the data set to score, None for none.

    Raises:
        UsageError: There are several, or ledgers beside it.
    """
    if len(paths) < 2:  # noqa: PLR2004 (several)
        return paths[0] if paths else None
    if ledgers:
        raise UsageError(f"{ledgers[0]} is a ledger, and others are not", hint="Open ledgers or a data set.")
    if missing := next((path for path in paths if not Path(path).exists()), None):
        raise UsageError(f"There is no file {missing!r}", hint="Check the path.")
    raise UsageError(
        "The screens take one data set",
        hint="Name its folder or a quoted glob such as 'data/*.jsonl', or run prefscope score with several files.",
    )


def _is_ledger(path: Path) -> bool:
    """Return whether a file is a ledger; a Parquet file of rows is none."""
    from prefscope.ledger.file import open_parquet

    if path.suffix != ".parquet" or not path.is_file():
        return False
    try:
        open_parquet(path)
    except (NewerLedgerError, DamagedLedgerError):
        return True
    except LedgerError:
        return False
    return True


def _show(
    paths: list[Path],
    preferences: PreferenceSettings,
    look: Look,
    *,
    settings: ScoreSettings | None = None,
    ledger: Path | None = None,
) -> None:
    """Run the screens on ledgers, or on the load screen with what it begins with."""
    if not all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)):  # Textual paints on stderr
        instead = f"report {paths[0]}" if paths else "score DATA"
        raise UsageError("The screens need a terminal", hint=f"For a pipe or a file: prefscope {instead}.")
    from prefscope.ledger.pairing import load_runs
    from prefscope.report.sections import NO_CHECKSUM
    from prefscope.report.visible import visible

    gc.disable()  # it would find nothing while modules load and ledgers open; the screens turn it on
    from prefscope.tui.app import PrefscopeApp
    from prefscope.tui.keymap import checked_keys
    from prefscope.tui.model.session import Session

    utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    ledgers = load_runs(paths)
    for one in ledgers:
        if not one.has_checksums:
            sys.stderr.write(f"{visible(one.path.name)}: {NO_CHECKSUM}\n")
    for one in ledgers if preferences.explicit else ():
        one.usable_losses(preferences)  # what a ledger lacks is said before the screen is taken
    session = Session(ledgers[0], preferences, ledgers[1:]) if ledgers else None
    app = PrefscopeApp(
        session,
        settings=settings,
        ledger=ledger,
        preferences=preferences,
        ascii_only=look.ascii_only or not utf8,
        theme=look.theme,
        palette=look.palette,
        keys=checked_keys(load_keys()),
    )
    app.run(mouse=look.mouse)
