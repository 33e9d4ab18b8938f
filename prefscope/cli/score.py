"""`prefscope score`."""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from prefscope.cli.options import (
    AsJson,
    Beta,
    Losses,
    SimpoBeta,
    SimpoGamma,
    Texts,
    Weights,
    read_preferences,
)
from prefscope.errors import UsageError
from prefscope.settings import (
    ComputeSettings,
    DataSettings,
    Dtype,
    ModelSettings,
    PreferenceSettings,
    ScoreSettings,
    TokenizationSettings,
    Truncation,
)


def score(
    data: Annotated[
        str, typer.Argument(help="A file (jsonl, json, csv, parquet, also .gz), - or a hub id.", show_default=False)
    ],
    policy: Annotated[
        str | None,
        typer.Option(
            envvar="PREFSCOPE_POLICY",
            help="Checkpoint folder, hub id, adapter folder or GGUF file.",
            show_default=False,
        ),
    ] = None,
    ref: Annotated[
        str | None,
        typer.Option(
            envvar="PREFSCOPE_REF", help="The same, or `base` (an adapter's base model), or `none`.", show_default=False
        ),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(
            envvar="PREFSCOPE_BASE", help="Base of an adapter whose recorded base is gone.", show_default=False
        ),
    ] = None,
    output: Annotated[
        list[str] | None,
        typer.Option(
            "-o",
            "--output",
            help="x.parquet: the ledger; x.csv, .tsv, .jsonl: the flat table; -: CSV on stdout. Repeatable.",
            show_default=False,
        ),
    ] = None,
    beta: Beta = 0.1,
    simpo_beta: SimpoBeta = 2.0,
    simpo_gamma: SimpoGamma = 0.5,
    loss: Losses = None,
    weights: Weights = False,
    texts: Texts = False,
    as_json: AsJson = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Score only the first N pairs.", show_default=False)] = None,
    sample: Annotated[
        int | None, typer.Option(min=1, help="Score only N pairs drawn at random.", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random sample and the order of scoring.")] = 0,
    format_: Annotated[
        str, typer.Option("--format", help="Layout of the rows, where looking at them is not enough.")
    ] = "auto",
    mapping: Annotated[
        str | None,
        typer.Option(
            "--map",
            metavar="prompt=COL,chosen=COL,rejected=COL",
            help="Columns of an unknown layout.",
            show_default=False,
        ),
    ] = None,
    split: Annotated[str | None, typer.Option(help="Split of a hub data set.", show_default=False)] = None,
    config: Annotated[str | None, typer.Option(help="Configuration of a hub data set.", show_default=False)] = None,
    revision: Annotated[str | None, typer.Option(help="Revision of a hub data set.", show_default=False)] = None,
    skip_bad_rows: Annotated[bool, typer.Option("--skip-bad-rows", help="Leave out rows that are no pairs.")] = False,
    max_length: Annotated[
        int | None,
        typer.Option(min=1, help="Cut sequences to N tokens. Default: the model's context.", show_default=False),
    ] = None,
    truncation: Annotated[Truncation, typer.Option(help="Which end of a long sequence to keep.")] = "keep_start",
    chat_template: Annotated[
        Path | None, typer.Option(help="A Jinja file in place of the tokenizer's template.", show_default=False)
    ] = None,
    dtype: Annotated[
        Dtype, typer.Option(envvar="PREFSCOPE_DTYPE", help="auto: float32 on a CPU, else the widest stored.")
    ] = "auto",
    device: Annotated[str, typer.Option(envvar="PREFSCOPE_DEVICE", help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    attn: Annotated[str, typer.Option(help="auto, eager, sdpa or another of transformers.")] = "auto",
    batch_tokens: Annotated[int, typer.Option(min=1, help="Tokens of one forward pass, padding included.")] = 4096,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.", show_default=False)] = None,
    cache: Annotated[
        str | None,
        typer.Option("--cache", envvar="PREFSCOPE_CACHE", help="Folder of the log-prob store.", show_default=False),
    ] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Keep no log-probs for the next run.")] = False,
    no_tokens: Annotated[
        bool, typer.Option("--no-tokens", help="Leave per-token log-probs out of the ledger.")
    ] = False,
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="Load .bin weights: a pickle can run code.")
    ] = False,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run the model code that comes with a checkpoint.")
    ] = False,
) -> None:
    """Score a preference data set: every pair's log-probs, rewards, margin and losses.

    Without --policy and --ref the bundled tiny pair is used.
    """
    from prefscope.cli.output import STDOUT, check_outputs

    outputs = output or []
    check_outputs(outputs)
    if policy is None and (ref is not None or base is not None):
        raise UsageError(
            "There is a --ref or --base but no --policy",
            hint="Give both, or neither for the bundled tiny pair.",
        )
    preferences = read_preferences(beta, simpo_beta, simpo_gamma, loss, weights=weights)
    settings = ScoreSettings(
        data=DataSettings(
            source=data,
            dialect=format_,
            mapping=_read_mapping(mapping),
            split=split,
            config=config,
            revision=revision,
            limit=limit,
            sample=sample,
            seed=seed,
            skip_bad_rows=skip_bad_rows,
        ),
        models=ModelSettings(
            policy=policy or "",
            ref=ref,
            base=base,
            dtype=dtype,
            device=device,
            attn=attn,
            allow_pickle=allow_pickle,
            trust_remote_code=trust_remote_code,
        ),
        tokenization=TokenizationSettings(max_length, truncation, _read_template(chat_template)),
        compute=ComputeSettings(cache, not no_cache, batch_tokens, threads, not no_tokens),
    )
    path, seconds = _run(settings, outputs)
    _tell_results(path, seconds, preferences, outputs, as_json=as_json, texts=texts, to_stderr=STDOUT in outputs)


def _run(settings: ScoreSettings, outputs: list[str]) -> tuple[Path, float]:
    """Score, showing progress on stderr, and return the ledger's path and the seconds that scoring took."""
    from prefscope.cli.progress import RunProgress
    from prefscope.folders import ledger_folder

    named = [name for name in outputs if name.endswith(".parquet")]
    if len(named) > 1:
        raise UsageError(f"Two ledgers are asked for: {', '.join(named)}", hint="Name one; export writes more tables.")

    def place(run_name: str) -> Path:
        stem = Path(settings.data.source).name.split(".")[0] or "stdin"
        return Path(named[0]) if named else ledger_folder() / f"{stem}-{run_name}.parquet"

    with RunProgress() as progress:
        if not settings.models.policy:
            from prefscope.ready_made import import_logps, offers_logps

            if offers_logps(settings.data):
                progress.say("The file has log-probs already: no model is run.")
                return import_logps(settings.data, place, progress), 0.0
        # Bars of tqdm and the hub would garble ours; both libraries read this on import.
        os.environ.update(TQDM_DISABLE="1", HF_HUB_DISABLE_PROGRESS_BARS="1")
        progress.load("loading torch and transformers")
        from prefscope.pipeline import score as score_data

        path = score_data(settings if settings.models.policy else _with_bundled_models(settings), place, progress)
    return path, progress.scoring_seconds


def _with_bundled_models(settings: ScoreSettings) -> ScoreSettings:
    """Return the settings with the tiny policy and reference of sample_data."""
    from prefscope.folders import sample_data

    folder = sample_data()
    policy, ref = str(folder / "tiny-policy"), str(folder / "tiny-ref")
    return replace(settings, models=replace(settings.models, policy=policy, ref=ref, bundled=True))


def _tell_results(
    path: Path,
    seconds: float,
    preferences: PreferenceSettings,
    outputs: list[str],
    *,
    as_json: bool,
    texts: bool,
    to_stderr: bool,
) -> None:
    """Write the tables, print the summary and say where the ledger is."""
    from prefscope.cli.output import print_summary, write_tables
    from prefscope.ledger.table import load_ledger

    ledger = load_ledger(path)
    write_tables(ledger, preferences, [name for name in outputs if name != str(path)], texts=texts)
    stream = sys.stderr if to_stderr else None
    print_summary(ledger, preferences, as_json=as_json, stream=stream, scoring_seconds=seconds)
    typer.echo(f"\nledger: {path}\nopen it: prefscope report {shlex.quote(str(path))}", err=True)


def _read_mapping(text: str | None) -> dict[str, str] | None:
    from prefscope.data.dialects import parse_mapping

    return None if text is None else parse_mapping(text)


def _read_template(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"The chat template cannot be read ({error})", where=str(path)) from error
