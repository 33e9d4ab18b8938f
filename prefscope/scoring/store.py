"""The log-prob store: caches scored sequences, so that nothing is computed twice.

An SQLite file has a row for every scored sequence, and the plans of unfinished runs. A key identifies everything that
determines a number (see `sequence_key`), so rows never become stale. A batch is committed in one transaction, so a
killed run loses at most the current batch. Each row has a checksum; damaged rows count as missing and are computed
again. This module does not import torch: a UI can look up log-probs while a worker writes.
"""

from __future__ import annotations

import hashlib
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from prefscope.errors import ResourceError
from prefscope.scoring.store_file import Layout, advise, open_database, set_aside_files

KEY_BYTES = 16
SCHEMA_VERSION = 2
MAX_PARAMETERS = 500  # keys per SELECT; old SQLite builds allow 999
LOGPS = "logps"

_SCHEMA = """
CREATE TABLE sequences (
    id INTEGER PRIMARY KEY, key BLOB NOT NULL, names TEXT NOT NULL, vectors BLOB NOT NULL, checksum INTEGER NOT NULL
);
CREATE UNIQUE INDEX sequences_by_key ON sequences (key);
CREATE TABLE plans (
    run_key BLOB NOT NULL, role TEXT NOT NULL, part INTEGER NOT NULL, batches BLOB NOT NULL,
    PRIMARY KEY (run_key, role, part)
);
CREATE TABLE verdicts (key BLOB PRIMARY KEY, verdict TEXT NOT NULL);
CREATE TABLE files (path TEXT PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, digest TEXT NOT NULL);
"""
_INSERT = "INSERT {} INTO sequences (key, names, vectors, checksum) VALUES (?, ?, ?, ?)"


def sequence_key(scope: bytes, digest: bytes) -> bytes:
    """Return the store key of a sequence's log-probs.

    Args:
        scope: Hash of everything but the tokens that determines a number (`engine.compute_scope`).
        digest: `TokenSequence.digest()`.
    """
    return hashlib.blake2b(scope + digest, digest_size=KEY_BYTES).digest()


def collision_key(scope: bytes, digest: bytes) -> bytes:
    """Return the store key of a sequence's log Σ π², which WPO needs; arguments as in `sequence_key`."""
    return sequence_key(scope + b"collisions", digest)


def divergences_key(scope: bytes, digest: bytes, ref_scope: bytes) -> bytes:
    """Return the store key of a sequence's KL divergences from the reference with a scope; else as `sequence_key`."""
    return sequence_key(scope + b"divergences" + ref_scope, digest)


def alternatives_key(scope: bytes, digest: bytes, count: int) -> bytes:
    """Return the store key of a sequence's top tokens; `count` is how many are kept, the rest as in `sequence_key`."""
    return sequence_key(scope + b"alternatives%d" % count, digest)


