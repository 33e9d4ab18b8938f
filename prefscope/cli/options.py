"""Options that several commands share, and the settings they make."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from prefscope.errors import UsageError
from prefscope.settings import (
    DEFAULT_LOSSES,
    DispatchSettings,
    Dtype,
    Engine,
    LossChoice,
    PreferenceSettings,
    Truncation,
)

Beta = Annotated[
    float,
    typer.Option(
        "--beta", envvar="PREFSCOPE_BETA", help="Scale of the rewards, and beta of the losses with a reference."
    ),
]
SimpoBeta = Annotated[float, typer.Option("--simpo-beta", envvar="PREFSCOPE_SIMPO_BETA", help="SimPO's beta.")]
SimpoGamma = Annotated[
    float, typer.Option("--simpo-gamma", envvar="PREFSCOPE_SIMPO_GAMMA", help="SimPO's target margin gamma.")
]
Losses = Annotated[
    list[str] | None,
    typer.Option(
        "--loss",
        envvar="PREFSCOPE_LOSS",
        metavar="NAME[:P=V,...]",
        help="A loss, repeatable: simpo:gamma=0.8. Default: dpo, ipo, simpo. `prefscope losses` lists them.",
        show_default=False,
    ),
]
Weights = Annotated[bool, typer.Option("--weights", help="Give each loss's gradient weight too.")]
Where = Annotated[
    str | None,
    typer.Option(
        "--where",
        metavar="EXPRESSION",
        help="Only the pairs that match: 'margin < 0 and len_c > len_r and prompt ~ \"python\"'.",
        show_default=False,
    ),
]
Texts = Annotated[bool, typer.Option("--texts", help="Export prompt, chosen and rejected too.")]
CsvSafe = Annotated[
    bool,
    typer.Option(
        "--csv-safe",
        help="In CSV and TSV, put ' before text that spreadsheets run as a formula (= + - @, tab, carriage return).",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the summary as one JSON object.")]

# Of `report` alone.

By = Annotated[
    list[str] | None,
    typer.Option(
        "--by",
        metavar="COLUMN",
        help="Accuracy and margin of the pairs by a column, the data set's own or another. Repeatable.",
        show_default=False,
    ),
]
WithDiagnosis = Annotated[
    bool, typer.Option("--diagnosis/--no-diagnosis", help="Tell what the numbers of all pairs together mean.")
]

# Of `score` alone.

Data = Annotated[
    list[str],
    typer.Argument(
        metavar="DATA...",
        help="Files (jsonl, json, csv, parquet, also .gz, .bz2, .xz, .zst), a folder, a quoted glob, - or a hub id.",
        show_default=False,
    ),
]
Policy = Annotated[
    str | None,
    typer.Option(
        envvar="PREFSCOPE_POLICY",
        help="Checkpoint folder, hub id, adapter folder or GGUF file.",
        show_default=False,
    ),
]
POLICY_VARIABLE = "PREFSCOPE_POLICY"
Policies = Annotated[
    list[str] | None,
    typer.Option(
        "--policy",
        help=f"Checkpoint folder, hub id, adapter folder or GGUF file ({POLICY_VARIABLE}). Repeatable: checkpoints of "
        "one training, compared.",
        show_default=False,
    ),
]
"""Its variable is read in config.py: typer would part the value at spaces."""
Ref = Annotated[
    str | None,
    typer.Option(
        envvar="PREFSCOPE_REF",
        help="The same, or `base` (an adapter's base model), `adapter-off` (the policy with its adapter switched off), "
        "or `none`.",
        show_default=False,
    ),
]
Base = Annotated[
    str | None,
    typer.Option(envvar="PREFSCOPE_BASE", help="Base of an adapter whose recorded base is gone.", show_default=False),
]
Outputs = Annotated[
    list[str] | None,
    typer.Option(
        "-o",
        "--output",
        help="x.parquet: the ledger; x.csv, .tsv, .jsonl: the flat table; -: CSV on stdout. Repeatable.",
        show_default=False,
    ),
]
Limit = Annotated[int | None, typer.Option(min=1, help="Score only the first N pairs.", show_default=False)]
Sample = Annotated[int | None, typer.Option(min=1, help="Score only N pairs drawn at random.", show_default=False)]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the random sample and the order of scoring.")]
Format = Annotated[str, typer.Option("--format", help="Layout of the rows, where looking at them is not enough.")]
ColumnMap = Annotated[
    str | None,
    typer.Option(
        "--map",
        metavar="prompt=COL,chosen=COL,rejected=COL",
        help="Columns of an unknown layout.",
        show_default=False,
    ),
]
Split = Annotated[
    str | None,
    typer.Option(help="Split of a hub data set, a folder, or a JSON object of splits.", show_default=False),
]
Config = Annotated[str | None, typer.Option(help="Configuration of a hub data set.", show_default=False)]
Revision = Annotated[str | None, typer.Option(help="Revision of a hub data set.", show_default=False)]
SkipBadRows = Annotated[bool, typer.Option("--skip-bad-rows", help="Leave out rows that are no pairs.")]
MaxLength = Annotated[
    int | None,
    typer.Option(min=1, help="Cut sequences to N tokens. Default: the model's context.", show_default=False),
]
TruncationSide = Annotated[Truncation, typer.Option(help="Which end of a long sequence to keep.")]
TokenProfile = Annotated[
    str,
    typer.Option(
        "--profile",
        envvar="PREFSCOPE_PROFILE",
        help="Whose rules make token ids, and cut them: trl, trl-0.24, simpo, rewardbench.",
    ),
]
ChatTemplate = Annotated[
    Path | None, typer.Option(help="A Jinja file in place of the tokenizer's template.", show_default=False)
]
TemplateDate = Annotated[
    str | None,
    typer.Option(
        metavar="YYYY-MM-DD",
        help="The date that a chat template writes where it asks for today's. Default: today.",
        show_default=False,
    ),
]
ComputeDtype = Annotated[
    Dtype, typer.Option(envvar="PREFSCOPE_DTYPE", help="auto: float32 on a CPU, else the widest stored.")
]
Device = Annotated[str, typer.Option(envvar="PREFSCOPE_DEVICE", help="auto, cpu, cuda, cuda:1, mps.")]
Attn = Annotated[str, typer.Option(help="auto, eager, sdpa or another of transformers.")]
DeviceMap = Annotated[
    str | None,
    typer.Option(help="auto: spread a model that is too large for one GPU (needs accelerate).", show_default=False),
]
Tp = Annotated[
    int,
    typer.Option(
        "--tp",
        min=1,
        metavar="K",
        help="Split every layer among K GPUs of a machine (needs accelerate).",
    ),
]
BatchTokens = Annotated[
    int | None,
    typer.Option(min=1, help="Tokens of one forward pass. Default: found for the device.", show_default=False),
]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads.", show_default=False)]
CacheFolder = Annotated[
    str | None,
    typer.Option("--cache", envvar="PREFSCOPE_CACHE", help="Folder of the log-prob store.", show_default=False),
]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Keep no log-probs for the next run.")]
NoTokens = Annotated[bool, typer.Option("--no-tokens", help="Leave per-token log-probs out of the ledger.")]
NoiseFloor = Annotated[
    bool,
    typer.Option("--noise-floor", help="Compute 64 pairs again in other batches, to tell margins from rounding."),
]
AllowPickle = Annotated[bool, typer.Option("--allow-pickle", help="Load .bin weights: a pickle can run code.")]
TrustRemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run the model code that comes with a checkpoint.")
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Compute in N processes of this machine, each on a GPU of its own as far as there are several.",
        show_default=False,
    ),
]
EngineOfChoice = Annotated[
    Engine, typer.Option("--engine", help="local: this machine; ray: the actors of a Ray cluster.")
]
Address = Annotated[
    str | None,
    typer.Option(help="Ray cluster to join (auto: the one of this node). Default: start Ray here.", show_default=False),
]
GpusPerWorker = Annotated[
    float | None,
    typer.Option(
        min=0, help="GPUs of a Ray worker. Default: 1, or --tp, where this machine has any.", show_default=False
    ),
]
CpusPerWorker = Annotated[int, typer.Option(min=1, help="CPU cores of a Ray worker.")]
Parts = Annotated[
    str | None,
    typer.Option(
        metavar="DIR|URL",
        help="Keep a part of every shard in a folder, or at s3://… or gs://…, that other processes fill, too; see "
        "`prefscope parts`.",
        show_default=False,
    ),
]
Slice = Annotated[
    str | None,
    typer.Option(
        "--slice",
        metavar="I/N",
        help="Score only slice I of N (0/N is the first) into --parts; `prefscope parts merge` makes the ledger.",
        show_default=False,
    ),
]


def read_preferences(
    beta: float, simpo_beta: float, simpo_gamma: float, losses: list[str] | None, *, weights: bool
) -> PreferenceSettings:
    """Return the knobs that the options ask for; a parameter written at a loss goes before the common option.

    Raises:
        UsageError: A loss or parameter is unknown or out of range.
    """
    from prefscope.preference import losses as _losses  # noqa: F401 (registers the losses)
    from prefscope.preference.registry import parse_choice, refuse_repeats, resolve_parameters

    asked = tuple(parse_choice(text) for text in losses) if losses else DEFAULT_LOSSES
    common = {"simpo": {"beta": simpo_beta, "gamma": simpo_gamma}}
    refuse_repeats(asked)
    choices = tuple(LossChoice(c.name, {**common.get(c.name, {}), **c.parameters}) for c in asked)
    preferences = PreferenceSettings(beta, choices, explicit=bool(losses), weights=weights)
    for choice in choices:
        resolve_parameters(choice, preferences)
    return preferences


def wants_collisions(preferences: PreferenceSettings) -> bool:
    """Return whether a loss is asked for that needs how sure the policy was at each token."""
    from prefscope.ledger.columns import COLLISION_LOGPS
    from prefscope.preference.registry import find_loss

    return any(name in find_loss(choice.name).inputs for choice in preferences.losses for name in COLLISION_LOGPS)


def refuse_reference_alone(policy: str | None, ref: str | None, base: str | None) -> None:
    """Refuse a reference or a base that has no policy beside it.

    Raises:
        UsageError: That is so.
    """
    if policy is None and (ref is not None or base is not None):
        raise UsageError(
            "There is a --ref or --base but no --policy",
            hint="Give both, or neither for the bundled tiny pair.",
        )


def several(data: list[str]) -> tuple[str, tuple[str, ...]]:
    """Return the first file of a data set, and the further ones."""
    first, *more = data
    return first, tuple(more)


def read_mapping(text: str | None) -> dict[str, str] | None:
    """Return the columns that --map names.

    Raises:
        UsageError: A part is missing or unknown.
    """
    from prefscope.data.dialects import parse_mapping

    return None if text is None else parse_mapping(text)


def read_dispatch(
    workers: int | None,
    engine: Engine,
    address: str | None,
    gpus_per_worker: float | None,
    cpus_per_worker: int,
    parts: str | None,
    slice_: str | None,
) -> DispatchSettings:
    """Return who computes what.

    Raises:
        UsageError: The slice is none or has no folder of parts, or an option of Ray's stands without Ray.
    """
    if engine != "ray" and (address is not None or gpus_per_worker is not None or cpus_per_worker != 1):
        raise UsageError("--address, --gpus-per-worker and --cpus-per-worker are of Ray", hint="Add --engine ray.")
    asked = DispatchSettings(workers, engine, address, gpus_per_worker, cpus_per_worker, parts=parts)
    if slice_ is None:
        return asked
    number, _, slices = slice_.partition("/")
    if not (number.isascii() and number.isdigit() and slices.isascii() and slices.isdigit()):
        raise UsageError(f"--slice {slice_} is no slice", hint="Write 0/4 for the first of four.")
    if int(number) >= int(slices):
        raise UsageError(
            f"There is no slice {slice_}", hint=f"The slices of {slices} are 0/{slices} to {int(slices) - 1}/{slices}."
        )
    if parts is None:
        raise UsageError(
            "--slice needs a folder or URL for its parts", hint="Name one that all slices see with --parts."
        )
    return replace(asked, slice_number=int(number), slices=int(slices))
