"""Makes the plan of a folder of parts, or checks that an existing plan matches a run's settings."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from prefscope.errors import UsageError
from prefscope.events import Event, Noted
from prefscope.pipeline.bad_rows import counted
from prefscope.pipeline.longest import longest
from prefscope.pipeline.parts.folder import PartsFolder
from prefscope.pipeline.parts.plan_file import (
    OpenedPlan,
    has_plan,
    open_plan,
    planned_options,
    publish_plan,
    size_of,
)
from prefscope.pipeline.parts.urls import place_of
from prefscope.pipeline.reader import DataSummary, load_tokenizers, read_pairs
from prefscope.pipeline.spool import Spool
from prefscope.pipeline.template_in_use import pin_template_date
from prefscope.scoring import models as loading
from prefscope.scoring.checkpoints import Checkpoint, resolve
from prefscope.scoring.tokenization import TokenTexts
from prefscope.settings import ScoreSettings

TOKENS = ("tokenizer_hash", "template_hash", "max_length")
LONGEST_VALUE = 40
Emit = Callable[[Event], None]


def agree(folder: str, settings: ScoreSettings, emit: Emit) -> None:
    """Make the plan of a folder or URL, or check an existing plan against the settings.

    Raises:
        PrefscopeError: As in `open_or_make`, or if a checkpoint does not exist.
    """
    place = place_of(folder)
    policy, ref = resolve(settings.models, lambda text: emit(Noted(text)))
    with closing(Spool(None)) as spool:
        open_or_make(PartsFolder(place), settings, policy, ref, spool, emit).opened.spool.close()


@dataclass(frozen=True, slots=True)
class AgreedPlan:
    """A plan, and the summary of the data from which it was made."""

    opened: OpenedPlan
    data: DataSummary


def open_or_make(
    folder: PartsFolder, settings: ScoreSettings, policy: Checkpoint, ref: Checkpoint | None, spool: Spool, emit: Emit
) -> AgreedPlan:
    """Open the plan of a folder, making it first if there is none.

    Args:
        folder: The folder of parts.
        settings: What to score and how.
        policy: The policy's checkpoint.
        ref: The reference's checkpoint, if any.
        spool: An empty spool, which receives the pairs if they have to be read.
        emit: Called with notes.

    Raises:
        UsageError: If the plan was made from other data or another tokenization.
        ResourceError: If the folder cannot be read or written.
        PrefscopeError: As in `read_pairs`.
    """
    if settings.data.source == "-":
        raise UsageError("Several processes cannot share standard input", hint="Save it to a file.")
    if not has_plan(folder):
        data = read_pairs(settings, policy, ref, spool, emit)
        known = TokenTexts.of(data.tokenizer).texts(np.arange(len(data.tokenizer), dtype=np.int32))
        publish_plan(folder, settings, spool, data, known)
    opened = open_plan(folder)
    shards = counted(len(opened.plan), "shard")
    emit(Noted(f"{folder.place.shown()}: a plan of {counted(opened.spool.num_pairs, 'pair')} in {shards}"))
    return AgreedPlan(opened, _checked(folder, opened, settings, policy, ref, emit))


def _checked(
    folder: PartsFolder,
    opened: OpenedPlan,
    settings: ScoreSettings,
    policy: Checkpoint,
    ref: Checkpoint | None,
    emit: Emit,
) -> DataSummary:
    """Return the data summary of a plan, after checking that the settings would result in the same plan."""
    tokenizer, _ = load_tokenizers(policy, ref, settings.models, emit)
    kept = DataSummary(**opened.content["data"], tokenizer=tokenizer)
    # Templates use the date stored in the plan, whatever the day on which a slice runs.
    template = pin_template_date(tokenizer, replace(settings.tokenization, template_date=kept.template_date or None))
    now = replace(
        kept,
        tokenizer_hash=loading.tokenizer_hash(tokenizer),
        template_hash=template.hash if kept.template_date else template.undated_hash,
        max_length=longest(settings, [policy] if ref is None else [policy, ref], emit),
    )
    asked, planned = planned_options(settings), opened.content["asked"]
    asked |= {name: getattr(now, name) for name in TOKENS}
    planned |= {name: getattr(kept, name) for name in TOKENS}
    size = size_of(settings.data)
    if size is not None:
        asked["size of the data set"], planned["size of the data set"] = size, opened.content["source"]["size"]
    for name, value in asked.items():
        if value != planned.get(name):
            raise UsageError(
                f"The parts in this folder were planned with a different {name.replace('_', ' ')}: "
                f"{_short(planned.get(name))} there, {_short(value)} now",
                where=folder.place.shown(),
                hint="Choose another folder with --parts, or pass the options that it was planned with.",
            )
    return kept


def _short(value: Any) -> str:
    text = "none" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…"
