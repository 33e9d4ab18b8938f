"""Progress, verification and merging of a folder of parts.

None of this needs a model or torch.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prefscope.errors import ResourceError, UsageError
from prefscope.events import Event, Finished, Progressed
from prefscope.pipeline.assembly import assemble
from prefscope.pipeline.parts.folder import COLLISIONS, DamagedPartError, PartsFolder, RunRecord, part_path
from prefscope.pipeline.parts.logps import PartLogps
from prefscope.pipeline.parts.plan_file import open_plan, plan_content
from prefscope.pipeline.parts.validation import makes_a_ledger

Emit = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class Progress:
    """How many shards of the plan have a part, under one model."""

    shards: int
    tokens: int
    """Tokens of the pairs of these shards."""


@dataclass(frozen=True, slots=True)
class RunStatus:
    """The progress of a run that has a record in the folder."""

    record: RunRecord
    progress: dict[str, Progress]
    """By role."""

    def missing(self, total: int) -> int:
        """Return how many parts are missing, if the plan has `total` shards."""
        return sum(total - one.shards for one in self.progress.values())


@dataclass(frozen=True, slots=True)
class FolderStatus:
    """The progress of a folder of parts."""

    pairs: int
    shards: int
    tokens: int
    runs: tuple[RunStatus, ...]
    others: dict[str, Progress]
    """Models without a record of a run, by scope: no slice of their run is finished yet."""

    def to_json(self) -> dict[str, Any]:
        """Return the status as JSON values."""
        return {
            "schema": 1,
            "pairs": self.pairs,
            "shards": self.shards,
            "tokens": self.tokens,
            "runs": [
                {
                    "run": one.record.name,
                    "models": {role: _name(one.record, role) for role in one.progress},
                    "shards": {role: progress.shards for role, progress in one.progress.items()},
                    "missing": one.missing(self.shards),
                }
                for one in self.runs
            ],
            "unrecorded": {scope: progress.shards for scope, progress in self.others.items()},
        }


def _name(record: RunRecord, role: str) -> str:
    return str(record.manifest["models"][role]["name"])


def status_of(folder: PartsFolder) -> FolderStatus:
    """Return the progress of a folder; reads only the plan, the records and the names of parts.

    Raises:
        UsageError: If the folder has no plan.
        ResourceError: If the plan or a record is damaged.
    """
    content = plan_content(folder)
    shards, runs = content["shards"], folder.runs()
    known = {scope for run in runs for scope in run.scopes.values()}
    listed = folder.listed()
    others = [scope for scope in listed if scope.removesuffix(COLLISIONS) not in known]
    progress = {scope: _progress(shards, listed.get(scope, set())) for scope in [*known, *others]}
    return FolderStatus(
        pairs=content["data"]["pairs"],
        shards=len(shards),
        tokens=sum(shard["tokens"] for shard in shards),
        runs=tuple(RunStatus(run, {role: progress[scope] for role, scope in run.scopes.items()}) for run in runs),
        others={scope: progress[scope] for scope in others},
    )


def _progress(shards: Sequence[dict[str, Any]], listed: Collection[str]) -> Progress:
    done = [shard for shard in shards if shard["name"] in listed]
    return Progress(len(done), sum(shard["tokens"] for shard in done))


def damaged_parts(folder: PartsFolder, emit: Emit) -> Iterator[str]:
    """Read all parts, and yield the paths of those that are damaged or do not belong to the plan.

    Raises:
        UsageError: If the folder has no plan.
        ResourceError: If the plan is damaged, or a part cannot be fetched.
    """
    sizes = {shard["name"]: shard["sequences"] for shard in plan_content(folder)["shards"]}
    parts = [(scope, name) for scope, names in folder.listed().items() for name in sorted(names)]
    for done, (scope, name) in enumerate(parts, start=1):
        try:
            sound = len(folder.read_part(scope, name)) == sizes.get(name)
        except DamagedPartError:
            sound = False
        if not sound:
            yield part_path(scope, name)
        emit(Progressed("reading parts", done, len(parts)))


def merge(folder: PartsFolder, run: str | None, ledger: Callable[[str, str], Path], emit: Emit) -> Path:
    """Write the ledger of a folder with complete parts, in the order of the pairs, and return its path.

    Args:
        folder: The folder of parts.
        run: The name of a run or its beginning; None if there is only one run.
        ledger: Returns the ledger's path for the names of the data set and the run.
        emit: Called with progress.

    Raises:
        UsageError: If there is no plan, no matching run, or more than one.
        ResourceError: If parts are missing or damaged, or the ledger cannot be written.
    """
    names = [shard["name"] for shard in plan_content(folder)["shards"]]
    record = _choose(folder, run)
    if not makes_a_ledger(record.manifest):
        raise folder.damaged_record(record.name)
    _check_complete(folder, names, record)
    opened = open_plan(folder)
    with closing(opened.spool):
        compute = record.manifest["settings"]["compute"]
        manifest = {**record.manifest, "created": dt.datetime.now(dt.UTC).isoformat(timespec="seconds")}
        path = ledger(str(opened.content["source"]["name"]), record.name)
        texts = _KnownTexts(opened.texts) if compute["keep_tokens"] else None
        source = PartLogps(folder, opened.plan, record.scopes)
        assemble(path, opened.spool, source, manifest, texts, emit, collisions=compute["collisions"])
        emit(Finished(str(path), opened.spool.num_pairs, 0.0))
    return path


def _choose(folder: PartsFolder, asked: str | None) -> RunRecord:
    runs = folder.runs()
    where = folder.place.shown()
    if not runs:
        raise UsageError("No slice of these parts is finished", where=where, hint="See `prefscope parts status`.")
    found = [run for run in runs if run.name.startswith(asked or "")]
    if len(found) == 1:
        return found[0]
    listed = ", ".join(f"{run.name} ({_name(run, 'policy')})" for run in runs)
    what = "There are several runs in this folder" if found else f"No run is named {asked}. Runs in this folder"
    raise UsageError(f"{what}: {listed}", where=where, hint="Choose one with --run.")


def _check_complete(folder: PartsFolder, names: Sequence[str], record: RunRecord) -> None:
    """Raise an error if a shard has no part under any of the run's models."""
    listed = folder.listed()
    for role, scope in record.scopes.items():
        missing = [number for number, name in enumerate(names) if name not in listed.get(scope, ())]
        if missing:
            first = ", ".join(map(str, missing[:5]))
            raise ResourceError(
                f"Parts of the {role} are missing: {len(missing):,} of {len(names):,} (shards {first}"
                f"{', …' if len(missing) > 5 else ''})",  # noqa: PLR2004 (as many as are listed)
                where=folder.place.shown(),
                hint="Run the remaining slices: slice I of N has the shards I, I + N, I + 2N, …",
            )


@dataclass(frozen=True, slots=True)
class _KnownTexts:
    """The token texts stored in a plan."""

    known: Sequence[str]

    def texts(self, ids: NDArray[np.int32]) -> list[str]:
        return [self.known[token] if token < len(self.known) else f"<{token}>" for token in ids.tolist()]
