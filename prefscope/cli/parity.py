"""`prefscope parity`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from prefscope.cli import options as opt
from prefscope.cli.template_file import read_template
from prefscope.settings import ComputeSettings, DataSettings, ModelSettings, ScoreSettings, TokenizationSettings


def parity(
    data: opt.Data,
    a: Annotated[str, typer.Option("--a", metavar="PROFILE", help="trl, trl-0.24, simpo or rewardbench.")] = "trl",
    b: Annotated[str, typer.Option("--b", metavar="PROFILE", help="The one to hold against it.")] = "trl-0.24",
    policy: opt.Policy = None,
    ref: opt.Ref = None,
    base: opt.Base = None,
    pairs: Annotated[int, typer.Option(min=1, help="Look at N pairs, drawn at random.")] = 32,
    beta: opt.Beta = 0.1,
    simpo_beta: opt.SimpoBeta = 2.0,
    simpo_gamma: opt.SimpoGamma = 0.5,
    loss: opt.Losses = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as one JSON object.")] = False,
    seed: opt.Seed = 0,
    format_: opt.Format = "auto",
    mapping: opt.ColumnMap = None,
    split: opt.Split = None,
    max_length: opt.MaxLength = None,
    chat_template: opt.ChatTemplate = None,
    template_date: opt.TemplateDate = None,
    dtype: opt.ComputeDtype = "auto",
    device: opt.Device = "auto",
    threads: opt.Threads = None,
    cache: opt.CacheFolder = None,
    no_cache: opt.NoCache = False,
    trust_remote_code: opt.TrustRemoteCode = False,
) -> None:
    """Score a few pairs as two training stacks would: which tokens differ, and what that moves.

    The same row has another reward in every stack. Pairs that a profile refuses are left out and counted.
    """
    from prefscope.cli.output import print_parity
    from prefscope.cli.progress import RunProgress
    from prefscope.ledger.table import load_ledger
    from prefscope.pipeline.parity import score_under
    from prefscope.report.parity_sections import Parity

    opt.refuse_reference_alone(policy, ref, base)
    preferences = opt.read_preferences(beta, simpo_beta, simpo_gamma, loss, weights=False)
    source, more = opt.several(data)
    settings = ScoreSettings(
        data=DataSettings(
            source,
            more=more,
            dialect=format_,
            mapping=opt.read_mapping(mapping),
            split=split,
            sample=pairs,
            seed=seed,
            skip_bad_rows=True,
        ),
        models=ModelSettings(policy or "", ref, base, dtype, device, trust_remote_code=trust_remote_code),
        tokenization=TokenizationSettings(
            max_length, chat_template=read_template(chat_template), template_date=template_date
        ),
        compute=ComputeSettings(cache, not no_cache, threads=threads),
    )
    with tempfile.TemporaryDirectory(prefix="prefscope-") as folder:
        paths = Path(folder) / "a.parquet", Path(folder) / "b.parquet"
        with RunProgress() as progress:
            tokens = score_under(settings, (a, b), paths, progress)
        found = Parity((a, b), (load_ledger(paths[0]), load_ledger(paths[1])), tokens)
        print_parity(found, preferences, as_json=as_json)
