"""Pairs on their way from text to log-probs: a temporary file of tokenized pairs, read in constant memory.

The text of a data set is read, normalised and tokenized once, and lies in an unlinked Arrow file that vanishes with the
process. It is written and read in chunks of some hundred pairs; some thirty bytes a pair are all that stays in memory.
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
from prefscope.errors import ResourceError
from prefscope.flags import join_flags
from prefscope.ledger.file import ExtraKind, store_as, widen
from prefscope.private import make_folder
from prefscope.scoring.sequences import TokenSequence
from prefscope.scoring.tokenization import TokenizedPair

LEAST_SHARED = 16
"""Pairs that share fewer tokens than this have no prompt in common that would be worth keeping together."""
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
    """Each pair in a few numbers."""

    tokens: NDArray[np.int64]
    """Of both sequences, shape (pairs,)."""
    prompts: NDArray[np.uint64]
    """What tells one prompt from another, 0 for one of a few tokens, shape (pairs,)."""
    digests: NDArray[np.uint64]
    """The beginnings of the digests of chosen and rejected, shape (pairs, 2)."""


class SpooledPairs(ABC):
    """Tokenized pairs in a file, to read."""

    num_pairs: int
    chunk_pairs: list[int]
    """Pairs of each chunk."""
    _file: IO[bytes]
    _reader: pa.RecordBatchFileReader

    @property
    @abstractmethod
    def extra_kinds(self) -> dict[str, ExtraKind]:
        """How each of the data set's own columns is stored, by its name in the data set."""

    def close(self) -> None:
        """Close the file; a temporary one's disk space is given back, and what is not written yet is not missed."""
        with suppress(OSError):
            self._file.close()

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the chunks as they were written."""
        for chunk in range(len(self.chunk_pairs)):
            yield self._batch(chunk)

    def _batch(self, chunk: int) -> pa.RecordBatch:
        """Return a chunk.

        Raises:
            ResourceError: It cannot be read; this is no error of what is written meanwhile.
        """
        try:
            return self._reader.get_batch(chunk)
        except (OSError, pa.ArrowException) as error:
            hint = "Run the same command again; a folder of parts has to be planned anew."
            raise ResourceError(f"The tokenized pairs are damaged in chunk {chunk}", hint=hint) from error

    def sequences(self, chunk: int) -> list[TokenSequence]:
        """Return the sequences of a chunk: chosen and rejected of its first pair, of its second, ..."""
        batch = self._batch(chunk)
        sides = (sequences_of(batch, "chosen"), sequences_of(batch, "rejected"))
        return [sequence for pair in zip(*sides, strict=True) for sequence in pair]

    def sequences_of_pairs(self, pairs: NDArray[np.int64]) -> Iterator[TokenSequence]:
        """Yield chosen and rejected of pairs given by their ascending numbers."""
        starts = np.cumsum([0, *self.chunk_pairs])
        chunks = np.searchsorted(starts, pairs, side="right") - 1
        for chunk in np.unique(chunks).tolist():
            sequences = self.sequences(chunk)
            for place in (pairs[chunks == chunk] - starts[chunk]).tolist():
                yield from sequences[2 * place : 2 * place + 2]

    def some_token_ids(self) -> NDArray[np.int32]:
        """Return token ids of the first pairs."""
        return np.concatenate([sequence.token_ids for sequence in self.sequences(0)])


class Spool(SpooledPairs):
    """A growing list of tokenized pairs, then a list to read."""

    def __init__(self, folder: Path | None) -> None:
        """Start an empty spool in a folder (None: the system's temporary folder)."""
        with _told(folder):
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
        """Add pairs, as one chunk unless there are none."""
        if not pairs:
            return
        self.chunk_pairs.append(len(pairs))
        self._facts.append(np.array([_facts(item) for item in pairs], dtype=np.uint64))
        for item in pairs:
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
            self._file.flush()
            self._reader = _opened(self._file)

    def save(self, stream: IO[bytes]) -> None:
        """Write the finished spool to a file that stays (`SavedSpool`)."""
        self._file.seek(0)
        shutil.copyfileobj(self._file, stream)

    @property
    def facts(self) -> PairFacts:
        """What a plan needs to know of all pairs."""
        columns = np.concatenate(self._facts).T if self._facts else np.empty((4, 0), dtype=np.uint64)
        return PairFacts(columns[0].astype(np.int64), columns[1], columns[2:].T)

    @property
    def extra_kinds(self) -> dict[str, ExtraKind]:
        """How each of the data set's own columns is stored, by its name in the data set."""
        return {name: kind or "text" for name, kind in self._kinds.items()}


class SavedSpool(SpooledPairs):
    """A spool that was saved."""

    def __init__(self, file: IO[bytes], chunk_pairs: Sequence[int], kinds: Mapping[str, ExtraKind]) -> None:
        """Take the file over: it is closed with the spool.

        Args:
            file: What was saved, to read at any position.
            chunk_pairs: Of the spool.
            kinds: Its `extra_kinds`.

        Raises:
            OSError: The file cannot be read.
            pyarrow.ArrowException: It is no spool, or was cut.
        """
        self._file = file
        self._reader = _opened(self._file)
        self.chunk_pairs = [*chunk_pairs]
        self.num_pairs = sum(chunk_pairs)
        self._kinds = dict(kinds)

    @property
    def extra_kinds(self) -> dict[str, ExtraKind]:
        """How each of the data set's own columns is stored, by its name in the data set."""
        return self._kinds


def _opened(file: IO[bytes]) -> pa.RecordBatchFileReader:
    """Return what reads a file without Python: Arrow's threads may outlive the interpreter."""
    descriptor = f"/dev/fd/{file.fileno()}"
    return pa.ipc.open_file(pa.OSFile(descriptor) if os.path.exists(descriptor) else file)  # noqa: PTH110 (no path)


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


def _facts(item: TokenizedPair) -> tuple[int, int, int, int]:
    """Return tokens, prompt and digests of a pair, as `PairFacts` has them."""
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
