"""Slices fill a folder of parts that gives the ledger of a single run; damaged parts are reported and recomputed."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.functional.dispatch.processes import wait_until
from tests.functional.dispatch.shards import (
    LIMIT,
    OPTIONS,
    Program,
    assert_damage_is_reported_and_recomputed,
    call,
    fill,
    leftovers,
    merged_table,
    parts_in,
    slice_command,
    start,
)
from tests.functional.runs import POLICY, REF

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("shards_by_tokens")]


@pytest.fixture(scope="module")
def filled(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that two slices have filled, each with its own store."""
    folder = tmp_path_factory.mktemp("filled") / "parts"
    fill(data, folder)
    return folder


@pytest.fixture
def copied(filled: Path, tmp_path: Path) -> Path:
    """Return a folder of parts that a test may modify."""
    return Path(shutil.copytree(filled, tmp_path / "copied"))


def test_slices_give_the_table_of_a_single_run(filled: Path, whole: bytes) -> None:
    assert merged_table(filled) == whole


def test_running_a_slice_again_computes_and_writes_nothing(filled: Path, data: Path, program: Program) -> None:
    before = {path: path.stat().st_mtime_ns for path in filled.rglob("*.parquet")}
    code, out, err = program(*slice_command(data, filled, "0/2"))
    assert (code, err.count("all parts are complete"), "to compute" in err) == (0, 1, False)
    assert "complete" in out
    assert {path: path.stat().st_mtime_ns for path in filled.rglob("*.parquet")} == before


