"""`prefscope parity`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from prefscope.cli import options as opt
from prefscope.cli import run_options
from prefscope.cli.panels import DATA, TOKENIZATION
from prefscope.cli.run_settings import run_settings
from prefscope.ledger.preferences import read_preferences


def parity(
    data: opt.Data,
    a: Annotated[
        str,
        typer.Option(
            "--a", metavar="PROFILE", help="trl, trl-0.24, simpo or rewardbench.", rich_help_panel=TOKENIZATION
        ),
    ] = "trl",
    b: Annotated[
        str, typer.Option("--b", metavar="PROFILE", help="Profile to compare with.", rich_help_panel=TOKENIZATION)
    ] = "trl-0.24",
    policy: opt.Policy = None,
    ref: opt.Ref = None,
    base: opt.Base = None,
    pairs: Annotated[
        int, typer.Option(min=1, metavar="N", help="Score N pairs drawn at random.", rich_help_panel=DATA)
    ] = 32,
    beta: opt.Beta = 0.1,
    simpo_beta: opt.SimpoBeta = 2.0,
    simpo_gamma: opt.SimpoGamma = 0.5,
    loss: opt.Losses = None,
    as_json: opt.AsJson = False,
    seed: opt.Seed = 0,
    format_: opt.Format = "auto",
    mapping: opt.ColumnMap = None,
    split: opt.Split = None,
    max_length: opt.MaxLength = None,
    chat_template: opt.ChatTemplate = None,
    template_date: opt.TemplateDate = None,
    dtype: opt.ComputeDtype = "auto",
    device: run_options.Device = "auto",
    threads: run_options.Threads = None,
    no_fused: run_options.NoFused = False,
    cache: run_options.CacheFolder = None,
    no_cache: run_options.NoCache = False,
    trust_remote_code: opt.TrustRemoteCode = False,
) -> None:
    """Score a few pairs as two training stacks do, and compare.

    The same row can have a different reward in every stack. Shows which tokens differ and by how much log-probs,
    margins and losses change. Pairs that a profile refuses are skipped and counted.
    """
    from prefscope.cli.output import print_parity
    from prefscope.cli.progress import RunProgress
    from prefscope.ledger.table import load_ledger
    from prefscope.pipeline.parity import score_under
    from prefscope.report.parity_sections import Parity

    preferences = read_preferences(beta, simpo_beta, simpo_gamma, loss, weights=False)
    settings = run_settings(
        data,
        policy,
        ref,
        base,
        sample=pairs,
        seed=seed,
        format_=format_,
        mapping=mapping,
        split=split,
        skip_bad_rows=True,
        max_length=max_length,
        chat_template=chat_template,
        template_date=template_date,
        dtype=dtype,
        device=device,
        trust_remote_code=trust_remote_code,
        cache=cache,
        no_cache=no_cache,
        threads=threads,
        no_fused=no_fused,
    )
    with tempfile.TemporaryDirectory(prefix="prefscope-") as folder:
        paths = Path(folder) / "a.parquet", Path(folder) / "b.parquet"
        with RunProgress() as progress:
            tokens = score_under(settings, (a, b), paths, progress)
        found = Parity((a, b), (load_ledger(paths[0]), load_ledger(paths[1])), tokens)
        print_parity(found, preferences, as_json=as_json)
