"""Damaged store files are set aside, and damaged rows are recomputed."""

from __future__ import annotations

import hashlib
import random
import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from prefscope.errors import ResourceError
from prefscope.scoring import store_file
from prefscope.scoring.store import SCHEMA_VERSION, LogpStore

pytestmark = pytest.mark.slow

ROWS = 200
PAGE = 8192
OPEN = """
import hashlib, sys
from pathlib import Path
import numpy as np
from prefscope.scoring.store import LogpStore
print("ready", flush=True)
sys.stdin.readline()
with LogpStore(Path(sys.argv[1])) as store:
    store.commit([(hashlib.md5(sys.argv[2].encode()).digest(), np.array([1], dtype="f4"))])
    print(store.set_aside, flush=True)
    sys.stdin.readline()
"""


def key(name: str) -> bytes:
    return hashlib.md5(name.encode()).digest()  # noqa: S324 (16 bytes of anything)


KEYS = [key(str(i)) for i in range(ROWS)]


def vectors_of(i: int) -> list[float]:
    return [float(i), *map(float, range(99))]


@pytest.fixture(name="path")
def _path(tmp_path: Path) -> Path:
    """Return a store with rows."""
    path = tmp_path / "logps.sqlite"
    with LogpStore(path) as store:
        store.commit((KEYS[i], np.array(vectors_of(i), dtype=np.float32)) for i in range(ROWS))
    return path


def execute(path: Path, *statements: str) -> None:
    """Modify the file outside of the program."""
    database = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        database.execute(statement)
    database.close()


def names_beside(path: Path) -> list[str]:
    """Return the names of the files in the store's folder, without the times in them."""
    return sorted(re.sub(r"\d{8}T\d{6}\.\d{6}Z", "TIME", file.name) for file in path.parent.iterdir())


def set_aside_message(path: Path, fault: str) -> str:
    """Return the message about the one file that was set aside."""
    [aside] = [file for file in store_file.set_aside_files(path) if not file.name.endswith(("-wal", "-shm"))]
    return (
        f"The log-prob store {path} {fault}. It was set aside as {aside.name} and a new one was started: "
        "its contents will be recomputed."
    )


def assert_set_aside(path: Path, fault: str) -> None:
    """Expect a new, empty store, which is reported once."""
    with LogpStore(path) as store:
        assert store.set_aside == set_aside_message(path, fault)
        assert store.missing(KEYS) == set(KEYS)
        store.commit([(KEYS[0], np.array([-1.0], dtype=np.float32))])
    with LogpStore(path) as store:
        assert store.set_aside is None
        assert store.counts() == (1, 0)
    assert names_beside(path) == ["logps.sqlite", "logps.sqlite.lock", "logps.sqlite.set-aside-TIME"]


def damage_every_page_with_rows(path: Path) -> None:
    """Overwrite everything that is not needed to open the file."""
    content = path.read_bytes()
    path.write_bytes(content[: 20 * PAGE] + b"\0" * (len(content) - 20 * PAGE))


def flip_a_bit(path: Path, row: int) -> None:
    """Flip the lowest bit of the third number of a row."""
    content = bytearray(path.read_bytes())
    stored = np.array(vectors_of(row), dtype="<f4").tobytes()
    assert content.count(stored) == 1
    content[content.index(stored) + 8] ^= 1
    path.write_bytes(content)


def test_a_file_that_is_not_a_database_is_set_aside(path: Path) -> None:
    content = b"These are no log-probs, and there are more than a hundred bytes of them. " * 9
    path.write_bytes(content)
    assert_set_aside(path, "is damaged (file is not a database)")
    assert store_file.set_aside_files(path)[0].read_bytes() == content


def test_a_truncated_store_is_set_aside(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: 10 * PAGE])
    assert_set_aside(path, "is damaged (database disk image is malformed)")


def test_a_store_whose_tables_were_changed_is_set_aside(path: Path) -> None:
    execute(path, "DROP INDEX sequences_by_key")
    assert_set_aside(path, "is damaged (its tables were changed)")


def test_a_store_of_an_older_version_is_set_aside_intact(path: Path) -> None:
    execute(path, f"PRAGMA user_version = {SCHEMA_VERSION - 1}")
    assert_set_aside(path, "was written by an older prefscope")
    database = sqlite3.connect(store_file.set_aside_files(path)[0])
    assert database.execute("SELECT COUNT(*) FROM sequences").fetchone() == (ROWS,)
    database.close()


