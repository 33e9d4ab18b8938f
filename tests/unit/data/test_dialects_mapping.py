"""Columns are read as the user maps them."""

from __future__ import annotations

import pytest

from prefscope.data.dialects import NotAPairError, mapped_dialect, normalise, parse_mapping
from prefscope.data.records import Message, SourceRow
from prefscope.errors import UsageError

ROW = {"q": "2+2?", "good": "4", "bad": "5", "lead": "Be brief.", "id": 1}


def test_a_mapping_is_parsed_with_spaces_around_its_names() -> None:
    assert parse_mapping("prompt=q, chosen = good,rejected=bad") == {"prompt": "q", "chosen": "good", "rejected": "bad"}


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("prompt", "'prompt' is not of the form part=column"),
        ("chosen=", "'chosen=' is not of the form part=column"),
        ("chosen=a,chosen=b", "chosen is named twice"),
        ("chosen=a", "no column is named for rejected"),
        ("chosen=a,rejected=b,answer=c", "'answer' is not one of prompt, chosen, rejected, system, tools"),
    ],
)
def test_an_invalid_mapping_is_reported(text: str, what: str) -> None:
    with pytest.raises(UsageError) as told:
        parse_mapping(text)
    assert told.value.what == what


def test_mapped_columns_are_read_and_the_rest_kept() -> None:
    mapping = parse_mapping("prompt=q,chosen=good,rejected=bad,system=lead")
    pair, dialect = normalise(SourceRow(0, 1, ROW), mapping=mapping)
    assert (dialect, pair.columns) == ("map", {"id": 1})
    assert pair.prompt == (Message("system", "Be brief."), Message("user", "2+2?"))
    assert (pair.chosen, pair.rejected) == ((Message("assistant", "4"),), (Message("assistant", "5"),))


def test_a_mapping_without_a_prompt_finds_it_in_the_texts() -> None:
    row = {"good": "The sky is blue.", "bad": "The sky is black."}
    pair, _ = normalise(SourceRow(0, 1, row), mapping={"chosen": "good", "rejected": "bad"})
    assert (pair.prompt, pair.chosen, pair.rejected) == ("The sky is", " blue.", " black.")


def test_a_missing_mapped_column_is_reported_with_the_columns_found() -> None:
    with pytest.raises(NotAPairError) as told:
        normalise(SourceRow(0, 1, ROW), mapping={"prompt": "text", "chosen": "good", "rejected": "bad"})
    assert told.value.reason == "`text` is missing; columns found: q, good, bad, lead, id"


def test_mapped_rows_are_written_and_swapped_in_their_own_columns() -> None:
    dialect = mapped_dialect({"prompt": "q", "chosen": "good", "rejected": "bad"})
    pair, _ = normalise(SourceRow(0, 1, ROW), mapping={"prompt": "q", "chosen": "good", "rejected": "bad"})
    assert dialect.write(pair, ROW) == ROW
    assert dialect.swap(ROW) == {**ROW, "good": "5", "bad": "4"}
