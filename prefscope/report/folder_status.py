"""Lines that describe the progress of a folder of parts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

ROLES = {"policy": "policy", "ref": "reference"}


def folder_lines(folder: str, status: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of a status, as returned by its `to_json`."""
    shards = status["shards"]
    yield f"{folder}: {status['pairs']:,} pairs in {shards:,} shards"
    if not status["runs"] and not status["unrecorded"]:
        yield "no parts yet"
    for run in status["runs"]:
        state = "complete" if run["missing"] == 0 else f"{run['missing']:,} parts missing"
        yield f"run {run['run']}: {state}"
        for role, name in run["models"].items():
            done = run["shards"][role]
            yield f"  {ROLES[role]:<9}  {done:>6,} of {shards:,} ({done / max(shards, 1):4.0%})  {name}"
    for scope, done in status["unrecorded"].items():
        yield f"model {scope[:16]}: {done:,} of {shards:,}, its first slice is not finished"
