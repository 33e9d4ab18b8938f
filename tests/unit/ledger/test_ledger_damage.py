"""A damaged ledger is refused with a message that names the damaged part; no flipped bit changes a number silently."""

from __future__ import annotations

import json
import random
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prefscope.cli.app import run
from prefscope.errors import DamagedLedgerError, LedgerError
from prefscope.ledger.file import METADATA_KEY, build_schema, write_ledger
from prefscope.ledger.table import Ledger, load_ledger

FLIPS = 60
OLD = Path(__file__).parents[2] / "hygiene" / "ledger-v1.parquet"
NUMBERS = ("policy_chosen_logps", "policy_rejected_logps", "ref_chosen_logps", "ref_rejected_logps")


def pairs(count: int) -> list[dict[str, Any]]:
    tokens = {f"{side}_tokens": ["a", "b"] for side in ("chosen", "rejected")} | {
        f"{role}_{side}_token_logps": [-1.0, -2.5] for role in ("policy", "ref") for side in ("chosen", "rejected")
    }
    counts = {"chosen_num_tokens": 2, "rejected_num_tokens": 2}
    return [{"logps": (-50.5 - i, -60.25, -52.0, -58.0), **counts, **tokens} for i in range(count)]


@pytest.fixture
def ledger(write_pairs: Callable[..., Path]) -> Path:
    return write_pairs(pairs(6), groups=2)


def content(path: Path) -> Any:
    """Return everything that can be read from a ledger."""
    opened = load_ledger(path)
    numbers = {name: opened.stored[name].tolist() for name in (*NUMBERS, "flags", "row", "chosen_num_tokens")}
    rows = [opened.pair(position) for position in range(opened.num_pairs)]
    return numbers, rows, opened.manifest, opened.has_checksums


def flip(path: Path, at: int, bit: int = 0) -> None:
    raw = bytearray(path.read_bytes())
    raw[at] ^= 1 << bit
    path.write_bytes(raw)


def first_byte(path: Path, column: str, group: int) -> int:
    metadata = pq.read_metadata(path)
    names = [metadata.schema.column(i).path.split(".")[0] for i in range(metadata.num_columns)]
    return int(metadata.row_group(group).column(names.index(column)).data_page_offset)


def footer_length(path: Path) -> int:
    return int(struct.unpack("<I", path.read_bytes()[-8:-4])[0])


def test_every_flipped_bit_is_detected_or_harmless(ledger: Path) -> None:
    whole, expected = ledger.read_bytes(), content(ledger)
    draw = random.Random(0)  # noqa: S311 (no secret)
    refused = 0
    for _ in range(FLIPS):
        ledger.write_bytes(whole)
        flip(ledger, draw.randrange(len(whole)), draw.randrange(8))
        try:
            assert content(ledger) == expected
        except LedgerError:
            refused += 1
    assert refused > FLIPS // 2


@pytest.mark.parametrize("offset", [0, 3, 20, 40], ids=lambda offset: f"byte {offset} of the column")
def test_a_damaged_column_is_named_with_its_row_group(ledger: Path, offset: int) -> None:
    flip(ledger, first_byte(ledger, "policy_chosen_logps", 1) + offset)
    with pytest.raises(DamagedLedgerError, match="in column policy_chosen_logps in row group 1"):
        _ = Ledger(ledger).stored["policy_chosen_logps"]


def test_other_columns_of_a_damaged_ledger_are_readable(ledger: Path) -> None:
    flip(ledger, first_byte(ledger, "prompt", 0))
    assert Ledger(ledger).stored["policy_rejected_logps"].tolist() == [-60.25] * 6


def test_a_damaged_manifest_is_named(ledger: Path) -> None:
    flip(ledger, ledger.read_bytes().rindex(b'"bundled"'))
    with pytest.raises(DamagedLedgerError, match="in the manifest in the footer"):
        Ledger(ledger)


def test_a_damaged_footer_is_named(ledger: Path) -> None:
    flip(ledger, ledger.stat().st_size - 8 - footer_length(ledger) + 3)
    with pytest.raises(DamagedLedgerError, match="in the footer"):
        Ledger(ledger)


@pytest.mark.parametrize("before_footer", [1, 10, 60], ids=["magic", "their own digest", "a digest"])
def test_damaged_checksums_are_named(ledger: Path, before_footer: int) -> None:
    flip(ledger, ledger.stat().st_size - 8 - footer_length(ledger) - before_footer)
    with pytest.raises(DamagedLedgerError, match="in its checksums"):
        Ledger(ledger)


def test_a_ledger_from_before_checksums_opens_and_reports_that_it_has_none() -> None:
    assert not Ledger(OLD).has_checksums


def test_equal_contents_give_equal_bytes(write_pairs: Callable[..., Path]) -> None:
    first, second = (write_pairs(pairs(3), name=name).read_bytes() for name in ("a.parquet", "b.parquet"))
    assert first == second


def test_other_readers_of_parquet_read_a_ledger(ledger: Path) -> None:
    assert pq.read_table(ledger, page_checksum_verification=True).num_rows == 6


def rewritten(path: Path, change: Callable[[pa.Table], pa.Table]) -> Path:
    """Rewrite a ledger without checksums and with a change."""
    table = pq.read_table(path)
    manifest = {METADATA_KEY: table.schema.metadata[METADATA_KEY]}
    pq.write_table(change(table.replace_schema_metadata(manifest)), path)
    return path


