"""Marks: stored beside the ledger, loaded again, undone, and never lost if the file cannot be written."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from prefscope.errors import LedgerError, ResourceError
from prefscope.ledger.marks import EMPTY, Mark, Marks, load_marks, marks_path
from prefscope.ledger.table import Ledger, load_ledger

DROP, NOTE = Mark("drop"), Mark(note="label flipped? ✗")
LOGPS = {"logps": (-50.0, -60.0, -52.0, -58.0)}


@pytest.fixture
def path(write_pairs: Callable[..., Path]) -> Path:
    """Return a ledger of five pairs; the second and the fourth have the same content."""
    ids = ["a" * 16, "b" * 16, "c" * 16, "b" * 16, "d" * 16]
    return write_pairs([{**LOGPS, "pair_id": pair_id} for pair_id in ids], groups=2)


@pytest.fixture
def marks(path: Path) -> Marks:
    return load_marks(path)


def key(ledger: Ledger, position: int) -> tuple[str, int]:
    return str(ledger.stored["pair_id"][position]), int(ledger.occurrences[position])


def test_a_ledger_without_a_file_of_marks_has_none(marks: Marks, path: Path) -> None:
    assert len(marks) == 0
    assert not marks_path(path).exists()


def test_a_mark_survives_reopening(marks: Marks, path: Path) -> None:
    marks.change({("a" * 16, 0): DROP})
    marks.change({("b" * 16, 1): NOTE})
    again = load_marks(path)
    assert dict(again) == {("a" * 16, 0): DROP, ("b" * 16, 1): NOTE}
    assert again.of(("c" * 16, 0)) == EMPTY


def test_marks_are_stored_beside_the_ledger_in_a_readable_file(marks: Marks, path: Path) -> None:
    marks.change({("a" * 16, 0): NOTE})
    file = path.parent / f"{path.stem}.marks.json"
    row = {"pair_id": "a" * 16, "occurrence": 0, "decision": None, "note": NOTE.note}
    assert json.loads(file.read_text(encoding="utf-8")) == {"format": 1, "marks": [row]}
    assert NOTE.note in file.read_text(encoding="utf-8")


def test_changes_are_undone_one_by_one_also_on_disk(marks: Marks, path: Path) -> None:
    for mark in (DROP, Mark("keep")):
        marks.change({("a" * 16, 0): mark})
    assert marks.undo() == 1
    assert dict(load_marks(path)) == {("a" * 16, 0): DROP}
    assert marks.undo() == 1
    assert not marks_path(path).exists()
    assert marks.undo() == 0


def test_many_changes_are_one_step(marks: Marks, path: Path) -> None:
    marks.change({("a" * 16, 0): DROP})
    marks.change({("a" * 16, 0): NOTE, ("b" * 16, 0): DROP, ("c" * 16, 0): Mark()})
    assert dict(load_marks(path)) == {("a" * 16, 0): NOTE, ("b" * 16, 0): DROP}
    assert marks.undo() == 3
    assert dict(load_marks(path)) == dict(marks) == {("a" * 16, 0): DROP}


def test_pairs_with_the_same_content_are_distinguished_by_occurrence(marks: Marks, path: Path) -> None:
    ledger = load_ledger(path)
    assert ledger.occurrences.tolist() == [0, 0, 0, 1, 0]
    marks.change({key(ledger, 3): DROP})
    assert marks.mask(ledger, "drop").tolist() == [False, False, False, True, False]


def test_a_slice_of_the_ledger_keeps_the_occurrences_of_the_whole(marks: Marks, path: Path) -> None:
    ledger = load_ledger(path)
    marks.change({key(ledger, 3): DROP})
    part = ledger.only(ledger.stored["row"] >= 2)
    assert part.occurrences.tolist() == [0, 1, 0]
    assert marks.mask(part, "drop").tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("kind", "expected"), [("drop", [0]), ("keep", []), ("note", [1, 2]), ("swap", [2]), ("any", [0, 1, 2])]
)
def test_masks_select_pairs_with_a_decision_a_note_or_any_mark(
    marks: Marks, path: Path, kind: str, expected: list[int]
) -> None:
    ledger = load_ledger(path)
    for position, mark in enumerate((DROP, NOTE, Mark("swap", "look again"))):
        marks.change({key(ledger, position): mark})
    assert marks.mask(ledger, kind).nonzero()[0].tolist() == expected


def test_marks_of_unknown_pairs_are_harmless(marks: Marks, path: Path) -> None:
    marks.change({("f" * 16, 0): DROP})
    assert not marks.mask(load_ledger(path), "any").any()


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"format": 1}',
        '{"format": 1, "marks": [{"pair_id": "a", "occurrence": 0}]}',
        '{"format": 1, "marks": [{"pair_id": "a", "occurrence": "x", "decision": "drop", "note": ""}]}',
        '{"format": 1, "marks": [{"pair_id": "a", "occurrence": 0, "decision": "burn", "note": ""}]}',
    ],
)
def test_a_damaged_file_is_refused_and_left_unchanged(path: Path, content: str) -> None:
    marks_path(path).write_text(content, encoding="utf-8")
    with pytest.raises(LedgerError, match="these marks cannot be read"):
        load_marks(path)
    assert marks_path(path).read_text(encoding="utf-8") == content


def test_marks_of_a_newer_version_are_refused(path: Path) -> None:
    marks_path(path).write_text('{"format": 2, "marks": []}', encoding="utf-8")
    with pytest.raises(LedgerError, match="newer prefscope"):
        load_marks(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root can write everywhere")
def test_marks_are_unchanged_if_the_folder_is_not_writable(marks: Marks, path: Path) -> None:
    path.parent.chmod(0o500)
    try:
        with pytest.raises(ResourceError, match="the marks cannot be written"):
            marks.change({("a" * 16, 0): DROP})
    finally:
        path.parent.chmod(0o700)
    assert len(marks) == 0


def test_marks_are_unchanged_if_the_file_cannot_be_replaced(marks: Marks, path: Path) -> None:
    marks.change({("a" * 16, 0): DROP})
    marks_path(path).unlink()
    marks_path(path).mkdir()
    with pytest.raises(ResourceError, match="the marks cannot be written"):
        marks.change({("a" * 16, 0): NOTE})
    with pytest.raises(ResourceError, match="the marks cannot be written"):
        marks.undo()
    assert dict(marks) == {("a" * 16, 0): DROP}
