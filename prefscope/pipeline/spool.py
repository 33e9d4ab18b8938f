"""Pairs on their way from text to log-probs: a temporary file of tokenized pairs, read in constant memory.

The text of a data set is read, normalised and tokenized once. Only digests and lengths stay in memory; the rest lies in
an unlinked Arrow file that vanishes with the process.
"""

from __future__ import annotations

import json
import tempfile
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from prefscope.data.records import Json, readable
from prefscope.errors import ResourceError
from prefscope.ledger.file import ExtraKind, store_as, widen
from prefscope.scoring.sequences import DIGEST_BYTES, TokenSequence
from prefscope.scoring.tokenization import TokenizedPair

_SCHEMA = pa.schema(
    [
        ("row", pa.int64()),
        ("line", pa.int64()),
        ("pair_id", pa.string()),
        ("flags", pa.string()),
        ("prompt", pa.string()),
        ("chosen", pa.string()),
        ("rejected", pa.string()),
        ("source_json", pa.string()),
        ("columns_json", pa.string()),
        ("chosen_ids", pa.list_(pa.int32())),
        ("rejected_ids", pa.list_(pa.int32())),
        ("chosen_start", pa.int32()),
        ("rejected_start", pa.int32()),
    ]
)


class Spool:
    """A growing list of tokenized pairs, then a list to read."""

    def __init__(self, folder: Path | None) -> None:
        """Start an empty spool in a folder (None: the system's temporary folder)."""
        with _told(folder):
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (closed with the spool)
            options = pa.ipc.IpcWriteOptions(compression="zstd")
            self._writer = pa.ipc.new_file(self._file, _SCHEMA, options=options)
        self._folder = folder
        self._reader: pa.RecordBatchFileReader | None = None
        self._digests = bytearray()
        self._lengths = array("q")
        self._kinds: dict[str, ExtraKind | None] = {}
        self.num_pairs = 0

    def write(self, pairs: Sequence[TokenizedPair]) -> None:
        """Add pairs, as one batch."""
        for item in pairs:
            for sequence in (item.chosen, item.rejected):
                self._digests += sequence.digest()
                self._lengths.append(len(sequence.token_ids))
            for name, value in item.pair.columns.items():
                self._kinds[name] = widen(self._kinds.get(name), value)
        columns = [_record(item) for item in pairs]
        with _told(self._folder):
            self._writer.write_batch(pa.RecordBatch.from_pylist(columns, schema=_SCHEMA))
        self.num_pairs += len(pairs)

    def finish(self) -> None:
        """End writing, so that the spool can be read."""
        with _told(self._folder):
            self._writer.close()
            self._file.seek(0)
            self._reader = pa.ipc.open_file(self._file)

    def close(self) -> None:
        """Give the disk space back."""
        self._file.close()

    @property
    def digests(self) -> NDArray[np.void]:
        """One digest a sequence: chosen and rejected of pair 0, of pair 1, ... Shape (2 × pairs,)."""
        return np.frombuffer(bytes(self._digests), dtype=f"V{DIGEST_BYTES}")

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each sequence, in the order of `digests`."""
        return np.frombuffer(self._lengths, dtype=np.int64)

    @property
    def extra_kinds(self) -> dict[str, ExtraKind]:
        """How each of the data set's own columns is stored, by its name in the data set."""
        return {name: kind or "text" for name, kind in self._kinds.items()}

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the batches as they were written."""
        reader = cast("pa.RecordBatchFileReader", self._reader)
        for index in range(reader.num_record_batches):
            yield reader.get_batch(index)

    def sequences(self) -> Iterator[TokenSequence]:
        """Yield every sequence, in the order of `digests`."""
        for batch in self.batches():
            sides = (sequences_of(batch, "chosen"), sequences_of(batch, "rejected"))
            for pair in zip(*sides, strict=True):
                yield from pair


def sequences_of(batch: pa.RecordBatch, side: str) -> list[TokenSequence]:
    """Return the sequences of one side of a batch of the spool."""
    lists = batch.column(f"{side}_ids")
    flat, offsets = lists.flatten().to_numpy(), lists.offsets.to_numpy()
    offsets = offsets - offsets[0]
    starts = batch.column(f"{side}_start").to_pylist()
    return [TokenSequence(flat[offsets[i] : offsets[i + 1]], start) for i, start in enumerate(starts)]


def extras_of(batch: pa.RecordBatch, kinds: Mapping[str, ExtraKind]) -> dict[str, list[Json]]:
    """Return the data set's own columns of a batch as the ledger stores them, by their names in the data set."""
    rows = [json.loads(text) for text in batch.column("columns_json").to_pylist()]
    return {name: [store_as(kind, row.get(name)) for row in rows] for name, kind in kinds.items()}


@contextmanager
def _told(folder: Path | None) -> Iterator[None]:
    """Turn what the disk raises into one sentence."""
    try:
        yield
    except OSError as error:
        raise ResourceError(
            f"The temporary file of tokenized pairs cannot be written ({error.strerror or error})",
            where=str(folder or tempfile.gettempdir()),
            hint="Free disk space, or choose another folder with --cache DIR.",
        ) from error


def _record(item: TokenizedPair) -> dict[str, Any]:
    pair = item.pair
    return {
        "row": pair.row,
        "line": pair.line,
        "pair_id": pair.pair_id,
        "flags": ";".join(item.flags),
        "prompt": readable(pair.prompt),
        "chosen": readable(pair.chosen),
        "rejected": readable(pair.rejected),
        "source_json": json.dumps(pair.source, ensure_ascii=False),
        "columns_json": json.dumps(pair.columns, ensure_ascii=False),
        "chosen_ids": item.chosen.token_ids,
        "rejected_ids": item.rejected.token_ids,
        "chosen_start": item.chosen.completion_start,
        "rejected_start": item.rejected.completion_start,
    }
