"""Run folders: the index of a training's ledgers."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from prefscope.errors import LedgerError, ResourceError
from prefscope.ledger.file import RUN_INDEX
from prefscope.ledger.marks import marks_path
from prefscope.ledger.run_folder import RunFolder, Step, is_run_folder
from prefscope.ledger.scopes import scopes_path


def test_a_folder_without_an_index_has_no_steps(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "later")
    assert (folder.steps(), folder.scored(), folder.version) == ((), {}, (0, 0))
    assert not is_run_folder(folder.path)


def test_steps_are_kept_in_the_order_of_training_not_of_arrival(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "runs")
    late, broken = Step(1000, "checkpoint-1000", "step-0001000.parquet", epoch=2.5), Step(20, "checkpoint-20")
    for step in (late, broken, Step(100, "checkpoint-100", "step-0000100.parquet")):
        folder.record(step)
    assert [one.step for one in folder.steps()] == [20, 100, 1000]
    assert folder.steps()[2] == late
    assert is_run_folder(folder.path)


def test_only_ledgers_that_are_still_there_are_listed(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for number in (1, 2):
        folder.record(Step(number, "", folder.ledger_path(number).name))
    folder.ledger_path(2).touch()
    assert folder.scored() == {2: tmp_path / "step-0000002.parquet"}


def test_a_checkpoint_that_failed_once_does_not_hide_its_ledger(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    failed, scored = Step(1, "c", problem="half written"), Step(1, "c", "step-0000001.parquet")
    for step in (failed, scored, failed):
        folder.record(step)
    assert folder.steps() == (scored,)


def test_steps_after_the_one_a_training_is_resumed_from_are_dropped_but_not_their_ledgers(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for number in (100, 200, 300):
        folder.ledger_path(number).touch()
        folder.record(Step(number, "c", folder.ledger_path(number).name))
    assert (folder.drop_after(100), folder.drop_after(100)) == (2, 0)
    assert [one.step for one in folder.steps()] == [100]
    assert folder.ledger_path(300).is_file()


def test_the_version_changes_with_every_step(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    versions = {folder.version}
    for number in range(3):
        folder.record(Step(number, ""))
        versions.add(folder.version)
    assert len(versions) == 4


def test_no_step_is_lost_if_several_write_at_once(tmp_path: Path) -> None:
    def record(start: int) -> None:
        for number in range(start, start + 20):
            RunFolder(tmp_path).record(Step(number, "c"))

    writers = [threading.Thread(target=record, args=(20 * number,)) for number in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [one.step for one in RunFolder(tmp_path).steps()] == list(range(80))


@pytest.mark.parametrize(
    "step",
    [
        {"step": -1},
        {"step": True},
        {"step": "5"},
        {"step": 5, "ledger": "../other.parquet"},
        {"step": 5, "ledger": ""},
        {"step": 5, "epoch": "1"},
        {"step": 5, "problem": None},
        {"step": 5, "colour": "red"},
        {},
    ],
)
def test_a_damaged_index_is_refused(tmp_path: Path, step: dict[str, Any]) -> None:
    (tmp_path / RUN_INDEX).write_text(json.dumps({"format": 1, "steps": [{"checkpoint": "c", **step}]}))
    with pytest.raises(LedgerError, match="index of the run folder cannot be read"):
        RunFolder(tmp_path).steps()


def test_an_index_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / RUN_INDEX).write_text('{"format": 2, "steps": []}')
    with pytest.raises(LedgerError, match="newer prefscope"):
        RunFolder(tmp_path).steps()


def test_a_folder_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ResourceError, match="index of the run folder cannot be written"):
        RunFolder(tmp_path / "file").record(Step(1, "c"))


def test_the_steps_of_a_run_folder_share_marks_and_scopes(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.record(Step(100, "c", folder.ledger_path(100).name))
    paths = {marks_path(folder.ledger_path(step)) for step in (100, 2_000_000, 20_000_000)}
    assert paths == {tmp_path / "training.marks.json"}
    assert scopes_path(folder.ledger_path(100)) == tmp_path / "training.scopes.json"
    assert marks_path(tmp_path / "mine.parquet") == tmp_path / "mine.marks.json"


def test_a_ledger_that_is_only_named_like_a_step_has_its_own_marks(tmp_path: Path) -> None:
    assert marks_path(tmp_path / "step-0000100.parquet") == tmp_path / "step-0000100.marks.json"
