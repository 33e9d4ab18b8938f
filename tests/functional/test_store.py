"""The log-prob store under several processes and interrupted work; test_store_damage.py covers damaged files."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from prefscope.errors import ResourceError
from prefscope.scoring import store_file
from prefscope.scoring.store import MAX_PARAMETERS, LogpStore

TRANSACTIONS = 150
ROWS = 8
COMMIT = """
import hashlib, sys
from pathlib import Path
import numpy as np
from prefscope.scoring.store import LogpStore
path, name, transactions, rows = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
with LogpStore(path) as store:
    print("open", flush=True)
    sys.stdin.readline()
    for batch in range(transactions):
        names = [f"{name} {batch} {row}" for row in range(rows)]
        keys = [hashlib.md5(key.encode()).digest() for key in names]
        store.commit((key, np.array([batch, row], dtype="f4")) for row, key in enumerate(keys))
        store.file_digest(name, batch, 0)
        store.remember_file_digest(name, batch, 0, "00")
        print(batch, flush=True)
"""
PUBLISH = """
import sys
from pathlib import Path
import numpy as np
from prefscope.scoring.store import LogpStore
with LogpStore(Path(sys.argv[1])) as store:
    print("open", flush=True)
    sys.stdin.readline()
    for part in range(int(sys.argv[3])):
        print(*store.publish_plan(b"run", "policy", part, np.full(4, int(sys.argv[2]), dtype="i4")), flush=True)
"""
OPEN = """
import hashlib, sys
from pathlib import Path
import numpy as np
from prefscope.scoring.store import LogpStore
print("open", flush=True)
sys.stdin.readline()
with LogpStore(Path(sys.argv[1])) as store:
    store.commit([(hashlib.md5(sys.argv[2].encode()).digest(), np.array([1], dtype="f4"))])
    print(store.journal, flush=True)