@pytest.mark.parametrize("version", [0, SCHEMA_VERSION, SCHEMA_VERSION + 1])
def test_a_database_of_another_program_is_refused_and_kept(version: int, path: Path) -> None:
    path.unlink()
    execute(path, "CREATE TABLE bookmarks (address TEXT)", f"PRAGMA user_version = {version}")
    with pytest.raises(ResourceError, match=r"is another program's database\. Move it away, or use another folder"):
        LogpStore(path)
    assert names_beside(path) == ["logps.sqlite", "logps.sqlite.lock"]


def test_a_store_of_a_newer_version_is_refused_and_kept(path: Path) -> None:
    execute(path, f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    with pytest.raises(ResourceError, match=r"was written by a newer prefscope\. Update prefscope"):
        LogpStore(path)
    assert names_beside(path) == ["logps.sqlite", "logps.sqlite.lock"]


def test_the_journal_of_a_file_that_is_set_aside_is_not_replayed_into_the_new_one(path: Path) -> None:
    with LogpStore(path) as store:
        store.commit([(key("late"), np.array([-1.0], dtype=np.float32))])
        shutil.copy(f"{path}-wal", path.with_name("copy"))
    path.with_name("copy").rename(f"{path}-wal")
    path.write_bytes(b"no database " * PAGE)
    with LogpStore(path) as store:
        assert store.set_aside == set_aside_message(path, "is damaged (file is not a database)")
        assert store.missing([key("late")]) == {key("late")}
    aside = "logps.sqlite.set-aside-TIME"
    assert names_beside(path) == ["logps.sqlite", "logps.sqlite.lock", aside, f"{aside}-shm", f"{aside}-wal"]


def test_damage_found_while_running_ends_the_run_and_the_next_opening_sets_the_file_aside(path: Path) -> None:
    damage_every_page_with_rows(path)
    with LogpStore(path) as store:
        assert store.set_aside is None
        with pytest.raises(ResourceError, match=r"malformed\)\. Run again: the damaged file will be set aside, and"):
            store.lookup(KEYS)
    assert_set_aside(path, "is damaged (database disk image is malformed)")


def test_a_store_deleted_after_damage_is_created_again(path: Path) -> None:
    damage_every_page_with_rows(path)
    with LogpStore(path) as store, pytest.raises(ResourceError):
        store.lookup(KEYS)
    path.unlink()
    with LogpStore(path) as store:
        assert store.set_aside is None
        assert store.counts() == (0, 0)
    assert names_beside(path) == ["logps.sqlite", "logps.sqlite.lock"]


def test_a_damaged_store_is_not_moved_while_a_run_uses_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_file, "TRIES", 2)
    damage_every_page_with_rows(path)
    with LogpStore(path) as running:
        with LogpStore(path) as store, pytest.raises(ResourceError):
            store.lookup(KEYS)
        with pytest.raises(
            ResourceError,
            match=r"is damaged \(.* malformed\), but another run is still using it\. Wait for that run to end, or",
        ):
            LogpStore(path)
        running.remember_file_digest("weights", 1, 2, "00")
        assert running.file_digest("weights", 1, 2) == "00"
    assert_set_aside(path, "is damaged (database disk image is malformed)")


