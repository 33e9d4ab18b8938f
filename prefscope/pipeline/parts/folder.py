"""The files of a folder of parts: parts, named by their content, and records of runs.

    plan/                           the plan (plan_file.py)
    parts/<scope>/<shard>.parquet   per-token log-probs of a shard's sequences under one model
    runs/<run>.json                 record of a run: the models of a ledger, and its manifest

Files are written atomically (places.py). As a part's name identifies its content, a part that is written twice has the
same content both times.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from prefscope.errors import UNREADABLE, ResourceError
from prefscope.pipeline.logp_source import MaybeLogps
from prefscope.pipeline.parts.places import Place
from prefscope.pipeline.parts.validation import is_record
from prefscope.scoring.sequences import DIGEST_BYTES

FORMAT_VERSION = 1
COLLISIONS = "-collisions"
"""Suffix of the folder with a model's log Σ π²."""
_METADATA_KEY = b"prefscope_part"
_DIGEST_KEY = "digest"
_SCHEMA = pa.schema([("digest", pa.binary(DIGEST_BYTES)), ("logps", pa.list_(pa.float32()))])


class DamagedPartError(ResourceError):
    """A part whose content is not as it was written."""


@dataclass(frozen=True, slots=True)
class RunRecord:
    """The record of a run: which models make up a ledger."""

    name: str
    scopes: Mapping[str, str]
    """Folder of the parts, by role."""
    manifest: Mapping[str, Any]
    """The ledger's manifest."""


