"""The folder's files: parts under names that tell their content, and what each run is made of.

    plan/                           what there is to do (plan_file.py)
    parts/<scope>/<shard>.parquet   per-token log-probs of a shard's sequences under one model
    runs/<run>.json                 which models make a ledger together, and its manifest

A file appears whole or not at all (places.py). A part's name tells its content, so whoever writes it twice writes the
same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from prefscope.errors import ResourceError
from prefscope.pipeline.logp_source import MaybeLogps
from prefscope.pipeline.parts.places import Place
from prefscope.scoring.sequences import DIGEST_BYTES

FORMAT_VERSION = 1
COLLISIONS = "-collisions"
"""After a model's folder: that of log Σ π² in place of the log-probs."""
_METADATA_KEY = b"prefscope_part"
_DIGEST_KEY = "digest"
_SCHEMA = pa.schema([("digest", pa.binary(DIGEST_BYTES)), ("logps", pa.list_(pa.float32()))])


class DamagedPartError(ResourceError):
    """A part that is not as it was written."""


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
    """The parts and runs of a folder, wherever that is."""

    place: Place

    def listed(self) -> dict[str, set[str]]:
        """Return the names of the shards that have a part, by the models under which they have it."""
        found: dict[str, set[str]] = {}
        for path in self.place.files("parts"):
            scope, _, name = path.rpartition("/")
            if scope:
                found.setdefault(scope, set()).update(_shards_of([name]))
        return found

    def written(self, scope: str, shards: Collection[str]) -> set[str]:
        """Return those shards that have a part under a model, written to its end; values are not read.

        Args:
            scope: The model's scope (`ScoredModel.scope`) in hex digits.
            shards: Their names.
        """
        listed = _shards_of(self.place.files(f"parts/{scope}")).intersection(shards)
        return listed if self.place.is_sound else {shard for shard in listed if self._has_end(scope, shard)}

    def _has_end(self, scope: str, shard: str) -> bool:
        try:
            with self.place.open(part_path(scope, shard)) as stream:
                metadata = pq.read_metadata(stream).metadata or {}
        except (OSError, pa.ArrowException):
            return False
        return _METADATA_KEY in metadata and json.loads(metadata[_METADATA_KEY])["shard"] == shard

    def write_part(self, scope: str, shard: str, found: Mapping[bytes, MaybeLogps]) -> None:
        """Keep the log-probs of all sequences of a shard, by their digests.

        Raises:
            ResourceError: It cannot be written.
        """
        content = {"format": FORMAT_VERSION, "scope": scope, "shard": shard, "sequences": len(found)}
        schema = _SCHEMA.with_metadata({_METADATA_KEY: json.dumps(content).encode()})
        table = pa.table({"digest": [*found], "logps": [*found.values()]}, schema=schema)
        stream = pa.BufferOutputStream()
        pq.write_table(table, stream, compression="zstd", use_dictionary=False, write_page_checksum=True)
        self.place.publish(part_path(scope, shard), memoryview(stream.getvalue()))

    def read_part(self, scope: str, shard: str) -> dict[bytes, MaybeLogps]:
        """Return the log-probs of a shard's sequences by their digests.

        Raises:
            DamagedPartError: It is damaged.
            ResourceError: There is no such part, or it cannot be fetched.
        """
        path = part_path(scope, shard)
        try:
            with self.place.open(path) as stream:
                table = pq.read_table(stream, page_checksum_verification=True)
            content = json.loads((table.schema.metadata or {})[_METADATA_KEY])
            sound = (content["scope"], content["shard"], content["sequences"]) == (scope, shard, table.num_rows)
        except FileNotFoundError as error:
            hint = "Run the slices that are left; `prefscope parts status` counts them."
            raise ResourceError("This part is not there", where=self.place.shown(path), hint=hint) from error
        except (OSError, pa.ArrowException, KeyError, ValueError):
            sound = False
        if not sound:
            hint = "`prefscope parts verify --delete` removes such parts; then run their slices again."
            raise DamagedPartError("This part is damaged", where=self.place.shown(path), hint=hint)
        lists = table["logps"].combine_chunks()
        flat, offsets = lists.values.to_numpy(), lists.offsets.to_numpy()
        known = lists.is_valid().to_pylist()
        vectors = (flat[offsets[i] : offsets[i + 1]] if is_known else None for i, is_known in enumerate(known))
        return dict(zip(table["digest"].to_pylist(), vectors, strict=True))

    def publish_run(self, name: str, scopes: Mapping[str, str], manifest: Mapping[str, Any]) -> None:
        """Keep what makes a ledger, unless it is there.

        Raises:
            ResourceError: It cannot be written.
        """
        if f"{name}.json" not in self.place.files("runs"):
            self.place.publish(f"runs/{name}.json", sealed_json({"scopes": scopes, "manifest": manifest}, indent=1))

    def runs(self) -> list[RunRecord]:
        """Return what makes the ledgers of this folder.

        Raises:
            ResourceError: A record is damaged.
        """
        found = []
        for name in self.place.files("runs"):
            if not name.endswith(".json"):
                continue
            try:
                with self.place.open(f"runs/{name}") as stream:
                    value = unsealed(json.loads(stream.read()))
                record = RunRecord(name.removesuffix(".json"), dict(value["scopes"]), dict(value["manifest"]))
            except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                hint = "Delete it, and run one of the slices again: it writes the file anew."
                where = self.place.shown(f"runs/{name}")
                raise ResourceError("This record of a run is damaged", where=where, hint=hint) from error
            found.append(record)
        return found


def _shards_of(names: Iterable[str]) -> set[str]:
    """Return the shards of which these are the parts; files that are still being written are none."""
    return {name.removesuffix(".parquet") for name in names if name.endswith(".parquet") and name[0] != "."}


def sealed_json(value: Mapping[str, Any], indent: int | None = None) -> bytes:
    """Return JSON that carries a digest of its own values."""
    return json.dumps({**value, _DIGEST_KEY: _digest(value)}, ensure_ascii=False, indent=indent).encode()


def unsealed(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was sealed, without the digest; what is from before there was one is returned as it is.

    Raises:
        ValueError: It is not as it was written.
    """
    content = {key: item for key, item in value.items() if key != _DIGEST_KEY}
    if value.get(_DIGEST_KEY, found := _digest(content)) != found:
        raise ValueError("the digest is of other values")
    return content


def _digest(value: Mapping[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(value, ensure_ascii=False).encode(), digest_size=16).hexdigest()


def part_path(scope: str, shard: str) -> str:
    """Return where the part of a shard under a model is.

    Args:
        scope: The model's scope (`ScoredModel.scope`) in hex digits.
        shard: The shard's name.
    """
    return f"parts/{scope}/{shard}.parquet"
