"""A curated data set: every layout is written as it was, without dropped pairs and with swapped ones swapped."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from prefscope.data.dialects import normalise
from prefscope.data.records import PreferencePair, SourceRow, Text
from prefscope.data.sources import open_source
from prefscope.errors import DataError, ResourceError, UsageError
from prefscope.ledger.columns import LOGPS
from prefscope.ledger.marks import Decision, Mark, Marks, load_marks, marks_path
from prefscope.ledger.table import Ledger, load_ledger
from prefscope.pipeline.ready_made import import_logps
from prefscope.report.curate import Curated, curate, write_curated
from prefscope.settings import DataSettings
from tests.unit.data.examples import ASK, EXAMPLES, LEAD, NO, YES, Example, refilled

Rows = Sequence[Mapping[str, Any]]
Import = Callable[..., Ledger]
GIVEN = dict(zip(LOGPS, (-50.0, -60.0, -52.0, -58.0), strict=True))
FOUR_PAIRS = [{"prompt": f"q{row}", "chosen": f"a{row}", "rejected": f"b{row}"} for row in range(4)]
DROP_AND_SWAP: Mapping[int, Decision] = {0: "keep", 1: "drop", 2: "swap"}
NO_CELLS = ("alpaca in full", "ms-swift query in full", "openai", "ms-swift list")
"""Layouts with lists or objects of their own, which nobody looks for in the text of a cell."""
EACH = pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES.keys())


@pytest.fixture
def imported(tmp_path: Path) -> Import:
    """Return a function that makes a ledger of rows, which are given log-probs, as `prefscope score` does."""

    def make(rows: Rows, **asked: Any) -> Ledger:
        source = tmp_path / "pairs.jsonl"
        lines = [json.dumps({**row, **GIVEN}, ensure_ascii=False) for row in rows]
        source.write_text("\n".join(lines) + "\n", encoding="utf-8")
        settings = DataSettings(str(source), **asked)
        return load_ledger(import_logps(settings, lambda _: tmp_path / "ledger.parquet", lambda _: None))

    return make


def marked(ledger: Ledger, decisions: Mapping[int, Decision | None]) -> Marks:
    """Return the marks of a ledger after some were made."""
    marks = load_marks(ledger.path)
    for position, decision in decisions.items():
        key = (str(ledger.stored["pair_id"][position]), int(ledger.occurrences[position]))
        marks.change({key: Mark(decision, "a note")})
    return marks


def read(path: Path, **reading: Any) -> list[PreferencePair]:
    rows = list(open_source(str(path)).rows())
    return [normalise(row, **reading)[0] for row in rows if isinstance(row, SourceRow)]


def texts(pair: PreferencePair) -> tuple[Text, Text, Text]:
    return pair.prompt, pair.chosen, pair.rejected


def different(example: Example) -> Rows:
    """Return four rows in the layout of an example, each of other words where the layout's example has them."""
    return [refilled(example.row, {"2+2?": f"ask {n}", "4": f"yes {n}", "5": f"no {n}"}) for n in "wxyz"]


def expected_texts(rows: Rows) -> list[tuple[Text, Text, Text]]:
    """Return the parts of the first, the swapped third and the fourth row."""
    first, _, third, fourth = (normalise(SourceRow(0, 1, row))[0] for row in rows)
    return [texts(first), (third.prompt, third.rejected, third.chosen), texts(fourth)]


# Every layout


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".jsonl.gz", ".json.gz"])
@EACH
def test_a_layout_is_written_back_in_json(example: Example, suffix: str, imported: Import, tmp_path: Path) -> None:
    rows = different(example)
    ledger = imported(rows)
    path = tmp_path / f"curated{suffix}"
    assert curate(ledger, marked(ledger, DROP_AND_SWAP), path) == Curated(written=3, dropped=1, swapped=1)
    assert [texts(pair) for pair in read(path)] == expected_texts(rows)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".csv.gz", ".tsv.gz"])
