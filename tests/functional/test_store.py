"""The log-prob store under several processes, newer versions, damage and half-done work."""

from __future__ import annotations

import hashlib
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from prefscope.errors import ResourceError
from prefscope.scoring.sequences import TokenSequence
from prefscope.scoring.store import MAX_PARAMETERS, SCHEMA_VERSION, LogpStore, PlannedSequence

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
from prefscope.scoring.sequences import TokenSequence
from prefscope.scoring.store import LogpStore, PlannedSequence
def planned():
    for i in range(2000):
        yield PlannedSequence("policy", i // 10, TokenSequence(np.array([int(sys.argv[2]), i], dtype="i4"), 1))
with LogpStore(Path(sys.argv[1])) as store:
    print("open", flush=True)
    sys.stdin.readline()
    print(store.publish_plan(b"run", planned()), flush=True)
"""


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    """Return a process that has opened the store and waits for the word to go."""
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


def read_everything(path: Path) -> None:
    with LogpStore(path) as store:
        store.lookup([key(str(i)) for i in range(200)])


def sequence(*ids: int) -> TokenSequence:
    return TokenSequence(np.array(ids, dtype=np.int32), 1)


@pytest.fixture(name="path")
def _path(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "logps.sqlite"


def test_two_processes_that_commit_at_once_lose_nothing(path: Path) -> None:
    processes = [start(COMMIT, path, name, TRANSACTIONS, ROWS) for name in ("one", "other")]
    for process in processes:
        go(process)
    for process in processes:
        assert len(list(lines(process))) == TRANSACTIONS
    names = [
        f"{name} {batch} {row}" for name in ("one", "other") for batch in range(TRANSACTIONS) for row in range(ROWS)
    ]
    with LogpStore(path) as store:
        found = store.lookup([key(name) for name in names])
    assert [found[key(name)].tolist() for name in names] == [
        [float(part) for part in name.split()[1:]] for name in names
    ]


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
    processes = [start(PUBLISH, path, number) for number in (1, 2)]
    for process in processes:
        go(process)
    answers = [list(lines(process)) for process in processes]
    with LogpStore(path) as store:
        plan = store.find_plan(b"run")
        assert answers == [[f"{plan}\n"]] * 2
        assert plan is not None
        items = [item for batch in range(200) for item in store.read_batch(plan, "policy", batch)]
    assert len(items) == 2000
    assert len({item.token_ids[0] for item in items}) == 1


def test_what_was_committed_is_there_after_reopening(path: Path) -> None:
    with LogpStore(path) as store:
        store.commit([(key("a"), vector(-1.5, -0.25)), (key("b"), vector())])
    with LogpStore(path) as store:
        found = store.lookup([key("a"), key("b"), key("c")])
        assert {name: logps.tolist() for name, logps in found.items()} == {key("a"): [-1.5, -0.25], key("b"): []}
        assert store.missing([key("a"), key("c")]) == {key("c")}


def test_a_commit_is_all_or_nothing(path: Path) -> None:
    with LogpStore(path) as store:
        broken = [(key("a"), vector(1.0)), (key("b"), vector(2.0)), (object(), vector(3.0))]
        with pytest.raises(ResourceError, match="the log-prob store cannot be used"):
            store.commit(broken)  # type: ignore[arg-type]
        assert store.counts() == (0, 0)
        store.commit(broken[:2])  # type: ignore[arg-type]
        assert store.counts() == (2, 0)


def test_a_plan_is_published_whole_or_not_at_all(path: Path) -> None:
    def planned() -> Iterator[PlannedSequence]:
        yield PlannedSequence("policy", 0, sequence(1, 2))
        raise RuntimeError("the spool is gone")

    with LogpStore(path) as store:
        with pytest.raises(RuntimeError, match="the spool is gone"):
            store.publish_plan(b"run", planned())
        assert store.find_plan(b"run") is None
        assert store.counts() == (0, 0)


def test_what_is_there_already_stays_as_it_is(path: Path) -> None:
    with LogpStore(path) as store:
        store.commit([(key("a"), vector(-1.0))])
        store.commit([(key("a"), vector(-2.0)), (key("b"), vector(-3.0))])
        assert store.lookup([key("a")])[key("a")].tolist() == [-1.0]
        assert store.counts() == (2, 0)


def test_more_keys_than_one_statement_takes_are_all_found() -> None:
    names = [str(i) for i in range(2 * MAX_PARAMETERS + 1)]
    with LogpStore(None) as store:
        store.commit((key(name), vector(float(name))) for name in names)
        assert len(store.lookup([key(name) for name in names])) == len(names)
        assert store.missing([key(name) for name in [*names, "new"]]) == {key("new")}


def test_a_plan_keeps_its_batches_in_order_and_by_role(path: Path) -> None:
    planned = [
        PlannedSequence("policy", 1, sequence(9, 8)),
        PlannedSequence("policy", 0, sequence(7, 6, 5)),
        PlannedSequence("ref", 0, sequence(4, 3)),
        PlannedSequence("policy", 1, sequence(2, 1)),
    ]
    with LogpStore(path) as store:
        plan = store.publish_plan(b"run", planned)
        batches = [[item.token_ids.tolist() for item in store.read_batch(plan, "policy", batch)] for batch in range(2)]
        assert batches == [[[7, 6, 5]], [[9, 8], [2, 1]]]
        assert [store.num_batches(plan, role) for role in ("policy", "ref", "other")] == [2, 1, 0]


def test_a_dropped_plan_is_gone_and_others_stay(path: Path) -> None:
    with LogpStore(path) as store:
        plans = [store.publish_plan(name, [PlannedSequence("policy", 0, sequence(1, 2))]) for name in (b"a", b"b")]
        store.drop_plan(plans[0])
        assert store.find_plan(b"a") is None
        assert store.read_batch(plans[0], "policy", 0) == []
        assert len(store.read_batch(plans[1], "policy", 0)) == 1


def test_the_id_of_a_dropped_plan_is_never_used_again(path: Path) -> None:
    with LogpStore(path) as store:
        first = store.publish_plan(b"a", [PlannedSequence("policy", 0, sequence(1, 2))])
        store.drop_plan(first)
        assert store.publish_plan(b"b", [PlannedSequence("policy", 0, sequence(3, 4))]) != first


def test_clearing_leaves_an_empty_store_that_can_be_used(path: Path) -> None:
    with LogpStore(path) as store:
        store.commit([(key("a"), vector(-1.0))])
        store.publish_plan(b"run", [PlannedSequence("policy", 0, sequence(1, 2))])
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


def test_a_store_of_a_newer_version_is_refused(path: Path) -> None:
    LogpStore(path).close()
    database = sqlite3.connect(path)
    database.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    database.close()
    with pytest.raises(ResourceError, match=r"was written by a newer prefscope\. Update prefscope"):
        LogpStore(path)


def test_a_file_that_is_no_database_is_told_with_what_to_do(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"These are no log-probs, and there are more than a hundred bytes of them. " * 9)
    with pytest.raises(ResourceError, match=r"file is not a database\)\. Delete the file, or use --cache DIR"):
        LogpStore(path)


def test_a_store_that_was_cut_off_is_told_with_what_to_do(path: Path) -> None:
    with LogpStore(path) as store:
        store.commit((key(str(i)), vector(*range(200))) for i in range(200))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ResourceError, match=r"malformed\)\. Delete the file, or use --cache DIR"):
        read_everything(path)


def test_a_folder_that_cannot_be_made_is_told_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file stands where the folder should")
    with pytest.raises(ResourceError, match="Use --cache DIR"):
        LogpStore(tmp_path / "cache" / "logps.sqlite")
