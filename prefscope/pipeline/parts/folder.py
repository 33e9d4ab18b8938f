"""The folder's files: parts under names that tell their content, and what each run is made of.

    plan/                           what there is to do (plan_file.py)
    parts/<scope>/<shard>.parquet   per-token log-probs of a shard's sequences under one model
    runs/<run>.json                 which models make a ledger together, and its manifest

A file appears whole or not at all: it is written under another name, forced to the disk and renamed. A part's name
tells its content, so whoever writes it twice writes the same.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from prefscope.errors import ResourceError
from prefscope.pipeline.assembly import Found
from prefscope.scoring.sequences import DIGEST_BYTES

FORMAT_VERSION = 1
COLLISIONS = "-collisions"
"""After a model's folder: that of log Σ π² in place of the log-probs."""
_METADATA_KEY = b"prefscope_part"
_SCHEMA = pa.schema([("digest", pa.binary(DIGEST_BYTES)), ("logps", pa.list_(pa.float32()))])


@dataclass(frozen=True, slots=True)
class RunRecord:
    """Which models make a ledger together."""

    name: str
    scopes: Mapping[str, str]
    """The folder of the parts, by role."""
    manifest: Mapping[str, Any]
    """The ledger's."""


@dataclass(frozen=True, slots=True)
class PartsFolder:
    """The parts and runs of a folder."""

    path: Path

    @property
    def plan_path(self) -> Path:
        """Where the plan is."""
        return self.path / "plan"

    def part_path(self, scope: str, shard: str) -> Path:
        """Return where the part of a shard under a model is.

        Args:
            scope: The model's scope (`ScoredModel.scope`) in hex digits.
            shard: The shard's name.
        """
        return self.path / "parts" / scope / f"{shard}.parquet"

    def scopes(self) -> list[str]:
        """Return the models of which there are parts."""
        folder = self.path / "parts"
        return sorted(one.name for one in folder.iterdir() if one.is_dir()) if folder.is_dir() else []

    def listed(self, scope: str) -> set[str]:
        """Return the names of the shards that have a part under a model."""
        folder = self.path / "parts" / scope
        names = [one.name for one in folder.iterdir()] if folder.is_dir() else []
        return {name.removesuffix(".parquet") for name in names if name.endswith(".parquet") and name[0] != "."}

    def has_part(self, scope: str, shard: str) -> bool:
        """Return whether there is a part that was written to its end; its values are not read."""
        try:
            metadata = pq.read_metadata(self.part_path(scope, shard)).metadata or {}
        except (OSError, pa.ArrowException):
            return False
        return _METADATA_KEY in metadata and json.loads(metadata[_METADATA_KEY])["shard"] == shard

    def write_part(self, scope: str, shard: str, found: Mapping[bytes, Found]) -> None:
        """Keep the log-probs of all sequences of a shard, by their digests.

        Raises:
            ResourceError: The disk is full or the folder cannot be written.
        """
        content = {"format": FORMAT_VERSION, "scope": scope, "shard": shard, "sequences": len(found)}
        schema = _SCHEMA.with_metadata({_METADATA_KEY: json.dumps(content).encode()})
        table = pa.table({"digest": [*found], "logps": [*found.values()]}, schema=schema)

        def fill(stream: IO[bytes]) -> None:
            pq.write_table(table, stream, compression="zstd", use_dictionary=False, write_page_checksum=True)

        self._publish(self.part_path(scope, shard), fill)

    def read_part(self, scope: str, shard: str) -> dict[bytes, Found]:
        """Return the log-probs of a shard's sequences by their digests.

        Raises:
            ResourceError: There is no such part, or it is damaged.
        """
        path = self.part_path(scope, shard)
        try:
            table = pq.read_table(path, page_checksum_verification=True)
            content = json.loads((table.schema.metadata or {})[_METADATA_KEY])
            sound = (content["scope"], content["shard"], content["sequences"]) == (scope, shard, table.num_rows)
        except FileNotFoundError as error:
            hint = "Run the slices that are left; `prefscope parts status` counts them."
            raise ResourceError("This part is not there", where=str(path), hint=hint) from error
        except (OSError, pa.ArrowException, KeyError, ValueError):
            sound = False
        if not sound:
            hint = "`prefscope parts verify --delete` removes such parts; then run their slices again."
            raise ResourceError("This part is damaged", where=str(path), hint=hint)
        lists = table["logps"].combine_chunks()
        flat, offsets = lists.values.to_numpy(), lists.offsets.to_numpy()
        known = lists.is_valid().to_pylist()
        vectors = (flat[offsets[i] : offsets[i + 1]] if is_known else None for i, is_known in enumerate(known))
        return dict(zip(table["digest"].to_pylist(), vectors, strict=True))

    def publish_run(self, name: str, scopes: Mapping[str, str], manifest: Mapping[str, Any]) -> None:
        """Keep what makes a ledger, unless it is there.

        Raises:
            ResourceError: The disk is full or the folder cannot be written.
        """
        path = self.path / "runs" / f"{name}.json"
        if not path.exists():
            text = json.dumps({"scopes": scopes, "manifest": manifest}, ensure_ascii=False, indent=1)
            self._publish(path, lambda stream: stream.write(text.encode()))

    def runs(self) -> list[RunRecord]:
        """Return what makes the ledgers of this folder.

        Raises:
            ResourceError: A record is damaged.
        """
        found = []
        for path in sorted((self.path / "runs").glob("*.json")):
            try:
                value = json.loads(path.read_text(encoding="utf-8"))
                found.append(RunRecord(path.stem, dict(value["scopes"]), dict(value["manifest"])))
            except (OSError, ValueError, KeyError, TypeError) as error:
                hint = "Delete it, and run one of the slices again: it writes the file anew."
                raise ResourceError("This record of a run is damaged", where=str(path), hint=hint) from error
        return found

    def _publish(self, path: Path, fill: Callable[[IO[bytes]], object]) -> None:
        """Write a file under another name and give it its own; what a killed writer of it left goes."""
        temporary = path.with_name(f".{path.name}.{writer_name()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with temporary.open("wb") as stream:
                    fill(stream)
                    stream.flush()
                    os.fsync(stream.fileno())
                temporary.replace(path)
            finally:
                remove(path.parent.glob(f".{path.name}.*"))
        except OSError as error:
            if isinstance(error, FileNotFoundError) and path.exists():
                return  # another writer of the same content was quicker, and took this one's file for a leftover
            raise refusal(path, error) from error


def writer_name() -> str:
    """Return what tells the files that this process is writing from those of others."""
    return f"{socket.gethostname()}-{os.getpid()}.writing"


def remove(paths: Iterable[Path]) -> None:
    """Delete files, some of which may be gone by now."""
    for path in paths:
        path.unlink(missing_ok=True)


def refusal(path: Path, error: OSError) -> ResourceError:
    """Return the sentence for a file that the disk refuses."""
    return ResourceError(
        f"The folder of parts cannot be written ({error.strerror or error})",
        where=str(path),
        hint="Free disk space or choose another --parts; what was scored is kept.",
    )