def test_a_part_has_the_same_bytes_whoever_writes_it(filled: Path, data: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    fill(data, again, slices=(2, 0, 1))
    assert parts_in(again) == parts_in(filled)


def test_a_run_without_a_slice_fills_the_folder_and_writes_its_ledger(
    filled: Path, data: Path, whole: bytes, tmp_path: Path
) -> None:
    assert call("score", data, *OPTIONS, "--no-cache", "--parts", "parts", "-o", "all.csv") == 0
    assert Path("all.csv").read_bytes() == whole
    assert parts_in(tmp_path / "parts") == parts_in(filled)


def test_a_slice_reuses_the_parts_of_other_slices(copied: Path, data: Path, whole: bytes) -> None:
    some = sorted(copied.rglob("*.parquet"))[::3]
    for part in some:
        part.unlink()
    assert call("score", data, *OPTIONS, "--no-cache", "--parts", copied, "-o", "all.csv") == 0
    assert Path("all.csv").read_bytes() == whole


def test_the_status_counts_the_parts_of_each_model(copied: Path, program: Program) -> None:
    total = len(json.loads((copied / "plan" / "plan.json").read_text(encoding="utf-8"))["shards"])
    assert total > 4
    (scope, *_) = sorted((copied / "parts").iterdir())
    next(scope.iterdir()).unlink()
    found = json.loads(program("parts", "status", copied, "--json")[1])
    assert (found["schema"], found["pairs"], found["shards"]) == (1, LIMIT, total)
    (one,) = found["runs"]
    assert sorted(one["shards"].values()) == [total - 1, total]
    assert one["missing"] == 1
    assert one["models"] == {"policy": str(POLICY), "ref": str(REF)}


def test_no_ledger_is_written_while_parts_are_missing(copied: Path, program: Program) -> None:
    min(copied.rglob("*.parquet")).unlink()
    code, _, err = program("parts", "merge", copied, "-o", "merged.parquet")
    assert code == 3
    assert " are missing: 1 of " in err
    assert "slice I of N has the shards I, I + N" in err
    assert not Path("merged.parquet").exists()


def cut(part: Path) -> None:
    part.write_bytes(part.read_bytes()[:-20])


def flip(part: Path) -> None:
    content = bytearray(part.read_bytes())
    content[len(content) // 3] ^= 1
    part.write_bytes(content)


def exchange(part: Path) -> None:
    other = next(path for path in sorted(part.parent.iterdir()) if path != part)
    part.write_bytes(other.read_bytes())


@pytest.mark.parametrize("damage", [cut, flip, exchange])
def test_a_damaged_part_is_detected_refused_and_recomputed(
    damage: Callable[[Path], None], copied: Path, data: Path, whole: bytes, program: Program
) -> None:
    part = sorted(copied.rglob("*.parquet"))[1]
    damage(part)
    assert_damage_is_reported_and_recomputed(program, str(part), data, copied, whole, named=part.name)


def test_a_truncated_part_is_recomputed_by_its_slice(copied: Path, data: Path, whole: bytes) -> None:
    cut(sorted(copied.rglob("*.parquet"))[1])
    fill(data, copied)
    assert merged_table(copied) == whole


@pytest.mark.parametrize(
    ("options", "told"),
    [
        pytest.param(["--limit", "7"], "a different limit: 40 there, 7 now", id="limit"),
        pytest.param(["--max-length", "9"], "there, 9 now", id="length"),
        pytest.param(["--truncation", "keep_end"], "a different truncation", id="truncation"),
    ],
)
def test_the_parts_of_another_plan_are_refused(
    options: list[str], told: str, filled: Path, data: Path, program: Program
) -> None:
    code, out, err = program(*slice_command(data, filled, "0/2"), *options)
    assert (code, out) == (2, "")
    assert told in err


def test_another_data_set_is_refused(filled: Path, data: Path, program: Program) -> None:
    other = Path("other.jsonl")
    other.write_text(data.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    code, _, err = program(*slice_command(other, filled, "0/2"))
    assert (code, "a different size of the data set" in err) == (2, True)


@pytest.mark.parametrize("name", ["plan.json", "order.npz", "pairs.arrow", "tokens.json"])
def test_a_damaged_plan_is_reported(name: str, copied: Path, program: Program) -> None:
    path = copied / "plan" / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    code, out, err = program("parts", "merge", copied, "-o", "merged.parquet")
    assert (code, out) == (3, "")
    assert "the plan of these parts is damaged" in err


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        pytest.param(["parts", "status", "nowhere"], 2, "nowhere: this folder has no plan of parts", id="no plan"),
        pytest.param(["score", "x", "--slice", "0/2"], 2, "--slice needs --parts", id="no folder"),
        pytest.param(["score", "x", "--parts", "p", "--slice", "2/2"], 2, "There is no slice 2/2", id="beyond"),
        pytest.param(["score", "x", "--parts", "p", "--slice", "a/2"], 2, "is not of the form I/N", id="no number"),
        pytest.param(["score", "x", "--parts", "p", "--slice", "0/1", "-o", "y.csv"], 2, "neither a", id="output"),
        pytest.param(["score", "x", "--parts", "p", "--noise-floor"], 2, "--noise-floor", id="noise"),
        pytest.param(["score", "-", "--parts", "p"], 2, "cannot share standard input", id="stdin"),
    ],
)
def test_invalid_combinations_of_options_are_reported(
    arguments: list[str], code: int, told: str, program: Program
) -> None:
    found, out, err = program(*arguments)
    assert (found, out) == (code, "")
    assert told in err


def test_killed_slices_leave_only_whole_parts_and_the_next_run_finishes_them(
    data: Path, whole: bytes, filled: Path, tmp_path: Path
) -> None:
    """Both start at the same time, so that both make the plan, and are killed once there are some parts."""
    folder = tmp_path / "killed"
    expected = parts_in(filled)
    processes = [start(*slice_command(data, folder, f"{number}/2")) for number in range(2)]
    # In the folders of parts alone: that of the plan is renamed when it is finished, and a walk may be in it.
    wait_until(lambda: len(list(folder.glob("parts/*/*.parquet"))) > 2, seconds=300)
    for process in processes:
        process.kill()
        assert process.wait() == -signal.SIGKILL
    found = parts_in(folder)
    assert found.items() <= expected.items()
    assert len(found) > 2
    fill(data, folder)
    assert parts_in(folder) == expected
    assert leftovers(folder) == []
    assert merged_table(folder) == whole
