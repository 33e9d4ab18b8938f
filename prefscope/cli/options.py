"""Options shared by several commands: what is scored, and what is printed or written. See run_options for the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prefscope.cli.panels import DATA, LOSSES, MODELS, OUTPUT, TOKENIZATION
from prefscope.settings import MOST_ALTERNATIVES, Dtype, Truncation

POLICY_VARIABLE = "PREFSCOPE_POLICY"

# Data

Data = Annotated[
    list[str],
    typer.Argument(
        metavar="DATA",
        help="Files (jsonl, json, csv, tsv, parquet; also .gz, .bz2, .xz, .zst), a folder, a quoted glob, a Hugging "
        "Face data set id, or - for stdin.",
        show_default=False,
    ),
]
Limit = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Use only the first N pairs.", show_default=False, rich_help_panel=DATA),
]
Sample = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Use N pairs drawn at random.", show_default=False, rich_help_panel=DATA),
]
Seed = Annotated[
    int,
    typer.Option(min=0, metavar="N", help="Seed of the random sample and of the scoring order.", rich_help_panel=DATA),
]
Format = Annotated[
    str,
    typer.Option(
        "--format", metavar="NAME", help="Row layout, if it is not recognised from the rows.", rich_help_panel=DATA
    ),
]
ColumnMap = Annotated[
    str | None,
    typer.Option(
        "--map",
        metavar="PART=COLUMN,...",
        help="Columns of an unknown layout: prompt=question,chosen=good,rejected=bad.",
        show_default=False,
        rich_help_panel=DATA,
    ),
]
Split = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Split of a Hugging Face data set, a folder, or a JSON object of splits.",
        show_default=False,
        rich_help_panel=DATA,
    ),
]
Config = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Configuration of a Hugging Face data set.",
        show_default=False,
        rich_help_panel=DATA,
    ),
]
Revision = Annotated[
    str | None,
    typer.Option(
        metavar="REV",
        help="Revision of a Hugging Face data set.",
        show_default=False,
        rich_help_panel=DATA,
    ),
]
SkipBadRows = Annotated[
    bool,
    typer.Option("--skip-bad-rows", help="Skip and count rows that are not preference pairs.", rich_help_panel=DATA),
]
Where = Annotated[
    str | None,
    typer.Option(
        "--where",
        metavar="EXPRESSION",
        help="Use only the pairs that match: 'margin < 0 and len_c > len_r and prompt ~ \"python\"'.",
        show_default=False,
        rich_help_panel=DATA,
    ),
]

# Models

Policy = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL",
        envvar="PREFSCOPE_POLICY",
        help="Checkpoint folder, Hugging Face id, adapter folder or GGUF file.",
        show_default=False,
        rich_help_panel=MODELS,
    ),
]
Policies = Annotated[
    list[str] | None,
    typer.Option(
        "--policy",
        metavar="MODEL",
        help=f"Checkpoint folder, Hugging Face id, adapter folder or GGUF file ({POLICY_VARIABLE}). Repeat it to score "
        "and compare several checkpoints.",
        show_default=False,
        rich_help_panel=MODELS,
    ),
]
"""Its variable is read in config.py, because typer would split the value at spaces."""
Ref = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL",
        envvar="PREFSCOPE_REF",
        help="Like --policy, or `base` (the adapter's base model), `adapter-off` (the policy with its adapter "
        "disabled), or `none`.",
        show_default=False,
        rich_help_panel=MODELS,
    ),
]
Base = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL",
        envvar="PREFSCOPE_BASE",
        help="Base model of an adapter, if the recorded one is unavailable.",
        show_default=False,
        rich_help_panel=MODELS,
    ),
]
ComputeDtype = Annotated[
    Dtype,
    typer.Option(
        metavar="DTYPE",
        envvar="PREFSCOPE_DTYPE",
        help="auto, float32, bfloat16 or float16; auto is float32 on a CPU, and the widest stored dtype on a GPU.",
        rich_help_panel=MODELS,
    ),
]
Attn = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="Attention: auto, eager, sdpa or another of transformers' implementations.",
        rich_help_panel=MODELS,
    ),
]
AllowPickle = Annotated[
    bool,
    typer.Option(
        "--allow-pickle", help="Load .bin weights; these are pickles, which can run code.", rich_help_panel=MODELS
    ),
]
TrustRemoteCode = Annotated[
    bool,
    typer.Option(
        "--trust-remote-code", help="Run the model code that comes with a checkpoint.", rich_help_panel=MODELS
    ),
]

# Tokenization

MaxLength = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Truncate sequences to N tokens. Default: the model's context length.",
        show_default=False,
        rich_help_panel=TOKENIZATION,
    ),
]
TruncationSide = Annotated[
    Truncation,
    typer.Option(
        metavar="SIDE",
        help="Which end of a long sequence to keep: keep_start or keep_end.",
        rich_help_panel=TOKENIZATION,
    ),
]
TokenProfile = Annotated[
    str,
    typer.Option(
        "--profile",
        metavar="NAME",
        envvar="PREFSCOPE_PROFILE",
        help="Tokenization preset: tokenize and truncate as this stack does: trl, trl-0.24, simpo or rewardbench.",
        rich_help_panel=TOKENIZATION,
    ),
]
ChatTemplate = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Jinja file to use instead of the tokenizer's chat template.",
        show_default=False,
        rich_help_panel=TOKENIZATION,
    ),
]
TemplateDate = Annotated[
    str | None,
    typer.Option(
        metavar="YYYY-MM-DD",
        help="Date for chat templates that insert the current one. Default: today.",
        show_default=False,
        rich_help_panel=TOKENIZATION,
    ),
]

# Losses

Beta = Annotated[
    float,
    typer.Option(
        "--beta",
        metavar="B",
        envvar="PREFSCOPE_BETA",
        help="Scale of the rewards; also beta of the losses with a reference.",
        rich_help_panel=LOSSES,
    ),
]
SimpoBeta = Annotated[
    float,
    typer.Option(
        "--simpo-beta", metavar="B", envvar="PREFSCOPE_SIMPO_BETA", help="SimPO's beta.", rich_help_panel=LOSSES
    ),
]
SimpoGamma = Annotated[
    float,
    typer.Option(
        "--simpo-gamma",
        metavar="G",
        envvar="PREFSCOPE_SIMPO_GAMMA",
        help="SimPO's target margin gamma.",
        rich_help_panel=LOSSES,
    ),
]
Losses = Annotated[
    list[str] | None,
    typer.Option(
        "--loss",
        envvar="PREFSCOPE_LOSS",
        metavar="NAME[:P=V,...]",
        help="Loss to compute, such as simpo:gamma=0.8; repeatable. Default: dpo, ipo, simpo. `prefscope losses` lists "
        "all.",
        show_default=False,
        rich_help_panel=LOSSES,
    ),
]
Weights = Annotated[
    bool, typer.Option("--weights", help="Also compute each loss's gradient weight.", rich_help_panel=LOSSES)
]

# Output

Outputs = Annotated[
    list[str] | None,
    typer.Option(
        "-o",
        "--output",
        metavar="FILE",
        help="x.parquet: the ledger; x.csv, .tsv, .jsonl: the flat table; -: CSV on stdout. Repeatable.",
        show_default=False,
        rich_help_panel=OUTPUT,
    ),
]
Texts = Annotated[
    bool, typer.Option("--texts", help="Include prompt, chosen and rejected in tables.", rich_help_panel=OUTPUT)
]
CsvSafe = Annotated[
    bool,
    typer.Option(
        "--csv-safe",
        help="In CSV and TSV, put ' before texts that a spreadsheet would run as a formula (= + - @, tab, carriage "
        "return).",
        rich_help_panel=OUTPUT,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.", rich_help_panel=OUTPUT)]
NoTokens = Annotated[
    bool, typer.Option("--no-tokens", help="Omit per-token log-probs from the ledger.", rich_help_panel=OUTPUT)
]
Alternatives = Annotated[
    int,
    typer.Option(
        "--alternatives",
        min=0,
        max=MOST_ALTERNATIVES,
        metavar="K",
        help="Keep the K most probable tokens of each model at every scored token, its entropy and the token's rank.",
        rich_help_panel=OUTPUT,
    ),
]
Kl = Annotated[
    bool,
    typer.Option(
        "--kl",
        help="Keep the exact KL divergences of policy and reference at every scored token. Both models must fit into "
        "memory; takes about a third longer.",
        rich_help_panel=OUTPUT,
    ),
]
By = Annotated[
    list[str] | None,
    typer.Option(
        "--by",
        metavar="COLUMN",
        help="Show accuracy and margin by the values of a column. Repeatable.",
        show_default=False,
        rich_help_panel=OUTPUT,
    ),
]
WithDiagnosis = Annotated[
    bool,
    typer.Option("--diagnosis/--no-diagnosis", help="Include the diagnosis of all pairs.", rich_help_panel=OUTPUT),
]
