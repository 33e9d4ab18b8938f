"""Opens the file of the log-prob store, creating it if missing and setting it aside if it is damaged.

If a database were renamed under an open connection, that connection would write into its successor's journal. So every
process that has the store open shares a lock on an empty file next to it, and creating or renaming files needs that
lock exclusively.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from prefscope.errors import ResourceError
from prefscope.private import make_folder

BUSY_SECONDS = 120
ALONE_MILLISECONDS = 250
TRIES = 20  # other processes hold the lock briefly, or replace the file themselves, or use it for hours
CHECKPOINT_PAGES = 8000  # random keys touch the same index pages repeatedly: half the time of 1000 pages
PARTS = ("-wal", "-shm", "-journal", "")  # the database last: until then it is known to be bad

_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_ADVICE = {
    sqlite3.SQLITE_FULL: "Free disk space",
    sqlite3.SQLITE_BUSY: "Close other runs",
    sqlite3.SQLITE_CORRUPT: "Delete the file",
    sqlite3.SQLITE_NOTADB: "Delete the file",
}


@dataclass(frozen=True, slots=True)
class Layout:
    """The schema of a store file."""

    version: int
    schema: str
    """SQL statements, each followed by a semicolon and a newline."""


@dataclass(frozen=True, slots=True)
class Database:
    """An open store file."""

    connection: sqlite3.Connection
    lock: sqlite3.Connection | None
    """Shared lock, held as long as the file is open; None for a database in memory."""
    journal: str
    set_aside: str | None
    """A sentence about the file that was set aside and its new name, if any."""

    def close(self) -> None:
        """Close the file and release the lock."""
        self.connection.close()
        if self.lock is not None:
            self.lock.close()


def open_database(path: Path | None, layout: Layout) -> Database:
    """Open the store in a file, or in memory (None); a missing file is created, a damaged one replaced.

    Raises:
        ResourceError: If the file is from a newer prefscope or another program, or must be replaced while it is in use.
        sqlite3.DatabaseError: If the file cannot be opened, which does not mean that it is damaged.
        OSError: If the folder cannot be created.
    """
    if path is None:
        memory = _connect(":memory:")
        _fill(memory, layout)
        return Database(memory, None, "memory", None)
    make_folder(path.parent)
    path = path.resolve()
    lock = _connect(f"{path}.lock")
    try:
        notice = _share(path, lock, layout)
        connection = _connect(path)
        journal = str(connection.execute("PRAGMA journal_mode").fetchone()[0])
        connection.execute(f"PRAGMA synchronous = {'NORMAL' if journal == 'wal' else 'FULL'}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
    except BaseException:
        lock.close()
        raise
    return Database(connection, lock, journal, notice)


def set_aside_files(path: Path) -> list[Path]:
    """Return the files that were set aside, including their journals."""
    return sorted(path.parent.glob(f"{path.name}.set-aside-*"))


def advise(path: Path | None, error: sqlite3.DatabaseError) -> str:
    """Return advice about an error; if the file is damaged, leave a marker for the next time it is opened."""
    code = _primary_code(error)
    if path is not None and code in _DAMAGED:
        with suppress(OSError):
            _marker(path.resolve()).write_text(str(error), encoding="utf-8")
            return "Run again: the damaged file will be set aside, and its contents recomputed."
    return f"{_ADVICE.get(code, 'Make the folder writable')}, or use --cache DIR."


def _connect(path: Path | str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
    # A flipped bit can make a text invalid; it must be readable to be recognised as damaged.
    connection.text_factory = lambda text: text.decode("utf-8", "surrogateescape")
    return connection


def _share(path: Path, lock: sqlite3.Connection, layout: Layout) -> str | None:
    """Share the lock on a valid file, creating or replacing it if necessary; return a sentence if one was replaced.

    Raises:
        ResourceError: If the file must be replaced while another run uses it.
    """
    notice: str | None = None
    fault: str | None = None
    for _ in range(TRIES):
        lock.execute("BEGIN")
        lock.execute("SELECT 1 FROM sqlite_master").fetchall()  # takes the lock
        fault = _fault(path, layout)
        if fault is None:
            return notice
        lock.execute("ROLLBACK")
        if notice is None and _is_alone(lock):
            try:
                notice = _replace(path, layout)
            finally:
                lock.execute("ROLLBACK")
    raise ResourceError(
        f"The log-prob store {fault or 'was deleted'}, but another run is still using it",
        where=str(path),
        hint="Wait for that run to end, or use --cache DIR.",
    )


def _is_alone(lock: sqlite3.Connection) -> bool:
    """Try to get the lock exclusively within a short time, and return whether that succeeded."""
    lock.execute(f"PRAGMA busy_timeout = {ALONE_MILLISECONDS}")
    try:
        lock.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError as error:
        if _primary_code(error) != sqlite3.SQLITE_BUSY:
            raise
        return False
    finally:
        lock.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000}")
    return True


def _fault(path: Path, layout: Layout) -> str | None:
    """Return what is wrong with a file: None for nothing, an empty string if there is none, or a verb phrase.

    Reads only a page or two. Checking 1,000,000 rows would take 12 s, so each row has a checksum instead.

    Raises:
        ResourceError: If the file was written by a newer prefscope or another program.
        sqlite3.DatabaseError: If the file is locked or cannot be read.
    """
    if not path.exists():
        return ""
    if _marker(path).exists():
        return f"is damaged ({_marker(path).read_text(encoding='utf-8')})"
    try:
        with closing(_connect(path)) as connection:
            version = int(connection.execute("PRAGMA user_version").fetchone()[0])
            found = _tables(connection)
    except sqlite3.DatabaseError as error:
        if _primary_code(error) not in _DAMAGED:
            raise
        return f"is damaged ({error})"
    with closing(_connect(":memory:")) as model:
        _fill(model, layout)
        wanted = _tables(model)
    other = "or use another folder with --cache DIR."
    if found and not found.keys() & wanted.keys():
        raise ResourceError("This is another program's database", where=str(path), hint=f"Move it away, {other}")
    if version > layout.version:
        what = "The log-prob store was written by a newer prefscope"
        raise ResourceError(what, where=str(path), hint=f"Update prefscope, {other}")
    if version == 0 and not found:
        return ""
    if version < layout.version:
        return "was written by an older prefscope"
    return None if found == wanted else "is damaged (its tables were changed)"


def _tables(connection: sqlite3.Connection) -> dict[str, str]:
    """Return the SQL statements of tables and indexes, by name."""
    query = "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"
    return {str(name): str(sql) for name, sql in connection.execute(query)}


def _replace(path: Path, layout: Layout) -> str | None:
    """Set the file aside and create a new one, unless another process has done so; return a sentence about it."""
    fault = _fault(path, layout)
    notice = _set_aside(path, fault) if fault else None
    if fault is not None:
        _make(path, layout)
    return notice


def _set_aside(path: Path, fault: str) -> str:
    """Rename the file and its journals, which must not be replayed into a new file."""
    aside = path.with_name(f"{path.name}.set-aside-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}")
    for part in PARTS:
        with suppress(FileNotFoundError):
            Path(f"{path}{part}").rename(f"{aside}{part}")
    return (
        f"The log-prob store {path} {fault}. It was set aside as {aside.name} and a new one was started: "
        "its contents will be recomputed."
    )


def _make(path: Path, layout: Layout) -> None:
    """Create a new file; falls back to a rollback journal on network file systems that do not support WAL."""
    _marker(path).unlink(missing_ok=True)
    for journal in ("WAL", "DELETE"):
        for part in ("-wal", "-journal", ""):
            Path(f"{path}{part}").unlink(missing_ok=True)
        with closing(_connect(path)) as connection:
            connection.execute("PRAGMA page_size = 8192")
            try:
                connection.execute(f"PRAGMA journal_mode = {journal}")
                _fill(connection, layout)  # only a write shows whether WAL works
            except sqlite3.OperationalError:
                if journal == "DELETE":
                    raise
            else:
                return


def _fill(connection: sqlite3.Connection, layout: Layout) -> None:
    """Create all tables in one transaction."""
    connection.execute("BEGIN IMMEDIATE")
    for statement in layout.schema.split(";\n"):
        if statement.strip():
            connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {layout.version}")
    connection.execute("COMMIT")


def _marker(path: Path) -> Path:
    """Return the path of the marker file that reports damage."""
    return Path(f"{path}.damaged")


def _primary_code(error: sqlite3.DatabaseError) -> int:
    """Return SQLite's error code without its details, or 0 if Python raised the error."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF
