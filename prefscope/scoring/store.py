"""The log-prob store: what was computed once is never computed again.

One SQLite file holds a row for every scored sequence, and the plans of unfinished runs. A key names everything that
determines a number (see `sequence_key`), so a row never goes stale; a batch is committed in one transaction, so a
killed run loses at most the batch in flight. This module imports no torch: a UI can look up while a worker writes.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from prefscope.errors import ResourceError
from prefscope.scoring.sequences import TokenSequence

KEY_BYTES = 16
SCHEMA_VERSION = 1
BUSY_SECONDS = 120
MAX_PARAMETERS = 500  # keys of one SELECT; old SQLite builds admit 999
LOGPS = "logps"

_SCHEMA = """
CREATE TABLE sequences (id INTEGER PRIMARY KEY, key BLOB NOT NULL, names TEXT NOT NULL, vectors BLOB NOT NULL);
CREATE UNIQUE INDEX sequences_by_key ON sequences (key);
CREATE TABLE plans (id INTEGER PRIMARY KEY AUTOINCREMENT, run_key BLOB NOT NULL UNIQUE);
CREATE TABLE planned (
    id INTEGER PRIMARY KEY, plan INTEGER NOT NULL, role TEXT NOT NULL, batch INTEGER NOT NULL,
    token_ids BLOB NOT NULL, completion_start INTEGER NOT NULL
);
CREATE INDEX planned_by_batch ON planned (plan, role, batch, id);
CREATE TABLE files (path TEXT PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, digest TEXT NOT NULL);
"""


def sequence_key(scope: bytes, digest: bytes) -> bytes:
    """Return the store's key of a sequence.

    Args:
        scope: Hash of the model's content, dtype, device type, attention path, torch version and numerics version.
        digest: `TokenSequence.digest()`.
    """
    return hashlib.blake2b(scope + digest, digest_size=KEY_BYTES).digest()


@dataclass(frozen=True, slots=True)
class PlannedSequence:
    """A sequence with its place in the plan of a run."""

    role: str
    batch: int
    sequence: TokenSequence


class LogpStore:
    """An open store; use it as a context manager."""

    def __init__(self, path: Path | None) -> None:
        """Open the store in a file, which is made if missing, or in memory (None)."""
        self.path = path
        with _told(path):
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._db = sqlite3.connect(path or ":memory:", timeout=BUSY_SECONDS, isolation_level=None)
            self.journal = self._prepare()

    def _prepare(self) -> str:
        """Set the file up and return its journal mode; network file systems refuse WAL and keep a rollback journal."""
        self._db.execute("PRAGMA page_size = 8192")
        try:
            journal = str(self._db.execute("PRAGMA journal_mode = WAL").fetchone()[0])
        except sqlite3.OperationalError:
            journal = str(self._db.execute("PRAGMA journal_mode = DELETE").fetchone()[0])
        self._db.execute("PRAGMA synchronous = NORMAL" if journal == "wal" else "PRAGMA synchronous = FULL")
        with self._transaction():
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                for statement in _SCHEMA.split(";\n"):
                    if statement.strip():
                        self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            elif version > SCHEMA_VERSION:
                raise ResourceError(
                    "The log-prob store was written by a newer prefscope",
                    where=str(self.path),
                    hint="Update prefscope, or use another folder with --cache DIR.",
                )
        return journal

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Hold the write lock from the start: a plain BEGIN would fail when a read turns into a write."""
        with _told(self.path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                if self._db.in_transaction:  # a full disk has already rolled back
                    self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    # Scored sequences

    def lookup(self, keys: Sequence[bytes]) -> dict[bytes, NDArray[np.float32]]:
        """Return the per-token log-probs, in nats, of those sequences that were scored; shape (num_scored,) each."""
        found: dict[bytes, NDArray[np.float32]] = {}
        for part, marks in _parts(keys):
            with _told(self.path):
                query = f"SELECT key, vectors FROM sequences WHERE key IN ({marks})"  # noqa: S608 (question marks only)
                for key, vectors in self._db.execute(query, part):
                    found[key] = np.frombuffer(vectors, dtype="<f4").astype(np.float32, copy=False)
        return found

    def missing(self, keys: Sequence[bytes]) -> set[bytes]:
        """Return those keys that were not scored yet."""
        left = set(keys)
        for part, marks in _parts(keys):
            with _told(self.path):
                query = f"SELECT key FROM sequences WHERE key IN ({marks})"  # noqa: S608 (question marks only)
                left.difference_update(key for (key,) in self._db.execute(query, part))
        return left

    def commit(self, scored: Iterable[tuple[bytes, NDArray[np.float32]]]) -> None:
        """Keep the per-token log-probs of a batch, all or none; what is there already stays."""
        rows = [(key, LOGPS, np.ascontiguousarray(logps, dtype="<f4").tobytes()) for key, logps in scored]
        with self._transaction():
            self._db.executemany("INSERT OR IGNORE INTO sequences (key, names, vectors) VALUES (?, ?, ?)", rows)

    # Plans of unfinished runs

    def find_plan(self, run_key: bytes) -> int | None:
        """Return the id of an unfinished run's plan."""
        with _told(self.path):
            row = self._db.execute("SELECT id FROM plans WHERE run_key = ?", (run_key,)).fetchone()
        return None if row is None else int(row[0])

    def publish_plan(self, run_key: bytes, planned: Iterable[PlannedSequence]) -> int:
        """Keep the plan of a run, all or nothing, and return its id; a plan that another process published stays."""
        with self._transaction():
            known = self.find_plan(run_key)
            if known is not None:
                return known
            cursor = self._db.execute("INSERT INTO plans (run_key) VALUES (?)", (run_key,))
            plan = int(cursor.lastrowid or 0)
            self._db.executemany(
                "INSERT INTO planned (plan, role, batch, token_ids, completion_start) VALUES (?, ?, ?, ?, ?)",
                (
                    (plan, item.role, item.batch, item.sequence.token_ids.tobytes(), item.sequence.completion_start)
                    for item in planned
                ),
            )
        return plan

    def num_batches(self, plan: int, role: str) -> int:
        """Return how many batches a plan has for a role."""
        query = "SELECT COALESCE(MAX(batch) + 1, 0) FROM planned WHERE plan = ? AND role = ?"
        with _told(self.path):
            return int(self._db.execute(query, (plan, role)).fetchone()[0])

    def read_batch(self, plan: int, role: str, batch: int) -> list[TokenSequence]:
        """Return the sequences of one batch; none if another process has finished the run and dropped its plan."""
        query = "SELECT token_ids, completion_start FROM planned WHERE plan = ? AND role = ? AND batch = ? ORDER BY id"
        with _told(self.path):
            rows = self._db.execute(query, (plan, role, batch)).fetchall()
        return [TokenSequence(np.frombuffer(ids, dtype=np.int32), start) for ids, start in rows]

    def drop_plan(self, plan: int) -> None:
        """Forget the plan of a finished run."""
        with self._transaction():
            self._db.execute("DELETE FROM planned WHERE plan = ?", (plan,))
            self._db.execute("DELETE FROM plans WHERE id = ?", (plan,))

    # Hashes of checkpoint files

    def file_digest(self, path: str, size: int, mtime_ns: int) -> str | None:
        """Return the remembered content hash of a file of that size and modification time."""
        query = "SELECT digest FROM files WHERE path = ? AND size = ? AND mtime_ns = ?"
        with _told(self.path):
            row = self._db.execute(query, (path, size, mtime_ns)).fetchone()
        return None if row is None else str(row[0])

    def remember_file_digest(self, path: str, size: int, mtime_ns: int, digest: str) -> None:
        """Keep the content hash of a file."""
        with self._transaction():
            self._db.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", (path, size, mtime_ns, digest))

    # Upkeep

    def counts(self) -> tuple[int, int]:
        """Return how many sequences are stored, and how many runs are unfinished."""
        with _told(self.path):
            sequences = self._db.execute("SELECT COUNT(*) FROM sequences").fetchone()[0]
            return int(sequences), int(self._db.execute("SELECT COUNT(*) FROM plans").fetchone()[0])

    def clear(self) -> None:
        """Delete everything and give the disk space back."""
        with self._transaction():
            for table in ("sequences", "planned", "plans", "files"):
                self._db.execute(f"DELETE FROM {table}")  # noqa: S608 (names written here)
        with _told(self.path):
            self._db.execute("VACUUM")


def _parts(keys: Sequence[bytes]) -> Iterator[tuple[Sequence[bytes], str]]:
    """Yield the keys in parts that one statement can take, each with its question marks."""
    for start in range(0, len(keys), MAX_PARAMETERS):
        part = keys[start : start + MAX_PARAMETERS]
        yield part, ",".join("?" * len(part))


@contextmanager
def _told(path: Path | None) -> Iterator[None]:
    """Turn what SQLite raises into one sentence that names the file."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        damaged = "malformed" in str(error) or "not a database" in str(error)
        advice = "Delete the file, or" if damaged else "Free disk space or close other runs, or"
        raise ResourceError(
            f"The log-prob store cannot be used ({error})", where=str(path), hint=f"{advice} use --cache DIR."
        ) from error
    except OSError as error:
        raise ResourceError(
            f"The log-prob store cannot be used ({error})", where=str(path), hint="Use --cache DIR."
        ) from error
