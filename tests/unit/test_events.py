"""Events survive a pipe as lines of JSON."""

from __future__ import annotations

import dataclasses
import json
from typing import get_args

import pytest

from prefscope.events import (
    BatchScored,
    Event,
    Failed,
    Finished,
    Halved,
    LogpsKnown,
    Noted,
    PairFlagged,
    Planned,
    Prepared,
    Progressed,
    from_json_line,
    to_json_line,
)

EVENTS: list[Event] = [
    Noted("two\nlines, 漢字, \x1b[31m and \u2028"),
    Progressed("reading pairs", 3),
    Progressed("reading weights", 3, 10),
    PairFlagged(7, ("truncated", "non_finite")),
    PairFlagged(0, ()),
    Planned("policy", 10, 20, 18, 900, 700, 1500, "padded", "it has none", 2048, 1.5, 10**9, 10**8, resumed=True),
    BatchScored("ref", 0, 6, 300, 200, 0.1),
    Prepared("/a/preview.parquet", "0123456789abcdef"),
    LogpsKnown("policy", "00" * 16, ("ab" * 16, "cd" * 16), (-10.123456789012345, float("inf"))),
    LogpsKnown("ref", "", (), ()),
    Halved("policy", 2, 3),
    Finished("/a/b.parquet", 10, 1.5),
    Failed("No such file.", 2),
]


@pytest.mark.parametrize("event", EVENTS, ids=repr)
def test_an_event_round_trips(event: Event) -> None:
    assert from_json_line(to_json_line(event)) == event


@pytest.mark.parametrize("event", EVENTS, ids=repr)
def test_an_event_is_one_line(event: Event) -> None:
    assert len(to_json_line(event).splitlines()) == 1


def test_every_kind_of_event_round_trips() -> None:
    assert {type(event) for event in EVENTS} == set(get_args(Event))


def test_a_line_names_its_kind_of_event() -> None:
    assert json.loads(to_json_line(Noted("hello"))) == {"event": "Noted", "text": "hello"}


def test_events_are_immutable() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        EVENTS[0].text = "other"  # type: ignore[misc, union-attr]  # that is what is refused


@pytest.mark.parametrize(
    "line",
    [
        *("", "hello", "{}", "[]", "3", '{"event": "Nonsense"}', '{"event": null}', '{"event": []}'),
        *('{"event": "Noted"}', '{"event": "Noted", "text": "", "more": 1}'),
    ],
)
def test_a_line_that_is_not_an_event_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="not an event"):
        from_json_line(line)
