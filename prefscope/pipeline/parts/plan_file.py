"""The plan of a folder of parts: the tokenized pairs, and which of them make each shard.

It is made once, whole or not at all (a folder that is renamed), and never changed: all slices work by the same. To read
it takes neither tokenizer nor torch.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

import prefscope
from prefscope.errors import ResourceError, UsageError
from prefscope.pipeline.parts.folder import FORMAT_VERSION, PartsFolder, refusal, writer_name
from prefscope.pipeline.shards import Plan, make_plan
from prefscope.pipeline.spool import SavedSpool, Spool
from prefscope.settings import ScoreSettings

if TYPE_CHECKING:
    from prefscope.pipeline.intake import DataSummary

PLAN, PAIRS, ORDER, TEXTS = "plan.json", "pairs.arrow", "order.npz", "tokens.json"


@dataclass(frozen=True, slots=True)
class OpenedPlan:
    """A plan to work by."""

    spool: SavedSpool
    plan: Plan
    content: Mapping[str, Any]
    """Of plan.json."""
    texts: Sequence[str]
    """What each token looks like, by its id."""


def publish_plan(
    folder: PartsFolder, settings: ScoreSettings, spool: Spool, data: DataSummary, texts: Sequence[str]
) -> None:
    """Write the plan of tokenized pairs; one that is there by then stays.

    Args:
        folder: Of the parts.
        settings: Which pairs these are, and how they were tokenized.
        spool: The tokenized pairs, finished.
        data: Their summary.
        texts: What each token looks like, by its id.

    Raises:
        ResourceError: The disk is full or the folder cannot be written.
    """
    facts = spool.facts
    plan = make_plan(facts, settings.data.seed)
    content = {
        "format": FORMAT_VERSION,
        "prefscope": prefscope.__version__,
        "asked": asked_of(settings),
        "source": {"name": settings.data.source, "size": size_of(settings.data.source)},
        "data": _plain(data),
        "columns": spool.extra_kinds,
        "chunk_pairs": spool.chunk_pairs,
        "shards": [
            {
                "name": name,
                "pairs": len(plan.pairs(number)),
                "sequences": len(plan.owned(number)),
                "tokens": int(facts.tokens[plan.pairs(number)].sum()),
            }
            for number, name in enumerate(plan.names)
        ],
    }
    temporary = folder.path / f".plan.{writer_name()}"
    try:
        temporary.mkdir(parents=True)
        try:
            spool.save(temporary / PAIRS)
            np.savez(temporary / ORDER, order=plan.order, starts=plan.starts, owners=plan.owners)
            (temporary / TEXTS).write_text(json.dumps(texts), encoding="utf-8")
            (temporary / PLAN).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
            temporary.rename(folder.plan_path)  # fails if it is there: of two that are made at one time the second does
        finally:
            for leftover in folder.path.glob(".plan.*"):
                shutil.rmtree(leftover, ignore_errors=True)
    except OSError as error:
        if not folder.plan_path.exists():
            raise refusal(folder.plan_path, error) from error


def open_plan(folder: PartsFolder) -> OpenedPlan:
    """Return the plan of a folder.

    Raises:
        UsageError: There is none, or a newer version has made it.
        ResourceError: It is damaged.
    """
    path = folder.plan_path
    if not path.exists():
        hint = "Make one: prefscope parts plan DIR DATA --policy P --ref R."
        raise UsageError("This folder has no plan of parts", where=str(folder.path), hint=hint)
    try:
        content = json.loads((path / PLAN).read_text(encoding="utf-8"))
        newer = content["format"] > FORMAT_VERSION
        with np.load(path / ORDER, allow_pickle=False) as arrays:
            names = tuple(shard["name"] for shard in content["shards"])
            plan = Plan(arrays["order"], arrays["starts"], arrays["owners"], names)
        texts = json.loads((path / TEXTS).read_text(encoding="utf-8"))
        spool = SavedSpool(path / PAIRS, content["chunk_pairs"], content["columns"])
        sound = len(plan.order) == spool.num_pairs == content["data"]["pairs"] and len(plan.starts) == len(names) + 1
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile, pa.ArrowException) as error:
        raise _damaged(path) from error
    if newer:
        raise UsageError("A newer prefscope has made this plan", where=str(path), hint="Update prefscope.")
    if not sound:
        raise _damaged(path)
    return OpenedPlan(spool, plan, content, texts)


def _damaged(path: Path) -> ResourceError:
    hint = "Delete this folder and plan again: parts keep their names, and those that are there count."
    return ResourceError("The plan of these parts is damaged", where=str(path), hint=hint)


def asked_of(settings: ScoreSettings) -> dict[str, Any]:
    """Return the options that decide which tokens are scored, as JSON gives them back."""
    asked = asdict(settings.data) | asdict(settings.tokenization)
    del asked["source"]
    return dict(json.loads(json.dumps(asked)))


def size_of(source: str) -> int | None:
    """Return the bytes of a data file, None of another source or one that is not on this machine."""
    path = Path(source)
    return path.stat().st_size if path.is_file() else None


def _plain(data: DataSummary) -> dict[str, Any]:
    """Return what a plan keeps of a summary: all but the tokenizer itself."""
    return {field.name: getattr(data, field.name) for field in fields(data) if field.name != "tokenizer"}