@pytest.mark.parametrize("name", [name for name in EXAMPLES if name not in NO_CELLS])
def test_a_layout_is_written_back_in_cells(name: str, suffix: str, imported: Import, tmp_path: Path) -> None:
    rows = different(EXAMPLES[name])
    ledger = imported(rows)
    path = tmp_path / f"curated{suffix}"
    curate(ledger, marked(ledger, DROP_AND_SWAP), path)
    assert [texts(pair) for pair in read(path)] == expected_texts(rows)


@pytest.mark.parametrize("name", NO_CELLS)
def test_a_layout_that_cells_cannot_hold_is_refused_by_name(name: str, imported: Import, tmp_path: Path) -> None:
    ledger = imported(different(EXAMPLES[name]))
    path = tmp_path / "curated.csv"
    path.write_text("as it was")
    with pytest.raises(DataError) as error:
        curate(ledger, marked(ledger, DROP_AND_SWAP), path)
    pair_id = ledger.stored["pair_id"][0]
    assert str(error.value) == (
        f"line 1, pair {pair_id}: this row would not be the same pair in .csv. Write .jsonl, which can store every row."
    )
    assert path.read_text() == "as it was"
    assert not [*tmp_path.glob(".*.part")]


@EACH
def test_a_layout_is_written_back_in_parquet(example: Example, imported: Import, tmp_path: Path) -> None:
    rows = different(example)
    ledger = imported(rows)
    path = tmp_path / "curated.parquet"
    curate(ledger, marked(ledger, DROP_AND_SWAP), path)
    assert [texts(pair) for pair in read(path)] == expected_texts(rows)
    assert pq.read_schema(path).names == [*rows[0], *GIVEN]


def test_a_layout_that_was_named_column_by_column_is_swapped_by_these_names(imported: Import, tmp_path: Path) -> None:
    mapping = {"prompt": "q", "chosen": "good", "rejected": "bad"}
    ledger = imported([{"q": "2+2?", "good": "4", "bad": "5"}], mapping=mapping)
    curate(ledger, marked(ledger, {0: "swap"}), tmp_path / "curated.csv")
    (pair,) = read(tmp_path / "curated.csv", mapping=mapping)
    assert texts(pair) == ("2+2?", "5", "4")


# What stays as it was


def test_a_row_that_is_not_swapped_is_written_to_the_byte(imported: Import, tmp_path: Path) -> None:
    odd: dict[str, Any] = {
        "z": 1.10,
        "big": 2**70,
        "none": None,
        "nested": {"b": [None, {}], "a": "NaN \u2028 ü"},
        **FOUR_PAIRS[0],
    }
    ledger = imported([{**odd, **FOUR_PAIRS[0]}, *FOUR_PAIRS[1:]])
    curate(ledger, marked(ledger, DROP_AND_SWAP), tmp_path / "curated.jsonl")
    first, _, third, fourth = (tmp_path / "pairs.jsonl").read_text(encoding="utf-8").split("\n")[:4]
    lines = (tmp_path / "curated.jsonl").read_text(encoding="utf-8").split("\n")
    assert [lines[0], *lines[2:]] == [first, fourth, ""]
    assert list(json.loads(lines[1])) == list(json.loads(third))


def test_columns_that_describe_a_response_are_swapped_with_it(imported: Import, tmp_path: Path) -> None:
    ledger = imported([{**FOUR_PAIRS[0], "score_chosen": 9, "score_rejected": 1}])
    curate(ledger, marked(ledger, {0: "swap"}), tmp_path / "curated.jsonl")
    row = json.loads((tmp_path / "curated.jsonl").read_text())
    assert (row["chosen"], row["score_chosen"], row["policy_chosen_logps"]) == ("b0", 1, -60.0)


def test_without_marks_the_data_set_is_written_as_it_was(imported: Import, tmp_path: Path) -> None:
    ledger = imported(FOUR_PAIRS)
    assert curate(ledger, load_marks(ledger.path), tmp_path / "curated.jsonl") == Curated(4, 0, 0)
    assert (tmp_path / "curated.jsonl").read_bytes() == (tmp_path / "pairs.jsonl").read_bytes()


def test_a_note_alone_decides_nothing(imported: Import, tmp_path: Path) -> None:
    ledger = imported(FOUR_PAIRS)
    assert curate(ledger, marked(ledger, {0: None}), tmp_path / "curated.jsonl") == Curated(4, 0, 0)


def test_of_pairs_with_the_same_content_the_marked_one_is_dropped(imported: Import, tmp_path: Path) -> None:
    rows = [{**FOUR_PAIRS[0], "id": row} for row in range(3)]
    ledger = imported(rows)
    curate(ledger, marked(ledger, {1: "drop"}), tmp_path / "curated.jsonl")
    assert [pair.columns["id"] for pair in read(tmp_path / "curated.jsonl")] == [0, 2]


def test_of_some_of_the_pairs_only_these_are_written(imported: Import, tmp_path: Path) -> None:
    ledger = imported(FOUR_PAIRS)
    marks = marked(ledger, DROP_AND_SWAP)
    part = ledger.only(ledger.stored["row"] >= 2)
    assert curate(part, marks, tmp_path / "curated.jsonl") == Curated(2, 0, 1)
    assert [pair.chosen for pair in read(tmp_path / "curated.jsonl")] == ["b2", "a3"]


def test_a_number_that_json_does_not_know_is_null(imported: Import, tmp_path: Path) -> None:
    ledger = imported([{**FOUR_PAIRS[0], "a": float("nan"), "b": float("-inf"), "c": "NaN"}])
    curate(ledger, load_marks(ledger.path), tmp_path / "curated.jsonl")
    row = json.loads((tmp_path / "curated.jsonl").read_text(), parse_constant=pytest.fail)
    assert (row["a"], row["b"], row["c"]) == (None, None, "NaN")


def test_json_lines_on_a_stream_are_those_of_a_file(imported: Import, tmp_path: Path) -> None:
    ledger = imported(FOUR_PAIRS)
    marks, stream = marked(ledger, DROP_AND_SWAP), io.StringIO()
    assert write_curated(ledger, marks, stream) == curate(ledger, marks, tmp_path / "curated.jsonl.gz")
    assert gzip.decompress((tmp_path / "curated.jsonl.gz").read_bytes()).decode() == stream.getvalue()


# Tables


def test_cells_hold_every_column_of_any_row_and_nested_values_as_json(imported: Import, tmp_path: Path) -> None:
    first = {**FOUR_PAIRS[0], "tags": ["ü", 1], "ok": True}
    ledger = imported([first, {**FOUR_PAIRS[1], "note": 'a "b"\r,', "ok": None}])
    curate(ledger, load_marks(ledger.path), tmp_path / "curated.csv")
    logps = "-50.0,-60.0,-52.0,-58.0"
    assert (tmp_path / "curated.csv").read_bytes().decode() == (
        f"prompt,chosen,rejected,tags,ok,{','.join(GIVEN)},note\n"
        f'q0,a0,b0,"[""ü"", 1]",true,{logps},\n'
        f'q1,a1,b1,,,{logps},"a ""b""\r,"\n'
    )


def test_a_system_prompt_that_some_rows_do_not_have_is_refused_in_a_table(imported: Import, tmp_path: Path) -> None:
    ledger = imported([FOUR_PAIRS[0], {**FOUR_PAIRS[1], "system": "Be brief."}])
    for suffix in (".csv", ".parquet"):
        with pytest.raises(DataError, match=r"line 1, pair .*: this row would not be the same pair"):
            curate(ledger, load_marks(ledger.path), tmp_path / f"curated{suffix}")


def test_values_of_two_kinds_in_a_column_are_refused_in_parquet(imported: Import, tmp_path: Path) -> None:
    ledger = imported([{**FOUR_PAIRS[0], "id": 1}, {**FOUR_PAIRS[1], "id": "one"}])
    with pytest.raises(DataError, match=r"^Parquet cannot hold these rows \(.*'one'.*\)\. Write \.jsonl\.$"):
        curate(ledger, load_marks(ledger.path), tmp_path / "curated.parquet")
    assert not [*tmp_path.glob("*curated*")]