@pytest.mark.parametrize("attempt", range(3))
def test_processes_that_open_a_damaged_store_at_once_share_one_replacement(attempt: int, path: Path) -> None:
    path.write_bytes(b"no database " * PAGE)
    command = [sys.executable, "-c", OPEN, str(path)]
    processes = [
        subprocess.Popen([*command, f"{attempt} {n}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for n in range(4)
    ]
    answers = []
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        assert process.stdout is not None
        answers.append(process.stdout.readline().strip())
    for process in processes:
        process.communicate("end\n")
        assert process.returncode == 0
    assert sorted(answers) == ["None"] * 3 + [set_aside_message(path, "is damaged (file is not a database)")]
    with LogpStore(path) as store:
        assert store.missing([key(f"{attempt} {n}") for n in range(4)]) == set()


CHANGES = {
    "shorter": "UPDATE sequences SET vectors = substr(vectors, 1, 396) WHERE id = 8",
    "cut within a number": "UPDATE sequences SET vectors = substr(vectors, 1, 399) WHERE id = 8",
    "no bytes": "UPDATE sequences SET vectors = CAST(x'fffefdfc' AS TEXT) WHERE id = 8",
    "another row's": "UPDATE sequences SET vectors = (SELECT vectors FROM sequences WHERE id = 9) WHERE id = 8",
    "another row's with its checksum": (
        "UPDATE sequences SET (vectors, checksum) = (SELECT vectors, checksum FROM sequences WHERE id = 9) WHERE id = 8"
    ),
    "no checksum": "UPDATE sequences SET checksum = 'none' WHERE id = 8",
}


@pytest.mark.parametrize("change", ["one bit", *CHANGES])
def test_a_damaged_row_counts_as_missing_and_is_replaced(change: str, path: Path) -> None:
    if change == "one bit":
        flip_a_bit(path, 7)
    else:
        execute(path, CHANGES[change])
    with LogpStore(path) as store:
        assert store.set_aside is None
        assert store.missing(KEYS) == {KEYS[7]}
        assert store.lookup(KEYS).keys() == set(KEYS) - {KEYS[7]}
        store.commit((KEYS[i], np.array([-1.0], dtype=np.float32)) for i in (6, 7, 8))
        assert store.missing(KEYS) == set()
        found = store.lookup(KEYS)
        assert found[KEYS[7]].tolist() == [-1.0]
        assert [found[KEYS[i]].tolist() for i in (6, 8)] == [vectors_of(6), vectors_of(8)]
        assert store.counts() == (ROWS, 0)


def test_an_index_entry_without_a_row_ends_the_run_and_the_next_opening_sets_the_file_aside(path: Path) -> None:
    database = sqlite3.connect(path)
    index = database.execute("SELECT * FROM sqlite_master WHERE name = 'sequences_by_key'").fetchone()
    database.close()
    execute(path, "PRAGMA writable_schema = ON", "DELETE FROM sqlite_master WHERE name = 'sequences_by_key'")
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA writable_schema = ON")
    database.execute("DELETE FROM sequences WHERE id = 8")
    database.execute("INSERT INTO sqlite_master VALUES (?, ?, ?, ?, ?)", index)
    database.close()
    with LogpStore(path) as store:
        assert store.missing(KEYS) == {KEYS[7]}
        with pytest.raises(ResourceError, match="Run again: the damaged file will be set aside"):
            store.commit([(KEYS[7], np.array([-1.0], dtype=np.float32))])
    assert_set_aside(path, "is damaged (database disk image is malformed)")


@pytest.mark.parametrize("seed", range(40))
def test_flipped_bits_never_give_wrong_numbers_and_the_store_recovers(seed: int, path: Path) -> None:
    chance = random.Random(seed)  # noqa: S311 (no secret)
    content = bytearray(path.read_bytes())
    for _ in range(chance.choice([1, 3, 20])):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)
    for _ in range(5):
        with suppress(ResourceError), LogpStore(path) as store:
            for name, logps in store.lookup(KEYS).items():
                assert logps.tolist() == vectors_of(KEYS.index(name))
            missing = store.missing(KEYS)
            lacking = [i for i in range(ROWS) if KEYS[i] in missing]
            store.commit((KEYS[i], np.array(vectors_of(i), dtype=np.float32)) for i in lacking)
    with LogpStore(path) as store:
        assert store.lookup(KEYS).keys() == set(KEYS)


def test_clearing_deletes_what_was_set_aside(path: Path) -> None:
    path.write_bytes(b"no database " * PAGE)
    with LogpStore(path) as store:
        assert names_beside(path)[-1] == "logps.sqlite.set-aside-TIME"
        store.clear()
    assert names_beside(path) == ["logps.sqlite", "logps.sqlite.lock"]


def test_the_cache_command_lists_files_set_aside(path: Path) -> None:
    path.write_bytes(b"no database " * PAGE)
    command = [sys.executable, "-m", "prefscope", "cache", "--cache", str(path.parent)]
    done = [subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(2)]
    assert done[0].stderr == set_aside_message(path, "is damaged (file is not a database)") + "\n"
    assert done[1].stderr == ""
    assert done[0].stdout.startswith(f"{path}: 0 sequences, ")
    assert done[1].stdout.endswith(f"set aside: {store_file.set_aside_files(path)[0]}, 0.1 MB\n")
