"""Files with private texts are accessible only to their owner; leftovers of dead processes are removed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prefscope.ledger.marks import Mark, load_marks, marks_path
from prefscope.ledger.table import load_ledger
from prefscope.pipeline.parts.places import LocalFolder
from prefscope.private import make_folder, open_file, remove_leftovers
from prefscope.report.export import export
from prefscope.settings import PreferenceSettings

PAIR: dict[str, Any] = {"logps": (-50.0, -60.0, -52.0, -58.0)}


def mode(path: Path) -> str:
    return oct(path.stat().st_mode & 0o777)


@pytest.fixture
def dead() -> int:
    """Return the id of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def test_created_folders_are_accessible_only_to_their_owner(tmp_path: Path) -> None:
    make_folder(tmp_path / "a" / "b")
    assert [mode(tmp_path / name) for name in ("a", "a/b")] == ["0o700", "0o700"]


def test_an_existing_folder_keeps_its_permissions(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    make_folder(tmp_path)
    assert mode(tmp_path) == "0o755"


def test_a_file_is_not_accepted_as_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError):
        make_folder(tmp_path / "file")


def test_a_ledger_is_accessible_only_to_its_owner(write_pairs: Callable[..., Path]) -> None:
    assert mode(write_pairs([PAIR], name="new/ledger.parquet")) == "0o600"


def test_a_shared_ledger_stays_shared_when_replaced(write_pairs: Callable[..., Path]) -> None:
    write_pairs([PAIR]).chmod(0o644)
    assert mode(write_pairs([PAIR])) == "0o644"


def test_marks_are_accessible_only_to_their_owner(write_pairs: Callable[..., Path]) -> None:
    path = write_pairs([PAIR])
    load_marks(path).change({("0" * 16, 0): Mark("drop")})
    assert mode(marks_path(path)) == "0o600"


def test_parts_are_accessible_only_to_their_owner(tmp_path: Path) -> None:
    place = LocalFolder(tmp_path / "parts")
    place.publish("runs/run.json", b"{}")
    place.publish_together("plan", "plan.json", {"plan.json": lambda stream: stream.write(b"{}")})
    names = ("", "runs", "runs/run.json", "plan", "plan/plan.json")
    assert [mode(place.path / name) for name in names] == ["0o700", "0o700", "0o600", "0o700", "0o600"]


def test_a_log_is_accessible_only_to_its_owner(tmp_path: Path) -> None:
    with open_file(tmp_path / "log", "ab") as stream:
        stream.write(b"text")
    assert mode(tmp_path / "log") == "0o600"


def test_an_export_has_default_file_permissions(write_pairs: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "other").write_text("")
    export(load_ledger(write_pairs([PAIR])), PreferenceSettings(), tmp_path / "out.csv")
    assert mode(tmp_path / "out.csv") == mode(tmp_path / "other")


def test_leftovers_of_dead_processes_are_removed_and_those_of_live_ones_kept(tmp_path: Path, dead: int) -> None:
    mine, other = os.getpid(), ".other.csv.1.part"
    left = [f".out.csv.{dead}.part", f".out.csv.{dead}-7.part"]
    kept = [f".out.csv.{mine}.part", f".other.csv.{dead}.part", f"out.csv.{dead}.part", ".out.csv.x.part", other]
    for name in (*left, *kept):
        (tmp_path / name).write_text("")
    remove_leftovers(tmp_path / "out.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)


def test_writing_a_ledger_removes_leftovers_of_a_killed_run(
    write_pairs: Callable[..., Path], tmp_path: Path, dead: int
) -> None:
    (tmp_path / f".ledger.parquet.{dead}.part").write_text("")
    write_pairs([PAIR])
    assert [path.name for path in tmp_path.iterdir()] == ["ledger.parquet"]