def test_tools_whose_keys_are_in_another_order_in_parquet_are_refused(imported: Import, tmp_path: Path) -> None:
    messages = {"prompt": [ASK], "chosen": [YES], "rejected": [NO]}
    ledger = imported([{**messages, "tools": [{"a": 1, "b": 2}]}, {**messages, "tools": [{"b": 1, "a": 2}]}])
    with pytest.raises(DataError, match=r"line 2, pair .*: this row would not be the same pair in \.parquet"):
        curate(ledger, load_marks(ledger.path), tmp_path / "curated.parquet")


def test_messages_of_unlike_keys_are_the_same_pairs_in_parquet(imported: Import, tmp_path: Path) -> None:
    named = {"prompt": [LEAD, {**ASK, "name": "Kim"}], "chosen": [YES], "rejected": [NO]}
    rows = [{"prompt": [ASK], "chosen": [YES], "rejected": [NO]}, named]
    ledger = imported(rows)
    curate(ledger, load_marks(ledger.path), tmp_path / "curated.parquet")
    assert [pair.pair_id for pair in read(tmp_path / "curated.parquet")] == ledger.stored["pair_id"].tolist()


# What is refused


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_a_row_that_cannot_be_swapped_is_refused_by_name_before_anything_is_written(
    suffix: str, imported: Import, tmp_path: Path
) -> None:
    ledger = imported([FOUR_PAIRS[0], {"answer": 4}])
    path = tmp_path / f"curated{suffix}"
    path.write_text("as it was")
    with pytest.raises(DataError) as error:
        curate(ledger, marked(ledger, {1: "swap"}), path)
    assert str(error.value) == (
        f"line 2, pair {ledger.stored['pair_id'][1]}: this row cannot be swapped (no known preference layout). "
        "Remove its mark, or drop it."
    )
    assert path.read_text() == "as it was"


def test_a_response_whose_turn_says_more_than_a_text_can_is_not_swapped(imported: Import, tmp_path: Path) -> None:
    ledger = imported([{"messages": [ASK, {**YES, "name": "Kim"}], "rejected_response": "5"}])
    with pytest.raises(DataError, match=r"line 1, .*: this row would be a different pair after swapping"):
        curate(ledger, marked(ledger, {0: "swap"}), tmp_path / "curated.jsonl")


def test_a_data_set_of_which_nothing_is_left_is_refused(imported: Import, tmp_path: Path) -> None:
    ledger = imported(FOUR_PAIRS[:1])
    with pytest.raises(UsageError, match="No pair is left to write"):
        curate(ledger, marked(ledger, {0: "drop"}), tmp_path / "curated.jsonl")
    assert not (tmp_path / "curated.jsonl").exists()


def test_neither_the_ledger_nor_its_marks_nor_the_scored_data_set_is_written_over(imported: Import) -> None:
    ledger = imported(FOUR_PAIRS)
    marks = marked(ledger, DROP_AND_SWAP)
    for path in (ledger.path, marks_path(ledger.path), ledger.path.with_name("pairs.jsonl")):
        before = path.read_bytes()
        with pytest.raises(UsageError, match=r": this is the .*\. Choose another name\."):
            curate(ledger, marks, path)
        assert path.read_bytes() == before


def test_a_file_that_cannot_be_written_is_reported_in_a_sentence(imported: Import, tmp_path: Path) -> None:
    ledger = imported(FOUR_PAIRS)
    (tmp_path / "curated.jsonl").mkdir()
    with pytest.raises(ResourceError, match=r"curated.jsonl: this file cannot be written \(.*\)"):
        curate(ledger, load_marks(ledger.path), tmp_path / "curated.jsonl")
    assert not [*tmp_path.glob(".*.part")]
