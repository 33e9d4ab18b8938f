"""The spool: a temporary file of tokenized pairs, read and written in constant memory.

The texts of a data set are read, normalised and tokenized once, and kept in an unlinked Arrow file that disappears with
the process. It is written and read in chunks of some hundred pairs; about thirty bytes per pair stay in memory.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from prefscope.data.records import Json, readable
from prefscope.errors import UNREADABLE, ResourceError
from prefscope.flags import join_flags
from prefscope.ledger.file import ExtraKind, store_as, widen
from prefscope.private import make_folder
from prefscope.scoring.sequences import TokenSequence
from prefscope.scoring.tokenization import TokenizedPair

LEAST_SHARED = 16
"""Prompts with fewer tokens than this are not worth keeping together."""
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


@dataclass(frozen=True, slots=True)
class PairFacts:
    """Numbers per pair, for planning."""

    tokens: NDArray[np.int64]
    """Tokens of both sequences, shape (pairs,)."""
    prompts: NDArray[np.uint64]
    """Hash of the prompt, or 0 if it is shorter than `LEAST_SHARED`; shape (pairs,)."""
    digests: NDArray[np.uint64]
    """First 8 bytes of the digests of chosen and rejected, shape (pairs, 2)."""


class SpooledPairs(ABC):
    """Tokenized pairs in a file, for reading."""

    num_pairs: int
    chunk_pairs: list[int]
    """Number of pairs in each chunk."""
    _file: IO[bytes]
    _reader: pa.RecordBatchFileReader

    @property
    @abstractmethod
    def extra_kinds(self) -> dict[str, ExtraKind]:
        """Kinds of the data set's own columns, by name in the data set."""

    def close(self) -> None:
        """Close the file and free its disk space if it is temporary; errors of pending writes are ignored."""
        with suppress(OSError):
            self._file.close()

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the chunks in order."""
        for chunk in range(len(self.chunk_pairs)):
            yield self._batch(chunk)

    def _batch(self, chunk: int) -> pa.RecordBatch:
        """Return a chunk.

        Raises:
            ResourceError: If it cannot be read.
        """
        try:
            batch = self._reader.get_batch(chunk)
            batch.validate(full=True)
            sound = batch.num_rows == self.chunk_pairs[chunk] and _is_sound(batch)
        except (OSError, pa.ArrowException, *UNREADABLE) as error:
            raise _damaged(chunk) from error
        if not sound:
            raise _damaged(chunk)
        return batch

    def sequences(self, chunk: int) -> list[TokenSequence]:
        """Return the sequences of a chunk, alternating between chosen and rejected."""
        batch = self._batch(chunk)
        sides = (sequences_of(batch, "chosen"), sequences_of(batch, "rejected"))
        return [sequence for pair in zip(*sides, strict=True) for sequence in pair]

    def sequences_of_pairs(self, pairs: NDArray[np.int64]) -> Iterator[TokenSequence]:
        """Yield chosen and rejected of the pairs with some numbers, which must be ascending."""
        starts = np.cumsum([0, *self.chunk_pairs])
        chunks = np.searchsorted(starts, pairs, side="right") - 1
        for chunk in np.unique(chunks).tolist():
            sequences = self.sequences(chunk)
            for place in (pairs[chunks == chunk] - starts[chunk]).tolist():
                yield from sequences[2 * place : 2 * place + 2]

    def some_token_ids(self) -> NDArray[np.int32]:
        """Return the token ids of the first chunk of pairs."""
        return np.concatenate([sequence.token_ids for sequence in self.sequences(0)])


class Spool(SpooledPairs):
    """A spool that is first written, then read."""

    def __init__(self, folder: Path | None) -> None:
        """Create an empty spool in a folder (None: the system's temporary folder)."""
        with _write_errors(folder):
            if folder is not None:
                make_folder(folder)
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (closed with the spool)
            options = pa.ipc.IpcWriteOptions(compression="zstd")
            self._writer = pa.ipc.new_file(self._file, _SCHEMA, options=options)
        self._folder = folder
        self.chunk_pairs = []
        self._facts: list[NDArray[np.uint64]] = []
        self._kinds: dict[str, ExtraKind | None] = {}
        self.num_pairs = 0

    def write(self, pairs: Sequence[TokenizedPair]) -> None:
        """Append pairs as one chunk."""
        if not pairs:
            return
        self.chunk_pairs.append(len(pairs))
        self._facts.append(np.array([_facts(item) for item in pairs], dtype=np.uint64))
        for item in pairs:
            for name, value in item.pair.columns.items():
                self._kinds[name] = widen(self._kinds.get(name), value)
        columns = [_record(item) for item in pairs]
        with _write_errors(self._folder):
            self._writer.write_batch(pa.RecordBatch.from_pylist(columns, schema=_SCHEMA))
        self.num_pairs += len(pairs)

    def finish(self) -> None:
        """Finish writing and open the spool for reading."""
        with _write_errors(self._folder):
            self._writer.close()
            self._file.flush()
            self._reader = _opened(self._file)

    def save(self, stream: IO[bytes]) -> None:
        """Copy the finished spool to a stream, to be read as a `SavedSpool`."""
        self._file.seek(0)
        shutil.copyfileobj(self._file, stream)

    @property
    def facts(self) -> PairFacts:
        """The numbers per pair, for planning."""
        columns = np.concatenate(self._facts).T if self._facts else np.empty((4, 0), dtype=np.uint64)
        return PairFacts(columns[0].astype(np.int64), columns[1], columns[2:].T)

    @property
    def extra_kinds(self) -> dict[str, ExtraKind]:
        """Kinds of the data set's own columns, by name in the data set."""
        return {name: kind or "text" for name, kind in self._kinds.items()}


class SavedSpool(SpooledPairs):
    """A spool that has been saved to a file."""

    def __init__(self, file: IO[bytes], chunk_pairs: Sequence[int], kinds: Mapping[str, ExtraKind]) -> None:
        """Open a saved spool; the file is closed with it.

        Args:
            file: The saved spool, seekable.
            chunk_pairs: The spool's `chunk_pairs`.
            kinds: The spool's `extra_kinds`.

        Raises:
            OSError: If the file cannot be read.
            pyarrow.ArrowException: If it is not a spool, or is truncated.
        """
        self._file = file
        self._reader = _opened(self._file)
        self.chunk_pairs = [*chunk_pairs]
        self.num_pairs = sum(chunk_pairs)
        self._kinds = dict(kinds)

    @property
    def extra_kinds(self) -> dict[str, ExtraKind]:
        """Kinds of the data set's own columns, by name in the data set."""
        return self._kinds


def _opened(file: IO[bytes]) -> pa.RecordBatchFileReader:
    """Open a file for reading without Python: Arrow's threads may outlive the interpreter."""
    descriptor = f"/dev/fd/{file.fileno()}"
    return pa.ipc.open_file(pa.OSFile(descriptor) if os.path.exists(descriptor) else file)  # noqa: PTH110 (no path)


def sequences_of(batch: pa.RecordBatch, side: str) -> list[TokenSequence]:
    """Return the sequences of one side of a chunk."""
    lists = batch.column(f"{side}_ids")
    flat, offsets = lists.flatten().to_numpy(), lists.offsets.to_numpy()
    offsets = offsets - offsets[0]
    starts = batch.column(f"{side}_start").to_pylist()
    return [TokenSequence(flat[offsets[i] : offsets[i + 1]], start) for i, start in enumerate(starts)]


def extras_of(batch: pa.RecordBatch, kinds: Mapping[str, ExtraKind]) -> dict[str, list[Json]]:
    """Return the data set's own columns of a chunk as stored in the ledger, by name in the data set."""
    try:
        rows = [json.loads(text) for text in batch.column("columns_json").to_pylist()]
        return {name: [store_as(kind, row.get(name)) for row in rows] for name, kind in kinds.items()}
    except (AttributeError, TypeError, *UNREADABLE) as error:
        hint = "Run the same command again; a folder of parts has to be planned again first."
        raise ResourceError("The data set's own columns of the tokenized pairs are damaged", hint=hint) from error


def _is_sound(batch: pa.RecordBatch) -> bool:
    """Return whether a chunk has the expected columns and no missing values."""
    if not batch.schema.equals(_SCHEMA) or any(column.null_count for column in batch.columns):
        return False
    sides = [(batch.column(f"{side}_start"), batch.column(f"{side}_ids")) for side in ("chosen", "rejected")]
    return all((starts.to_numpy() >= 0).all() and not ids.flatten().null_count for starts, ids in sides)


def _damaged(chunk: int) -> ResourceError:
    hint = "Run the same command again; a folder of parts has to be planned again first."
    return ResourceError(f"The tokenized pairs are damaged in chunk {chunk}", hint=hint)


@contextmanager
def _write_errors(folder: Path | None) -> Iterator[None]:
    """Turn an `OSError` into a `ResourceError`."""
    try:
        yield
    except OSError as error:
        raise ResourceError(
            f"The temporary file of tokenized pairs cannot be written ({error.strerror or error})",
            where=str(folder or tempfile.gettempdir()),
            hint="Free disk space, or choose another folder with --cache DIR.",
        ) from error


def _facts(item: TokenizedPair) -> tuple[int, int, int, int]:
    """Return a pair's number of tokens, prompt hash and beginnings of digests, as in `PairFacts`."""
    ids, start = item.chosen.token_ids, item.chosen.completion_start
    prompt = hashlib.blake2b(ids[:start].tobytes(), digest_size=8).digest() if start >= LEAST_SHARED else bytes(8)
    digests = (item.chosen.digest(), item.rejected.digest())
    first, second, third = (int.from_bytes(digest[:8], "little") for digest in (prompt, *digests))
    return len(ids) + len(item.rejected.token_ids), first, second, third


def _record(item: TokenizedPair) -> dict[str, Any]:
    pair = item.pair
    return {
        "row": pair.row,
        "line": pair.line,
        "pair_id": pair.pair_id,
        "flags": join_flags(item.flags),
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