def replaced(name: str, values: list[Any], kind: pa.DataType) -> Callable[[pa.Table], pa.Table]:
    return lambda table: table.set_column(table.column_names.index(name), name, pa.array(values, kind))


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda table: table.drop_columns(["flags"]), "column flags"),
        (replaced("row", ["a"] * 6, pa.string()), "column row"),
        (replaced("prompt", [1] * 6, pa.int64()), "column prompt"),
        (lambda table: table.append_column("row", pa.array([1] * 6)), "column row"),
        (lambda table: table.drop_columns(["chosen_tokens"]), "column chosen_tokens"),
    ],
    ids=["missing", "text for numbers", "numbers for text", "twice", "some of the token columns"],
)
def test_an_unexpected_column_is_reported_on_opening(ledger: Path, change: Any, part: str) -> None:
    with pytest.raises(DamagedLedgerError, match=f"in {part}"):
        Ledger(rewritten(ledger, change))


def test_token_lists_of_unequal_lengths_are_refused(ledger: Path) -> None:
    path = rewritten(ledger, replaced("ref_chosen_token_logps", [[-1.0]] * 6, pa.list_(pa.float32())))
    with pytest.raises(DamagedLedgerError, match="in the length of a list in column"):
        Ledger(path).pair(0)


def test_a_missing_count_is_refused(ledger: Path) -> None:
    path = rewritten(ledger, replaced("chosen_num_tokens", [None] * 6, pa.int64()))
    with pytest.raises(DamagedLedgerError, match="column chosen_num_tokens"):
        _ = Ledger(path).stored["chosen_num_tokens"]


@pytest.mark.parametrize(
    ("name", "values", "kind"),
    [
        ("source_json", [None] * 6, pa.string()),
        ("policy_rejected_token_logps", [None, *[[-1.0, -2.0]] * 5], pa.list_(pa.float32())),
        ("ref_chosen_token_logps", [None] * 6, pa.list_(pa.float32())),
        ("ref_chosen_token_logps", [[-1.0, None]] * 6, pa.list_(pa.float32())),
        ("chosen_tokens", [["a", None]] * 6, pa.list_(pa.string())),
    ],
    ids=["text", "list", "all lists", "log-prob", "token"],
)
def test_a_missing_text_or_token_is_refused(ledger: Path, name: str, values: list[Any], kind: pa.DataType) -> None:
    path = rewritten(ledger, replaced(name, values, kind))
    with pytest.raises(DamagedLedgerError, match=f"column {name}"):
        Ledger(path).pair(0)


@pytest.mark.parametrize(
    "manifest",
    [
        b"[]",
        b"{}",
        b"{",
        b"[" * 100_000,
        b'{"format": "1"}',
        b'{"format": 1, "extra_columns": 5, "has_reference": true}',
        b'{"format": 1, "extra_columns": {"a": "tensor"}, "has_reference": true}',
        b'{"format": 1, "extra_columns": {}, "has_reference": "yes"}',
        b'{"format": 1, "extra_columns": {}, "has_reference": true, "models": []}',
        b'{"format": 1, "extra_columns": {}, "has_reference": true, "models": {"policy": 5}}',
        b'{"format": 1, "extra_columns": {}, "has_reference": true, "data": {"pairs": "many"}}',
        b'{"format": 1, "extra_columns": {}, "has_reference": true, "noise": {"floor": "low"}}',
        b'{"format": 1, "extra_columns": {}, "has_reference": true, "settings": null}',
        b'{"format": 1, "extra_columns": {}, "has_reference": true, "settings": {"data": []}}',
        b'{"format": 1, "extra_columns": {}, "has_reference": true, "settings": {"data": {"mapping": {"a": 5}}}}',
        b'{"format": 1, "extra_columns": {}, "has_reference": true, "weights": {"erased": true}}',
        b'{"format": 1, "extra_columns": {}, "has_reference": true, "tokenization": {"left_out": [1]}}',
    ],
    ids=lambda manifest: manifest[:100].decode(),
)
def test_an_invalid_manifest_is_refused(ledger: Path, manifest: bytes) -> None:
    path = rewritten(ledger, lambda table: table.replace_schema_metadata({METADATA_KEY: manifest}))
    with pytest.raises(DamagedLedgerError, match="in the manifest in the footer"):
        Ledger(path)


def test_a_damaged_ledger_is_not_reported_as_an_unwritable_output(
    ledger: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for column in ("prompt", "source_json"):
        flip(ledger, first_byte(ledger, column, 1) + 30)
    for name in ("export", "curate"):
        assert run([name, str(ledger), "-o", str(tmp_path / "out.parquet"), *(["--texts"] if name == "export" else [])])
    told = capsys.readouterr().err
    assert "cannot be written" not in told
    assert re.search("this ledger is damaged in column .* in row group 1", told)


def test_a_large_manifest_is_found_in_the_footer(tmp_path: Path) -> None:
    manifest = {"has_reference": False, "settings": {"note": "x" * 100_000}}
    path = tmp_path / "large.parquet"
    write_ledger(path, build_schema({}, manifest, tokens=False), [])
    assert json.dumps(Ledger(path).manifest["settings"]) == json.dumps(manifest["settings"])


def test_reports_note_that_an_old_ledger_has_no_checksums(capsys: pytest.CaptureFixture[str], ledger: Path) -> None:
    notes = {}
    for name, arguments in {"old": [str(OLD)], "new": [str(ledger)], "json": [str(OLD), "--json"]}.items():
        run(["report", *arguments])
        notes[name] = "without checksums" in capsys.readouterr().out
    assert notes == {"old": True, "new": False, "json": False}