@dataclass(frozen=True, slots=True)
class PartsFolder:
    """The parts and records of runs in a folder or an object store."""

    place: Place

    def listed(self) -> dict[str, set[str]]:
        """Return the names of the shards that have a part, by scope."""
        found: dict[str, set[str]] = {}
        for path in self.place.files("parts"):
            scope, _, name = path.rpartition("/")
            if scope:
                found.setdefault(scope, set()).update(_shards_of([name]))
        return found

    def written(self, scope: str, shards: Collection[str]) -> set[str]:
        """Return the shards that have a complete part under a model; does not read the values.

        Args:
            scope: The model's scope (`ScoredModel.scope`) in hex digits.
            shards: Names of the shards.
        """
        listed = _shards_of(self.place.files(f"parts/{scope}")).intersection(shards)
        return listed if self.place.is_sound else {shard for shard in listed if self._has_end(scope, shard)}

    def _has_end(self, scope: str, shard: str) -> bool:
        try:
            with self.place.open(part_path(scope, shard)) as stream:
                metadata = pq.read_metadata(stream).metadata or {}
            return bool(json.loads(metadata[_METADATA_KEY])["shard"] == shard)
        except (OSError, pa.ArrowException, KeyError, TypeError, *UNREADABLE):
            return False

    def write_part(self, scope: str, shard: str, found: Mapping[bytes, MaybeLogps]) -> None:
        """Write the part of a shard: the log-probs of all its sequences, by digest.

        Raises:
            ResourceError: If the part cannot be written.
        """
        content = {"format": FORMAT_VERSION, "scope": scope, "shard": shard, "sequences": len(found)}
        schema = _SCHEMA.with_metadata({_METADATA_KEY: json.dumps(content).encode()})
        table = pa.table({"digest": [*found], "logps": [*found.values()]}, schema=schema)
        stream = pa.BufferOutputStream()
        pq.write_table(table, stream, compression="zstd", use_dictionary=False, write_page_checksum=True)
        self.place.publish(part_path(scope, shard), memoryview(stream.getvalue()))

    def read_part(self, scope: str, shard: str) -> dict[bytes, MaybeLogps]:
        """Return the log-probs of a shard's sequences, by digest.

        Raises:
            DamagedPartError: If the part is damaged.
            ResourceError: If there is no such part, or it cannot be fetched.
        """
        path = part_path(scope, shard)
        try:
            with self.place.open(path) as stream:
                table = pq.read_table(stream, page_checksum_verification=True)
            table.validate(full=True)
            content = json.loads((table.schema.metadata or {})[_METADATA_KEY])
            sound = (content["scope"], content["shard"], content["sequences"]) == (scope, shard, table.num_rows)
            sound &= table.schema.equals(_SCHEMA) and not table["digest"].null_count
            lists = table["logps"].combine_chunks()
            sound &= not lists.flatten().null_count
        except FileNotFoundError as error:
            hint = "Run the remaining slices; `prefscope parts status` counts the missing parts."
            raise ResourceError("This part is missing", where=self.place.shown(path), hint=hint) from error
        except (OSError, pa.ArrowException, KeyError, TypeError, *UNREADABLE):
            sound = False
        if not sound:
            raise self.damaged_part(scope, shard)
        flat, offsets = lists.values.to_numpy(), lists.offsets.to_numpy()
        known = lists.is_valid().to_pylist()
        vectors = (flat[offsets[i] : offsets[i + 1]] if is_known else None for i, is_known in enumerate(known))
        return dict(zip(table["digest"].to_pylist(), vectors, strict=True))

    def damaged_part(self, scope: str, shard: str) -> DamagedPartError:
        """Return the error for a damaged part."""
        hint = "Delete damaged parts with `prefscope parts verify --delete`, then run their slices again."
        return DamagedPartError("This part is damaged", where=self.place.shown(part_path(scope, shard)), hint=hint)

    def damaged_record(self, run: str) -> ResourceError:
        """Return the error for a damaged record of a run."""
        hint = "Delete it, and run one of the slices again to recreate it."
        return ResourceError("This record of a run is damaged", where=self.place.shown(f"runs/{run}.json"), hint=hint)

    def publish_run(self, name: str, scopes: Mapping[str, str], manifest: Mapping[str, Any]) -> None:
        """Write the record of a run, unless it exists.

        Raises:
            ResourceError: If the record cannot be written.
        """
        if f"{name}.json" not in self.place.files("runs"):
            self.place.publish(f"runs/{name}.json", sealed_json({"scopes": scopes, "manifest": manifest}, indent=1))

    def runs(self) -> list[RunRecord]:
        """Return the records of all runs in this folder.

        Raises:
            ResourceError: If a record is damaged.
        """
        found = []
        for name in self.place.files("runs"):
            if not name.endswith(".json"):
                continue
            run = name.removesuffix(".json")
            try:
                with self.place.open(f"runs/{name}") as stream:
                    value = unsealed(json.loads(stream.read()))
                record = RunRecord(run, value["scopes"], value["manifest"])
            except (OSError, KeyError, TypeError, AttributeError, *UNREADABLE) as error:
                raise self.damaged_record(run) from error
            if not is_record(record.scopes, record.manifest):
                raise self.damaged_record(run)
            found.append(record)
        return found


def _shards_of(names: Iterable[str]) -> set[str]:
    """Return the names of the shards from file names, ignoring files that are still being written."""
    return {name.removesuffix(".parquet") for name in names if name.endswith(".parquet") and name[0] != "."}


def sealed_json(value: Mapping[str, Any], indent: int | None = None) -> bytes:
    """Return JSON that includes a digest of its values."""
    return json.dumps({**value, _DIGEST_KEY: _digest(value)}, ensure_ascii=False, indent=indent).encode()


def unsealed(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of sealed JSON without the digest; JSON of older versions, without a digest, is accepted.

    Raises:
        ValueError: If the digest does not match the values.
    """
    content = {key: item for key, item in value.items() if key != _DIGEST_KEY}
    if value.get(_DIGEST_KEY, found := _digest(content)) != found:
        raise ValueError("the digest does not match the values")
    return content


def _digest(value: Mapping[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(value, ensure_ascii=False).encode(), digest_size=16).hexdigest()


def part_path(scope: str, shard: str) -> str:
    """Return the path of the part of a shard under a model.

    Args:
        scope: The model's scope (`ScoredModel.scope`) in hex digits.
        shard: The shard's name.
    """
    return f"parts/{scope}/{shard}.parquet"
