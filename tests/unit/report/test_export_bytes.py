"""The exact bytes of a flat table, for a ledger with all difficult values."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from prefscope.ledger.table import Ledger, load_ledger
from prefscope.report.export import export, write_csv
from prefscope.settings import LossChoice, PreferenceSettings

PREFERENCES = PreferenceSettings(beta=0.5, losses=(LossChoice("ipo_azar"),), weights=True)  # (h − 1)², −2(h − 1)

HEADER = (
    "row,pair_id,note,score,data_row,ok,tags,"
    "policy_chosen_logps,policy_rejected_logps,ref_chosen_logps,ref_rejected_logps,chosen_num_tokens,"
    "rejected_num_tokens,chosen_logratios,rejected_logratios,chosen_rewards,rejected_rewards,margins,outcome,"
    "ipo_azar_loss,ipo_azar_weight,flags,prompt,chosen,rejected\n"
)
CSV = (
    HEADER
    + "0,0000000000000000,[b]bold[/b],0.1,7,True,"
    + '"[1, ""ü""]",-1.5,-2.5,-1.0,-3.0,1,2,-0.5,0.5,-0.25,0.25,-0.5,loss,4.0,4.0,,'
    + '"a, ""quoted""\nline",日本語 👩\u200d👧,\n'
    + "1,0000000000000001,\x1b[31m,inf,,False,{},-0.25,-0.75,-0.5,-0.5,20,30,0.25,-0.25,0.125,-0.125,0.25,win,0.25,1.0,"
    + "truncated;no_eos,tab\there,chosen 1,rejected 1\n"
    + "2,0000000000000002,,nan,-1,,,nan,-1e-300,-0.1,-inf,0,30,nan,inf,nan,inf,nan,,nan,nan,non_finite,"
    + "prompt 2,chosen 2,rejected 2\n"
)


@pytest.fixture
def ledger(write_pairs: Callable[..., Path]) -> Ledger:
    path = write_pairs(
        [
            {
                "logps": (-1.5, -2.5, -1.0, -3.0),
                "chosen_num_tokens": 1,
                "rejected_num_tokens": 2,
                "prompt": 'a, "quoted"\nline',
                "chosen": "日本語 👩\u200d👧",
                "rejected": "",
            },
            {"logps": (-0.25, -0.75, -0.5, -0.5), "flags": "truncated;no_eos", "prompt": "tab\there"},
            {"logps": (math.nan, -1e-300, -0.1, -math.inf), "flags": "non_finite", "chosen_num_tokens": 0},
        ],
        extra={
            "note": ("text", ["[b]bold[/b]", "\x1b[31m", None]),
            "score": ("number", [0.1, math.inf, math.nan]),
            "data_row": ("integer", [7, None, -1]),
            "ok": ("boolean", [True, False, None]),
            "tags": ("json", ['[1, "ü"]', "{}", None]),
        },
        groups=2,
    )
    return load_ledger(path)


def exported(ledger: Ledger, folder: Path, name: str, *, texts: bool = True) -> bytes:
    export(ledger, PREFERENCES, folder / name, texts=texts)
    return (folder / name).read_bytes()


def test_csv_to_the_byte(ledger: Ledger, tmp_path: Path) -> None:
    assert exported(ledger, tmp_path, "x.csv").decode() == CSV


def test_csv_on_a_stream_is_the_csv_of_a_file(ledger: Ledger, tmp_path: Path) -> None:
    stream = io.StringIO()
    write_csv(ledger, PREFERENCES, stream, texts=True)
    assert stream.getvalue().encode() == exported(ledger, tmp_path, "x.csv")


def test_tsv_to_the_byte(ledger: Ledger, tmp_path: Path) -> None:
    lines = exported(ledger, tmp_path, "x.tsv").decode().split("\n")
    assert lines[0] == HEADER.rstrip("\n").replace(",", "\t")
    assert lines[3] == (
        "1\t0000000000000001\t\x1b[31m\tinf\t\tFalse\t{}\t-0.25\t-0.75\t-0.5\t-0.5\t20\t30\t0.25\t-0.25\t0.125\t-0.125"
        '\t0.25\twin\t0.25\t1.0\ttruncated;no_eos\t"tab\there"\tchosen 1\trejected 1'
    )
    rows = list(csv.reader(io.StringIO("\n".join(lines), newline=""), delimiter="\t"))
    assert rows == list(csv.reader(io.StringIO(CSV, newline="")))


def test_json_lines_to_the_byte(ledger: Ledger, tmp_path: Path) -> None:
    lines = exported(ledger, tmp_path, "x.jsonl").decode().split("\n")
    assert lines[0] == (
        '{"row": 0, "pair_id": "0000000000000000", "note": "[b]bold[/b]", "score": 0.1, "data_row": 7, "ok": true, '
        '"tags": "[1, \\"ü\\"]", "policy_chosen_logps": -1.5, "policy_rejected_logps": -2.5, "ref_chosen_logps": -1.0, '
        '"ref_rejected_logps": -3.0, "chosen_num_tokens": 1, "rejected_num_tokens": 2, "chosen_logratios": -0.5, '
        '"rejected_logratios": 0.5, "chosen_rewards": -0.25, "rejected_rewards": 0.25, "margins": -0.5, '
        '"outcome": "loss", "ipo_azar_loss": 4.0, "ipo_azar_weight": 4.0, "flags": "", '
        '"prompt": "a, \\"quoted\\"\\nline", "chosen": "日本語 👩\u200d👧", "rejected": ""}'
    )
    assert lines[2] == (
        '{"row": 2, "pair_id": "0000000000000002", "note": null, "score": null, "data_row": -1, "ok": null, '
        '"tags": null, "policy_chosen_logps": null, "policy_rejected_logps": -1e-300, "ref_chosen_logps": -0.1, '
        '"ref_rejected_logps": null, "chosen_num_tokens": 0, "rejected_num_tokens": 30, "chosen_logratios": null, '
        '"rejected_logratios": null, "chosen_rewards": null, "rejected_rewards": null, "margins": null, '
        '"outcome": "", "ipo_azar_loss": null, "ipo_azar_weight": null, "flags": "non_finite", '
        '"prompt": "prompt 2", "chosen": "chosen 2", "rejected": "rejected 2"}'
    )
    assert lines[3:] == [""]


def test_csv_and_json_lines_agree_cell_for_cell(ledger: Ledger, tmp_path: Path) -> None:
    separated = list(csv.DictReader(io.StringIO(exported(ledger, tmp_path, "x.csv").decode(), newline="")))
    objects = [json.loads(line) for line in exported(ledger, tmp_path, "x.jsonl").decode().splitlines()]
    assert [list(row) for row in separated] == [list(row) for row in objects]
    for cells, values in zip(separated, objects, strict=True):
        for name, value in values.items():
            expected = ("", "nan", "inf", "-inf") if value is None else (str(value),)
            assert cells[name] in expected, name


def test_without_texts_the_table_ends_with_the_flags(ledger: Ledger, tmp_path: Path) -> None:
    header = exported(ledger, tmp_path, "x.csv", texts=False).decode().split("\n")[0]
    assert header + ",prompt,chosen,rejected\n" == HEADER


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
def test_a_packed_table_unpacks_to_the_plain_one(ledger: Ledger, tmp_path: Path, suffix: str) -> None:
    packed = exported(ledger, tmp_path, f"x{suffix}.gz")
    assert gzip.decompress(packed) == exported(ledger, tmp_path, f"x{suffix}")


def test_compressing_a_table_again_gives_the_same_bytes(ledger: Ledger, tmp_path: Path) -> None:
    first, second = (exported(ledger, tmp_path / folder, "x.csv.gz") for folder in ("a", "b"))
    assert first == second
    assert first[4:8] == bytes(4)  # no time in the header


def test_equal_tables_have_equal_packed_bytes_under_any_name(ledger: Ledger, tmp_path: Path) -> None:
    first, second = (exported(ledger, tmp_path, name) for name in ("a.csv.gz", "b.csv.gz"))
    assert first == second


def test_a_carriage_return_in_a_text_does_not_end_the_row(write_pairs: Callable[..., Path], tmp_path: Path) -> None:
    ledger = load_ledger(write_pairs([{"logps": (-1.0, -2.0, -1.0, -2.0), "prompt": "old\rMac"}]))
    text = exported(ledger, tmp_path, "x.csv").decode()
    assert next(csv.DictReader(io.StringIO(text, newline="")))["prompt"] == "old\rMac"


DANGEROUS = ["=1+1", "+cmd", "-1+1", "@sum", "\tx", "\rx", "-1.5e3", "plain ="]
SAFE = ["'=1+1", "'+cmd", "'-1+1", "'@sum", "'\tx", "'\rx", "-1.5e3", "plain ="]


@pytest.mark.parametrize(("csv_safe", "expected"), [(False, DANGEROUS), (True, SAFE)])
def test_csv_safe_turns_formulas_into_text(
    write_pairs: Callable[..., Path], tmp_path: Path, csv_safe: bool, expected: list[str]
) -> None:
    rows = [{"logps": (-1.5, -2.5, -1.0, -3.0), "prompt": text} for text in DANGEROUS]
    ledger = load_ledger(write_pairs(rows, extra={"=note": ("text", DANGEROUS)}))
    export(ledger, PREFERENCES, tmp_path / "x.csv", texts=True, csv_safe=csv_safe)
    with (tmp_path / "x.csv").open(encoding="utf-8", newline="") as stream:
        found = list(csv.DictReader(stream))
    assert [row["prompt"] for row in found] == expected
    assert [row["'=note" if csv_safe else "=note"] for row in found] == expected
    assert {row["policy_chosen_logps"] for row in found} == {"-1.5"}


def test_other_formats_hold_formulas_as_they_are(ledger: Ledger, tmp_path: Path) -> None:
    export(ledger, PREFERENCES, tmp_path / "safe.jsonl", csv_safe=True)
    export(ledger, PREFERENCES, tmp_path / "plain.jsonl")
    assert (tmp_path / "safe.jsonl").read_bytes() == (tmp_path / "plain.jsonl").read_bytes()
