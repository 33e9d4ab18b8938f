"""Options shared by the commands that run models: where and how they compute."""

from __future__ import annotations

from typing import Annotated

import typer

from prefscope.cli.panels import COMPUTE, SCALE
from prefscope.settings import Engine

# Compute

Device = Annotated[
    str,
    typer.Option(
        metavar="DEVICE", envvar="PREFSCOPE_DEVICE", help="auto, cpu, cuda, cuda:1 or mps.", rich_help_panel=COMPUTE
    ),
]
BatchTokens = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Tokens in a forward pass. Default: chosen for the device and the model.",
        show_default=False,
        rich_help_panel=COMPUTE,
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Number of CPU threads.", show_default=False, rich_help_panel=COMPUTE),
]
NoFused = Annotated[
    bool,
    typer.Option(
        "--no-fused",
        help="On a GPU, run the model's own code alone, without fused kernels.",
        rich_help_panel=COMPUTE,
    ),
]
CacheFolder = Annotated[
    str | None,
    typer.Option(
        "--cache",
        metavar="FOLDER",
        envvar="PREFSCOPE_CACHE",
        help="Folder of the log-prob store.",
        show_default=False,
        rich_help_panel=COMPUTE,
    ),
]
NoCache = Annotated[
    bool, typer.Option("--no-cache", help="Do not read or keep log-probs in the store.", rich_help_panel=COMPUTE)
]
NoiseFloor = Annotated[
    bool,
    typer.Option(
        "--noise-floor",
        help="Measure rounding noise: recompute 64 pairs in other batches, without using the store.",
        rich_help_panel=COMPUTE,
    ),
]

# Scale

Workers = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Compute in N processes on this machine, each on its own GPU if there are several.",
        show_default=False,
        rich_help_panel=SCALE,
    ),
]
DeviceMap = Annotated[
    str | None,
    typer.Option(
        metavar="auto",
        help="Spread a model that is too large for one GPU over several (needs accelerate).",
        show_default=False,
        rich_help_panel=SCALE,
    ),
]
Tp = Annotated[
    int,
    typer.Option(
        "--tp",
        min=1,
        metavar="K",
        help="Split every layer over K GPUs of a machine (needs accelerate).",
        rich_help_panel=SCALE,
    ),
]
EngineOfChoice = Annotated[
    Engine,
    typer.Option(
        "--engine",
        metavar="ENGINE",
        help="local: this machine; ray: a Ray cluster.",
        rich_help_panel=SCALE,
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Ray cluster to join; auto: the one on this node. Default: start Ray on this machine.",
        show_default=False,
        rich_help_panel=SCALE,
    ),
]
GpusPerWorker = Annotated[
    float | None,
    typer.Option(
        min=0,
        metavar="N",
        help="GPUs per Ray worker. Default: 1, or K with --tp K, if this machine has a GPU.",
        show_default=False,
        rich_help_panel=SCALE,
    ),
]
CpusPerWorker = Annotated[
    int, typer.Option(min=1, metavar="N", help="CPU cores per Ray worker.", rich_help_panel=SCALE)
]
Parts = Annotated[
    str | None,
    typer.Option(
        metavar="FOLDER|URL",
        help="Write a file per shard into a folder, s3://… or gs://… that other processes fill too; see `prefscope "
        "parts`.",
        show_default=False,
        rich_help_panel=SCALE,
    ),
]
Slice = Annotated[
    str | None,
    typer.Option(
        "--slice",
        metavar="I/N",
        help="Score only slice I of N (0/N is the first) into --parts; `prefscope parts merge` makes the ledger.",
        show_default=False,
        rich_help_panel=SCALE,
    ),
]
