"""`prefscope doctor`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from prefscope.cli import options as opt
from prefscope.cli import run_options
from prefscope.cli.panels import DATA
from prefscope.cli.run_settings import run_settings

EXIT_FOUND = 1


def doctor(
    data: opt.Data,
    policy: opt.Policy = None,
    ref: opt.Ref = None,
    base: opt.Base = None,
    pairs: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Check N pairs drawn at random. Default: 32, or down to 8 on a slow CPU.",
            show_default=False,
            rich_help_panel=DATA,
        ),
    ] = None,
    beta: opt.Beta = 0.1,
    as_json: opt.AsJson = False,
    seed: opt.Seed = 0,
    format_: opt.Format = "auto",
    mapping: opt.ColumnMap = None,
    split: opt.Split = None,
    config: opt.Config = None,
    revision: opt.Revision = None,
    max_length: opt.MaxLength = None,
    truncation: opt.TruncationSide = "keep_start",
    profile: opt.TokenProfile = "trl",
    chat_template: opt.ChatTemplate = None,
    template_date: opt.TemplateDate = None,
    dtype: opt.ComputeDtype = "auto",
    device: run_options.Device = "auto",
    device_map: run_options.DeviceMap = None,
    attn: opt.Attn = "auto",
    batch_tokens: run_options.BatchTokens = None,
    threads: run_options.Threads = None,
    no_fused: run_options.NoFused = False,
    cache: run_options.CacheFolder = None,
    no_cache: run_options.NoCache = False,
    allow_pickle: opt.AllowPickle = False,
    trust_remote_code: opt.TrustRemoteCode = False,
) -> None:
    """Check that policy, reference and data fit together.

    Scores a few pairs and looks for a wrong reference, differing tokenizers and chat templates, BOS and EOS errors,
    content that is not rendered, truncated responses, a dtype that is too coarse, and a saturated loss, and says what
    to do about each. Exits with 1 if a check fails.
    """
    from rich.console import Console

    from prefscope.cli.output import PIPE_WIDTH
    from prefscope.cli.progress import RunProgress
    from prefscope.pipeline.doctor.examination import examine
    from prefscope.report.terminal import print_json, print_verdicts

    settings = run_settings(
        data,
        policy,
        ref,
        base,
        seed=seed,
        format_=format_,
        mapping=mapping,
        split=split,
        config=config,
        revision=revision,
        max_length=max_length,
        truncation=truncation,
        profile=profile,
        chat_template=chat_template,
        template_date=template_date,
        dtype=dtype,
        device=device,
        device_map=device_map,
        attn=attn,
        allow_pickle=allow_pickle,
        trust_remote_code=trust_remote_code,
        cache=cache,
        no_cache=no_cache,
        batch_tokens=batch_tokens,
        threads=threads,
        no_fused=no_fused,
    )
    with RunProgress() as progress:
        diagnosis = examine(settings, pairs, beta, progress)
    if as_json:
        print_json(diagnosis.to_json(), sys.stdout)
    else:
        width = None if sys.stdout.isatty() else PIPE_WIDTH
        print_verdicts(Console(width=width, highlight=False, markup=False, emoji=False), diagnosis.to_json())
    if diagnosis.has_failed:
        raise typer.Exit(EXIT_FOUND)
