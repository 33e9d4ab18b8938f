"""`prefscope score`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from prefscope.cli import arguments, run_options
from prefscope.cli import options as opt
from prefscope.cli.run_settings import run_settings
from prefscope.errors import UsageError
from prefscope.ledger.preferences import check_reference_free, read_preferences, wants_collisions, wants_divergences
from prefscope.settings import (
    NOISE_PAIRS,
    PreferenceSettings,
    ScoreSettings,
)

if TYPE_CHECKING:
    from prefscope.cli.progress import RunProgress


def score(
    data: opt.Data,
    policy: opt.Policies = None,
    ref: opt.Ref = None,
    base: opt.Base = None,
    output: opt.Outputs = None,
    beta: opt.Beta = 0.1,
    simpo_beta: opt.SimpoBeta = 2.0,
    simpo_gamma: opt.SimpoGamma = 0.5,
    loss: opt.Losses = None,
    weights: opt.Weights = False,
    texts: opt.Texts = False,
    csv_safe: opt.CsvSafe = False,
    as_json: opt.AsJson = False,
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
    dtype: opt.ComputeDtype = "auto",
    device: run_options.Device = "auto",
    device_map: run_options.DeviceMap = None,
    tp: run_options.Tp = 1,
    attn: opt.Attn = "auto",
    batch_tokens: run_options.BatchTokens = None,
    threads: run_options.Threads = None,
    no_fused: run_options.NoFused = False,
    cache: run_options.CacheFolder = None,
    no_cache: run_options.NoCache = False,
    no_tokens: opt.NoTokens = False,
    alternatives: opt.Alternatives = 0,
    kl: opt.Kl = False,
    noise_floor: run_options.NoiseFloor = False,
    allow_pickle: opt.AllowPickle = False,
    trust_remote_code: opt.TrustRemoteCode = False,
    workers: run_options.Workers = None,
    engine: run_options.EngineOfChoice = "local",
    address: run_options.Address = None,
    gpus_per_worker: run_options.GpusPerWorker = None,
    cpus_per_worker: run_options.CpusPerWorker = 1,
    parts: run_options.Parts = None,
    slice_: run_options.Slice = None,
) -> None:
    """Score a preference data set, pair by pair.

    Computes the log-probs, implicit rewards, margin and losses of every pair, prints a summary and keeps a ledger.
    Without --policy and --ref, the bundled tiny models are used. With several policies (checkpoints in the order of
    training), writes a ledger for each, computes the reference once, and compares them.
    """
    from prefscope.cli.output import check_outputs

    outputs, policies = output or [], policy or []
    if len(policies) < 2:  # noqa: PLR2004 (several policies write into a folder)
        check_outputs(outputs, *data)
    preferences = read_preferences(beta, simpo_beta, simpo_gamma, loss, weights=weights)
    if ref == "none":
        if noise_floor:
            raise UsageError(
                "--noise-floor needs margins, but there are none with --ref none", hint="Pass a reference with --ref."
            )
        check_reference_free(preferences)
    settings = run_settings(
        data,
        policies[0] if policies else None,
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
        noise_pairs=NOISE_PAIRS if noise_floor else 0,
        collisions=wants_collisions(preferences),
        alternatives=alternatives,
        kl=kl or wants_divergences(preferences),
        dispatch=arguments.read_dispatch(workers, engine, address, gpus_per_worker, cpus_per_worker, parts, slice_),
    )
    _check_parts(settings, policies, outputs)
    if len(policies) > 1:
        from prefscope.cli.score_several import score_several

        score_several(settings, policies, outputs, preferences, as_json=as_json)
        return
    if settings.dispatch.slice_number is not None:
        from prefscope.cli.score_slice import score_slice

        score_slice(settings, as_json=as_json)
        return
    path, progress = _run(settings, outputs)
    seconds = progress.scoring_seconds
    _show_results(path, seconds, preferences, outputs, as_json=as_json, texts=texts, csv_safe=csv_safe)
    progress.conclude()


def _check_parts(settings: ScoreSettings, policies: list[str], outputs: list[str]) -> None:
    """Check that no option needs more than a folder of parts, before anything is computed.

    Raises:
        UsageError: An option cannot be combined with --parts or --slice.
    """
    if settings.dispatch.parts is None:
        return
    if settings.compute.noise_pairs:
        raise UsageError("--noise-floor cannot be used with --parts", hint="Measure it with --sample, without --parts.")
    if len(policies) > 1:
        raise UsageError("--parts takes one policy at a time", hint="Then score the next into the same folder.")
    if settings.dispatch.slice_number is not None and outputs:
        raise UsageError("A slice writes neither a ledger nor tables", hint="Use -o with `prefscope parts merge`.")


def _run(settings: ScoreSettings, outputs: list[str]) -> tuple[Path, RunProgress]:
    """Score with progress on stderr, and return the ledger's path and the progress."""
    from prefscope.cli.progress import RunProgress
    from prefscope.folders import unnamed_ledger
    from prefscope.pipeline import run

    named = [name for name in outputs if name.endswith(".parquet")]
    if len(named) > 1:
        raise UsageError(
            f"There are two ledgers to write: {', '.join(named)}", hint="Name one; `prefscope export` writes copies."
        )

    def place(run_name: str) -> Path:
        return Path(named[0]) if named else unnamed_ledger(settings.data.source, run_name)

    with RunProgress() as progress:
        return run.score(settings, place, progress), progress


def _show_results(
    path: Path,
    seconds: float,
    preferences: PreferenceSettings,
    outputs: list[str],
    *,
    as_json: bool,
    texts: bool,
    csv_safe: bool,
) -> None:
    """Write the tables, then print the summary and where the ledger is."""
    from prefscope.cli.output import STDOUT, print_summary, write_tables
    from prefscope.ledger.table import load_ledger

    ledger = load_ledger(path)
    tables = [name for name in outputs if name != str(path)]
    write_tables(ledger, preferences, tables, texts=texts, csv_safe=csv_safe)
    stream = sys.stderr if STDOUT in outputs else None
    print_summary(ledger, preferences, as_json=as_json, stream=stream, scoring_seconds=seconds)
    typer.echo(f"\nledger: {path}\nopen it: prefscope view {shlex.quote(str(path))}", err=True)
