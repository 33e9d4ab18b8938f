"""Tokenization ahead of time: in parallel, in order, and with only a few chunks in memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, cast

import pytest

from prefscope.data.records import PreferencePair
from prefscope.pipeline.reader import TOKENIZING_THREADS, _chunks, _prefetched
from prefscope.scoring.template_limits import STOPPED

SECONDS = 20  # a call that waits longer waits for one that never comes


def chunks_of(count: int, drawn: list[int]) -> Iterator[list[PreferencePair]]:
    """Yield chunks of numbers instead of pairs."""
    for number in range(count):
        drawn.append(number)
        yield cast("list[PreferencePair]", [number])


def as_numbers(tokenized: Any) -> list[int]:
    return [number for chunk in tokenized for number in chunk]


def test_chunks_are_tokenized_concurrently() -> None:
    together = threading.Barrier(TOKENIZING_THREADS)

    def tokenize(chunk: Any) -> Any:
        together.wait(SECONDS)
        return chunk

    assert as_numbers(_prefetched(tokenize, chunks_of(2 * TOKENIZING_THREADS, []))) == list(
        range(2 * TOKENIZING_THREADS)
    )


def test_chunks_keep_their_order_if_a_later_one_is_ready_first() -> None:
    last_is_done = threading.Event()

    def tokenize(chunk: Any) -> Any:
        if chunk == [0]:
            assert last_is_done.wait(SECONDS)
        if chunk == [TOKENIZING_THREADS - 1]:
            last_is_done.set()
        return chunk

    assert as_numbers(_prefetched(tokenize, chunks_of(10, []))) == list(range(10))


def test_rows_are_read_only_a_few_chunks_ahead() -> None:
    drawn: list[int] = []
    tokenized = _prefetched(lambda chunk: cast("Any", chunk), chunks_of(100, drawn))
    for taken, _ in enumerate(tokenized, start=1):
        assert len(drawn) <= taken + TOKENIZING_THREADS


def test_errors_of_a_tokenizer_are_raised() -> None:
    def tokenize(chunk: Any) -> Any:
        if chunk == [3]:
            raise ValueError("no template")
        return chunk

    with pytest.raises(ValueError, match="no template"):
        as_numbers(_prefetched(tokenize, chunks_of(10, [])))


def test_long_texts_are_tokenized_a_few_at_a_time() -> None:
    """A run of 1,000 pairs with prompts of 51,000 characters, 15,000 tokens, took 5.5 GB beside its printed 0.9 GB."""
    long = PreferencePair(0, 1, "x" * 1_000_000, "y", "z")
    sizes = [sum(len(str(pair.prompt)) for pair in chunk) for chunk in _chunks(iter([long] * 256))]
    assert max(sizes) <= 32_000_000


def test_closing_the_reader_starts_no_more_chunks_and_stops_the_others() -> None:
    seen: list[int] = []
    stops: list[threading.Event] = []

    def tokenize(chunk: Any) -> Any:
        stop = STOPPED.get()
        assert stop is not None
        stops.append(stop)
        seen.extend(chunk)
        assert chunk == [0] or stop.wait(SECONDS)
        return chunk

    tokenized = _prefetched(tokenize, chunks_of(100, []))
    next(tokenized)
    tokenized.close()
    assert all(stop.is_set() for stop in stops)
    assert len(seen) <= TOKENIZING_THREADS + 1