"""
HOLD = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("PRAGMA locking_mode = EXCLUSIVE")
database.execute("BEGIN EXCLUSIVE")
print("open", flush=True)
sys.stdin.readline()
"""


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    """Return a process that has opened the store and waits for a signal to continue."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    return process


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def lines(process: subprocess.Popen[str]) -> Iterator[str]:
    assert process.stdout is not None
    yield from process.stdout
    assert process.wait() == 0


def key(name: str) -> bytes:
    return hashlib.md5(name.encode()).digest()  # noqa: S324 (16 bytes of anything)


def vector(*values: float) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.array(values, dtype=np.float32)


@pytest.fixture(name="path")
def _path(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "logps.sqlite"


def names_of(*processes: str) -> list[str]:
    return [f"{name} {batch} {row}" for name in processes for batch in range(TRANSACTIONS) for row in range(ROWS)]


def deny_wal(path: Path) -> None:
    """Prevent a write-ahead log: SQLite cannot use a folder as its shared memory."""
    Path(f"{path}-shm").mkdir(parents=True)


@pytest.mark.slow
@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_concurrent_commits_of_two_processes_lose_nothing(journal: str, path: Path) -> None:
    if journal == "delete":
        deny_wal(path)
    processes = [start(COMMIT, path, name, TRANSACTIONS, ROWS) for name in ("one", "other")]
    for process in processes:
        go(process)
    for process in processes:
        assert len(list(lines(process))) == TRANSACTIONS
    names = names_of("one", "other")
    with LogpStore(path) as store:
        assert store.journal == journal
        found = store.lookup([key(name) for name in names])
    assert [found[key(name)].tolist() for name in names] == [
        [float(part) for part in name.split()[1:]] for name in names
    ]


def test_several_processes_that_open_a_new_store_at_once_share_it(path: Path) -> None:
    processes = [start(OPEN, path, number) for number in range(4)]
    for process in processes:
        go(process)
    assert [list(lines(process)) for process in processes] == [["wal\n"]] * 4
    with LogpStore(path) as store:
        assert store.missing([key(str(number)) for number in range(4)]) == set()


def test_a_reader_sees_whole_batches_while_another_process_writes(path: Path) -> None:
    writer = start(COMMIT, path, "one", TRANSACTIONS, ROWS)
    counts = []
    with LogpStore(path) as store:
        go(writer)
        for batch, _ in enumerate(lines(writer)):
            counts.append(store.counts()[0])
            assert store.missing([key(f"one {batch} {row}") for row in range(ROWS)]) == set()
    assert counts == sorted(counts)
    assert {count % ROWS for count in counts} == {0}
    assert counts[-1] == TRANSACTIONS * ROWS


def test_a_plan_is_published_once_by_two_processes(path: Path) -> None:
    processes = [start(PUBLISH, path, number, TRANSACTIONS) for number in (1, 2)]
    for process in processes:
        go(process)
    answers = [list(lines(process)) for process in processes]
    with LogpStore(path) as store:
        plans = [store.find_plan(b"run", "policy", part) for part in range(TRANSACTIONS)]
    kept = [" ".join(map(str, plan)) + "\n" for plan in plans if plan is not None]
    assert answers == [kept, kept]
    assert set(kept) <= {"1 1 1 1\n", "2 2 2 2\n"}


def test_committed_results_survive_reopening(path: Path) -> None:
    with LogpStore(path) as store:
        store.commit([(key("a"), vector(-1.5, -0.25)), (key("b"), vector())])
    with LogpStore(path) as store:
        found = store.lookup([key("a"), key("b"), key("c")])
        assert {name: logps.tolist() for name, logps in found.items()} == {key("a"): [-1.5, -0.25], key("b"): []}
        assert store.missing([key("a"), key("c")]) == {key("c")}


def test_a_commit_is_all_or_nothing(path: Path) -> None:
    rows = [(key(str(i)), vector(*range(250))) for i in range(200)]
    with LogpStore(path) as store:
        store._db.execute("PRAGMA max_page_count = 20")
        with pytest.raises(ResourceError, match=r"database or disk is full\)\. Free disk space, or use --cache DIR\."):
            store.commit(rows)
        assert store.counts() == (0, 0)
        store.commit(rows[:20])
        assert store.counts() == (20, 0)


def test_existing_entries_are_not_overwritten(path: Path) -> None:
    with LogpStore(path) as store:
        store.commit([(key("a"), vector(-1.0))])
        store.commit([(key("a"), vector(-2.0)), (key("b"), vector(-3.0))])
        assert store.lookup([key("a")])[key("a")].tolist() == [-1.0]
        assert store.counts() == (2, 0)


def test_lookups_work_for_more_keys_than_one_statement_allows() -> None:
    names = [str(i) for i in range(2 * MAX_PARAMETERS + 1)]
    with LogpStore(None) as store:
        store.commit((key(name), vector(float(name))) for name in names)
        assert len(store.lookup([key(name) for name in names])) == len(names)
        assert store.missing([key(name) for name in [*names, "new"]]) == {key("new")}


def test_a_plan_is_kept_by_role_and_part(path: Path) -> None:
    with LogpStore(path) as store:
        for number, (role, part) in enumerate([("policy", 0), ("policy", 1), ("ref", 0)]):
            store.publish_plan(b"run", role, part, np.array([-1, 0, number], dtype=np.int32))
    with LogpStore(path) as store:
        plans = [store.find_plan(b"run", *place) for place in (("policy", 0), ("policy", 1), ("ref", 0))]
        assert [plan.tolist() for plan in plans if plan is not None] == [[-1, 0, 0], [-1, 0, 1], [-1, 0, 2]]
        assert store.find_plan(b"run", "ref", 1) is None
        assert [store.has_plan(b"run", role) for role in ("policy", "ref", "other")] == [True, True, False]


def test_a_dropped_plan_is_gone_and_others_stay(path: Path) -> None:
    with LogpStore(path) as store:
        for run in (b"a", b"b"):
            store.publish_plan(run, "policy", 0, np.zeros(2, dtype=np.int32))
        assert store.counts() == (0, 2)
        store.drop_plan(b"a")
        assert [store.has_plan(run, "policy") for run in (b"a", b"b")] == [False, True]
        assert store.counts() == (0, 1)


def test_a_cleared_store_is_empty_and_usable(path: Path) -> None:
    with LogpStore(path) as store:
        store.commit([(key("a"), vector(-1.0))])
        store.publish_plan(b"run", "policy", 0, np.zeros(2, dtype=np.int32))
        store.remember_file_digest("weights", 1, 2, "00")
        store.clear()
        assert (store.counts(), store.file_digest("weights", 1, 2)) == ((0, 0), None)
        store.commit([(key("a"), vector(-2.0))])
        assert store.counts() == (1, 0)


def test_the_folder_of_a_new_store_is_private(path: Path) -> None:
    LogpStore(path).close()
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_a_store_on_a_local_disk_keeps_a_write_ahead_log(path: Path) -> None:
    with LogpStore(path) as store:
        assert store.journal == "wal"


def test_a_file_system_without_a_write_ahead_log_gets_a_rollback_journal(path: Path) -> None:
    deny_wal(path)
    with LogpStore(path) as store:
        assert (store.journal, store.set_aside) == ("delete", None)
        store.commit([(key("a"), vector(-1.0))])
    with LogpStore(path) as store:
        assert store.journal == "delete"
        assert store.lookup([key("a")])[key("a")].tolist() == [-1.0]


def test_a_store_locked_by_another_program_is_left_in_place(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with LogpStore(path) as store:
        store.commit([(key("a"), vector(-1.0))])
    holder = start(HOLD, path)
    monkeypatch.setattr(store_file, "BUSY_SECONDS", 0.1)
    with pytest.raises(ResourceError, match=r"database is locked\)\. Close other runs, or use --cache DIR\."):
        LogpStore(path)
    go(holder)
    assert list(lines(holder)) == []
    with LogpStore(path) as store:
        assert (store.set_aside, store.counts()) == (None, (1, 0))


def test_an_unreadable_store_is_left_in_place(path: Path) -> None:
    path.mkdir(parents=True)
    with pytest.raises(ResourceError, match=r"unable to open database file\)\. Make the folder writable, or use"):
        LogpStore(path)
    assert path.is_dir()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_store_without_permission_is_left_in_place(path: Path) -> None:
    with LogpStore(path) as store:
        store.commit([(key("a"), vector(-1.0))])
    path.chmod(0)
    with pytest.raises(ResourceError, match=r"unable to open database file\)\. Make the folder writable, or use"):
        LogpStore(path)
    path.chmod(0o600)
    with LogpStore(path) as store:
        assert (store.set_aside, store.counts()) == (None, (1, 0))


def test_a_folder_that_cannot_be_created_is_reported_with_advice(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file stands where the folder should")
    with pytest.raises(ResourceError, match="Use --cache DIR"):
        LogpStore(tmp_path / "cache" / "logps.sqlite")
