"""What is checked before a watch begins, so that it does not fail at the first checkpoint, perhaps hours later."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from prefscope.data.reading import pairs_of
from prefscope.data.sources import open_data
from prefscope.errors import ResourceError, UsageError
from prefscope.events import Event
from prefscope.folders import store_path
from prefscope.ledger.file import open_parquet
from prefscope.ledger.run_folder import RunFolder
from prefscope.private import make_folder
from prefscope.scoring.checkpoints import ADAPTER_OFF, Checkpoint, locate
from prefscope.scoring.store import LogpStore
from prefscope.settings import DataSettings, ScoreSettings
from prefscope.training.checkpoints import NAME, VERSION, model_folder
from prefscope.training.comparable import differing, recorded, refuse_differing, requested, template_date_of
from prefscope.training.same_training import fingerprint_of

NOT_A_CHECKPOINT = ("base", "none", ADAPTER_OFF)

Emit = Callable[[Event], None]


def check_start(score: ScoreSettings, output: Path, folder: RunFolder, emit: Emit) -> ScoreSettings:
    """Check data set, reference and run folder, and return the settings of every run, with a fixed template date.

    Args:
        score: The settings of a watch.
        output: The folder that a trainer writes to.
        folder: The run folder; it is created.
        emit: Called with progress.

    Raises:
        DataError: If the data set cannot be read.
        ModelError: If the reference is not found.
        LedgerError: If the index of the run folder is damaged.
        ResourceError: If the run folder cannot be created.
        UsageError: If the run folder was made with other settings, or from another training, or a folder is not one.
    """
    _check_folders(output, folder.path)
    content_hash = _check_data(score.data)
    ref = _located(score.models.ref, score)
    _located(score.models.base, score)
    day = score.tokenization.template_date or dt.datetime.now().astimezone().date().isoformat()
    if ledgers := folder.ledgers():
        manifest = open_parquet(ledgers[0])[1]
        reference = "" if score.models.ref == "none" else None
        if ref is not None:
            with LogpStore(store_path(score.compute.cache_dir)) as store:
                reference = fingerprint_of(ref, store, score, emit)
        asked = requested(score, content_hash, reference)
        refuse_differing(folder.path, differing(asked, recorded(manifest)))
        day = score.tokenization.template_date or template_date_of(manifest) or day
    return replace(score, tokenization=replace(score.tokenization, template_date=day))


def version_of(folder: RunFolder) -> str:
    """Return the run of ms-swift that a run folder is about; empty if its trainer has no such folders."""
    names = [step.checkpoint.partition("/")[0] for step in folder.steps() if step.is_scored]
    return next((name for name in names if VERSION.fullmatch(name)), "")


def _check_folders(output: Path, runs: Path) -> None:
    if output.exists() and not output.is_dir():
        raise UsageError("--checkpoints is not a folder", where=str(output), hint="Pass the trainer's output folder.")
    if NAME.fullmatch(output.name) and model_folder(output) is not None:
        hint = f"Pass the folder that it is in: --checkpoints {output.parent}"
        raise UsageError(
            "This is a checkpoint, not the folder that a trainer writes them to", where=str(output), hint=hint
        )
    try:
        make_folder(runs)
    except OSError as error:
        raise ResourceError(
            f"The run folder cannot be created ({error.strerror or error})",
            where=str(runs),
            hint="Choose another folder with -o.",
        ) from error


def _check_data(data: DataSettings) -> str:
    """Return the hash of a data set whose beginning can be read."""
    if data.source == "-":
        raise UsageError("Standard input can be read only once, not for every checkpoint", hint="Save it to a file.")
    with closing(open_data(data)) as source:
        next(iter(pairs_of(source, dialect=data.dialect, mapping=data.mapping)), None)
        return source.content_hash()


def _located(name: str | None, score: ScoreSettings) -> Checkpoint | None:
    """Return a model that the user named; None if it depends on each checkpoint."""
    return None if name in NOT_A_CHECKPOINT or name is None else locate(name, score.models)
