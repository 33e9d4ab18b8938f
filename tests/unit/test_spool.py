"""The spool round-trips sequences, texts and the data set's columns."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from prefscope.data.records import Message, PreferencePair
from prefscope.errors import ResourceError
from prefscope.pipeline.spool import SavedSpool, Spool, extras_of, sequences_of
from prefscope.scoring.sequences import TokenSequence
from prefscope.scoring.tokenization import TokenizedPair


def sequence(ids: list[int], start: int) -> TokenSequence:
    return TokenSequence(np.array(ids, dtype=np.int32), start)


def tokenized(row: int, first: TokenSequence, second: TokenSequence, **pair: Any) -> TokenizedPair:
    texts = {"prompt": f"prompt {row}", "chosen": f"chosen {row}", "rejected": f"rejected {row}"}
    return TokenizedPair(PreferencePair(row, row + 1, **{**texts, **pair}), first, second, ("truncated", "no_eos"))


FIRST = tokenized(0, sequence([1, 2, 3], 1), sequence([1, 2, 4, 5], 1), columns={"n": 1, "row": "a"})
SECOND = tokenized(1, sequence([], 0), sequence([7], 0), columns={"n": 0.5, "tags": ["é"]})
THIRD = tokenized(2, sequence([1, 2, 3], 1), sequence([1, 2, 3], 2), columns={"none": None})


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    spool = Spool(tmp_path / "spool")
    spool.write([FIRST, SECOND])
    spool.write([THIRD])
    spool.finish()
    yield spool
    spool.close()


def plain(sequences: Iterable[TokenSequence]) -> list[tuple[list[int], int]]:
    return [(item.token_ids.tolist(), item.completion_start) for item in sequences]


def test_sequences_of_a_chunk_alternate_between_chosen_and_rejected(spool: Spool) -> None:
    assert plain(spool.sequences(0)) == [([1, 2, 3], 1), ([1, 2, 4, 5], 1), ([], 0), ([7], 0)]
    assert plain(spool.sequences(1)) == [([1, 2, 3], 1), ([1, 2, 3], 2)]


def test_single_pairs_are_found_in_their_chunks(spool: Spool) -> None:
    found = plain(spool.sequences_of_pairs(np.array([1, 2])))
    assert found == [([], 0), ([7], 0), ([1, 2, 3], 1), ([1, 2, 3], 2)]


def test_the_spool_knows_the_tokens_and_digests_of_every_pair(spool: Spool) -> None:
    facts = spool.facts
    assert facts.tokens.tolist() == [7, 1, 6]
    digests = [item.digest()[:8] for pair in (FIRST, SECOND, THIRD) for item in (pair.chosen, pair.rejected)]
    assert facts.digests.astype("<u8").tobytes() == b"".join(digests)


def test_only_prompts_of_sixteen_or_more_tokens_are_identified(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    starts = ([1] * 16, [1] * 16, [2] * 16, [1] * 15)
    pairs = [(sequence([*ids, 7], len(ids)), sequence([*ids, 8], len(ids))) for ids in starts]
    spool.write([tokenized(row, *pair) for row, pair in enumerate(pairs)])
    first, second, third, fourth = spool.facts.prompts.tolist()
    assert first == second != third
    assert fourth == 0


def test_a_side_of_a_batch_has_its_own_sequences(spool: Spool) -> None:
    last = list(spool.batches())[1]
    assert [item.token_ids.tolist() for item in sequences_of(last, "rejected")] == [[1, 2, 3]]


def test_places_texts_and_flags_round_trip(spool: Spool) -> None:
    first = next(spool.batches()).to_pylist()[1]
    assert {name: first[name] for name in ("row", "line", "pair_id", "flags", "prompt", "rejected")} == {
        "row": 1,
        "line": 2,
        "pair_id": SECOND.pair.pair_id,
        "flags": "truncated;no_eos",
        "prompt": "prompt 1",
        "rejected": "rejected 1",
    }


def test_extra_columns_have_one_type_for_all_pairs(spool: Spool) -> None:
    assert spool.extra_kinds == {"n": "number", "row": "text", "tags": "json", "none": "text"}


def test_extra_columns_are_none_for_pairs_without_them(spool: Spool) -> None:
    extras = [extras_of(batch, spool.extra_kinds) for batch in spool.batches()]
    assert extras == [
        {"n": [1.0, 0.5], "row": ["a", None], "tags": [None, '["é"]'], "none": [None, None]},
        {"n": [None], "row": [None], "tags": [None], "none": [None]},
    ]


def test_the_source_row_is_kept_as_json(tmp_path: Path) -> None:
    source = {"prompt": "é", "nested": [{"a": None}]}
    spool = Spool(tmp_path)
    spool.write([tokenized(0, sequence([1], 0), sequence([2], 0), source=source)])
    spool.finish()
    assert json.loads(next(spool.batches()).to_pylist()[0]["source_json"]) == source


def test_conversations_are_kept_in_readable_form(tmp_path: Path) -> None:
    prompt = (Message("system", "Be brief."), Message("user", "Hello"))
    spool = Spool(tmp_path)
    chosen, rejected = (Message("assistant", "Hi"),), (Message("assistant", "Go"), Message("user", "No"))
    item = tokenized(0, sequence([1], 0), sequence([2], 0), prompt=prompt, chosen=chosen, rejected=rejected)
    spool.write([item])
    spool.finish()
    row = next(spool.batches()).to_pylist()[0]
    assert row["prompt"] == "[system]\nBe brief.\n\n[user]\nHello"
    assert row["chosen"] == "Hi"
    assert row["rejected"] == "[assistant]\nGo\n\n[user]\nNo"


def test_a_spool_leaves_no_file_behind(tmp_path: Path, spool: Spool) -> None:
    assert spool.num_pairs == 3
    assert list((tmp_path / "spool").iterdir()) == []


def test_a_damaged_chunk_is_reported(spool: Spool, tmp_path: Path) -> None:
    path = tmp_path / "pairs.arrow"
    second, first = spool.batches()
    offsets = pa.py_buffer(struct.pack("<3i", 0, 1 << 30, 3))
    ids = pa.ListArray.from_buffers(
        pa.list_(pa.int32()), 2, [None, offsets], children=[pa.array([1, 2, 3], pa.int32())]
    )
    damaged = second.set_column(second.schema.get_field_index("chosen_ids"), "chosen_ids", ids)
    with pa.ipc.new_file(path, first.schema) as stream:
        stream.write_batch(first)
        stream.write_batch(damaged)
    saved = SavedSpool(path.open("rb"), [1, 2], {})
    assert len(saved.sequences(0)) == 2
    with pytest.raises(ResourceError, match="The tokenized pairs are damaged in chunk 1"):
        saved.sequences(1)
    saved.close()
