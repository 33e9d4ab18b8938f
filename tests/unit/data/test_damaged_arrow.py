"""Arrow trusts its files: offsets that point outside the memory must be refused before anything is read."""

from __future__ import annotations

import struct
from pathlib import Path

import pyarrow as pa
import pytest

from prefscope.data.records import BadRow
from prefscope.data.sources import open_source
from prefscope.errors import DataError


def texts(content: bytes, *ends: int) -> pa.StringArray:
    offsets = struct.pack(f"<{len(ends) + 1}i", 0, *ends)
    return pa.StringArray.from_buffers(len(ends), pa.py_buffer(offsets), pa.py_buffer(content))


def written(path: Path, prompts: pa.Array) -> Path:
    same = pa.array(["a", "b"])
    batch = pa.record_batch([prompts, same, same], ["prompt", "chosen", "rejected"])
    with pa.ipc.new_file(path, batch.schema) as stream:
        stream.write_batch(batch)
    return path


@pytest.mark.parametrize(
    "prompts",
    [texts(b"ab", 1 << 30, 2), texts(b"ab", -9, 2), pa.DictionaryArray.from_arrays([0, 7], ["x"], safe=False)],
    ids=["beyond the end", "before the beginning", "not in the dictionary"],
)
def test_a_file_that_points_outside_its_memory_is_refused(tmp_path: Path, prompts: pa.Array) -> None:
    source = open_source(str(written(tmp_path / "data.arrow", prompts)))
    with pytest.raises(DataError, match=r"data\.arrow: cannot be read as Arrow: "):
        list(source.rows())


@pytest.mark.parametrize(
    "prompts",
    [
        texts(b"a\xe9", 1, 2),
        pa.ListArray.from_arrays([0, 1, 2], texts(b"a\xe9", 1, 2)),
        pa.DictionaryArray.from_arrays([0, 1], texts(b"a\xe9", 1, 2)),
        pa.MapArray.from_arrays([0, 1, 2], pa.array(["k", "k"]), texts(b"a\xe9", 1, 2)),
        pa.ListArray.from_arrays([0, 1, 2], pa.StructArray.from_arrays([texts(b"a\xe9", 1, 2)], ["content"])),
    ],
    ids=lambda prompts: str(prompts.type),
)
def test_text_that_is_not_utf_8_makes_its_row_bad(tmp_path: Path, prompts: pa.Array) -> None:
    first, second = open_source(str(written(tmp_path / "data.arrow", prompts))).rows()
    assert not isinstance(first, BadRow)
    assert second == BadRow(1, 2, "`prompt` contains text that is not UTF-8 (byte 0xE9)")