class LogpStore:
    """An open log-prob store; use it as a context manager."""

    def __init__(self, path: Path | None) -> None:
        """Open the store in a file, or in memory (None).

        A missing file is created. A file that is damaged, not a database, or of an older version is set aside, as
        reported in `set_aside`; this never happens to a file that is busy or cannot be read.
        """
        self.path = path
        with _store_errors(path):
            self._file = open_database(path, Layout(SCHEMA_VERSION, _SCHEMA))
        self._db = self._file.connection
        self.journal = self._file.journal
        self.set_aside: str | None = self._file.set_aside
        """A sentence about the file that was set aside, to be shown to the user."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Hold the write lock from the start, as a plain BEGIN would fail when a read is followed by a write."""
        with _store_errors(self.path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                if self._db.in_transaction:  # SQLite has already rolled back if the disk is full
                    self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    # Scored sequences

    def lookup(self, keys: Iterable[bytes]) -> dict[bytes, NDArray[np.float32]]:
        """Return the per-token log-probs in nats of those sequences that are stored; shape (num_scored,) each."""
        return {
            key: np.frombuffer(vectors, dtype="<f4").astype(np.float32, copy=False)
            for key, vectors in self._sound_rows(set(keys))
        }

    def missing(self, keys: Iterable[bytes]) -> set[bytes]:
        """Return the keys that are not stored, or whose row is damaged."""
        left = set(keys)
        left.difference_update([key for key, _ in self._sound_rows(left)])
        return left

    def commit(self, scored: Iterable[tuple[bytes, NDArray[np.float32]]]) -> None:
        """Store the per-token log-probs of a batch, all or none; existing rows are kept unless they are damaged."""
        rows = []
        for key, logps in scored:
            vectors = np.ascontiguousarray(logps, dtype="<f4").tobytes()
            rows.append((key, LOGPS, vectors, _checksum(key, vectors)))
        with self._transaction():
            if self._db.executemany(_INSERT.format("OR IGNORE"), rows).rowcount < len(rows):
                self._replace_damaged({row[0]: row for row in rows})

    def _replace_damaged(self, rows: dict[bytes, tuple[bytes, str, bytes, int]]) -> None:
        """Replace those of some rows, given by key, that are damaged in the file."""
        missing = self.missing(rows)
        damaged = [row for key, row in rows.items() if key in missing]
        self._db.executemany("DELETE FROM sequences WHERE key = ?", [row[:1] for row in damaged])
        self._db.executemany(_INSERT.format(""), damaged)

    def _sound_rows(self, keys: AbstractSet[bytes]) -> Iterator[tuple[bytes, bytes]]:
        """Yield key and vectors of the requested rows that are not damaged.

        As keys are random, the ids of the rows are looked up first, and the rows fetched in the order of the file: in
        windows of 32,768 keys, 1,000,000 rows take 13 s instead of 33 s if the file is not cached.
        """
        with _store_errors(self.path):
            query = "SELECT id FROM sequences WHERE key IN ({})"
            ids = np.fromiter((row[0] for row in self._select(query, sorted(keys))), dtype=np.int64)
            query = "SELECT key, vectors, checksum FROM sequences WHERE id IN ({})"
            for key, vectors, checksum in self._select(query, np.sort(ids).tolist()):
                if key in keys and isinstance(vectors, bytes) and _checksum(key, vectors) == checksum:
                    yield key, vectors

    def _select(self, query: str, values: Sequence[bytes] | Sequence[int]) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a query about some values, in as many statements as necessary."""
        for start in range(0, len(values), MAX_PARAMETERS):
            part = values[start : start + MAX_PARAMETERS]
            yield from self._db.execute(query.format(",".join("?" * len(part))), part)

    # Plans of unfinished runs

    def find_plan(self, run_key: bytes, role: str, part: int) -> NDArray[np.int32] | None:
        """Return the batch of each sequence of a part of a run, or None if there is no valid plan.

        A batch of -1 means none. Plans with more batches than sequences are invalid.
        """
        query = "SELECT batches FROM plans WHERE run_key = ? AND role = ? AND part = ?"
        with _store_errors(self.path):
            row = self._db.execute(query, (run_key, role, part)).fetchone()
        if row is None or not isinstance(row[0], bytes) or len(row[0]) % 4:
            return None
        batches = np.frombuffer(row[0], dtype="<i4").astype(np.int32, copy=False)
        sound = batches.min(initial=-1) >= -1 and batches.max(initial=-1) < len(batches)
        return batches if sound else None

    def publish_plan(
        self, run_key: bytes, role: str, part: int, batches: NDArray[np.int32], *, replace: bool = False
    ) -> NDArray[np.int32]:
        """Store the plan of a part of a run, and return it.

        If another process has stored one before, that is returned instead, unless `replace` is true.
        """
        row = (run_key, role, part, batches.astype("<i4").tobytes())
        with self._transaction():
            published = None if replace else self.find_plan(run_key, role, part)
            if published is None:
                self._db.execute("INSERT OR REPLACE INTO plans VALUES (?, ?, ?, ?)", row)
        return batches if published is None else published

    def has_plan(self, run_key: bytes, role: str) -> bool:
        """Return whether any part of a run has a plan."""
        with _store_errors(self.path):
            query = "SELECT EXISTS (SELECT 1 FROM plans WHERE run_key = ? AND role = ?)"
            return bool(self._db.execute(query, (run_key, role)).fetchone()[0])

    def drop_plan(self, run_key: bytes) -> None:
        """Delete the plans of a finished run."""
        with self._transaction():
            self._db.execute("DELETE FROM plans WHERE run_key = ?", (run_key,))

    # Forward mode and budget of each model

    def find_verdict(self, key: bytes) -> str | None:
        """Return the JSON text stored under a key, or None."""
        with _store_errors(self.path):
            row = self._db.execute("SELECT verdict FROM verdicts WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def keep_verdict(self, key: bytes, verdict: str) -> None:
        """Store a model's forward mode and budget, as JSON."""
        with self._transaction():
            self._db.execute("INSERT OR REPLACE INTO verdicts VALUES (?, ?)", (key, verdict))

    # Hashes of checkpoint files

    def file_digest(self, path: str, size: int, mtime_ns: int) -> str | None:
        """Return the cached content hash of a file with some size and modification time, or None."""
        query = "SELECT digest FROM files WHERE path = ? AND size = ? AND mtime_ns = ?"
        with _store_errors(self.path):
            row = self._db.execute(query, (path, size, mtime_ns)).fetchone()
        return None if row is None else str(row[0])

    def remember_file_digest(self, path: str, size: int, mtime_ns: int, digest: str) -> None:
        """Cache the content hash of a file."""
        with self._transaction():
            self._db.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", (path, size, mtime_ns, digest))

    # Maintenance

    def counts(self) -> tuple[int, int]:
        """Return the number of stored sequences and the number of unfinished runs."""
        with _store_errors(self.path):
            sequences = self._db.execute("SELECT COUNT(*) FROM sequences").fetchone()[0]
            return int(sequences), int(self._db.execute("SELECT COUNT(DISTINCT run_key) FROM plans").fetchone()[0])

    def clear(self) -> None:
        """Delete everything, including files that were set aside, and free the disk space."""
        with self._transaction():
            for table in ("sequences", "plans", "verdicts", "files"):
                self._db.execute(f"DELETE FROM {table}")  # noqa: S608 (names from this module)
        with _store_errors(self.path):
            self._db.execute("VACUUM")
            for file in set_aside_files(self.path) if self.path is not None else []:
                file.unlink(missing_ok=True)


def _checksum(key: bytes, vectors: bytes) -> int:
    """Return a checksum of a row; SQLite's pages have none."""
    return zlib.crc32(vectors, zlib.crc32(key))


@contextmanager
def _store_errors(path: Path | None) -> Iterator[None]:
    """Turn an SQLite error or an `OSError` into a `ResourceError` that names the file."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise ResourceError(
            f"The log-prob store cannot be used ({error})", where=str(path), hint=advise(path, error)
        ) from error
    except OSError as error:
        raise ResourceError(
            f"The log-prob store cannot be used ({error})", where=str(path), hint="Use --cache DIR."
        ) from error
