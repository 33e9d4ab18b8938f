"""What takes long waits until the hands rest, but not for ever."""

from __future__ import annotations

import gc
import math
import weakref
from collections.abc import Iterator

import pytest

from prefscope.tui import hands
from prefscope.tui.hands import Hands, collect, collect_only_when_told


class Ring:
    """Refers to itself, so that only a collection frees it."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def _own_collector() -> Iterator[None]:
    """Give the garbage collector back as it was."""
    thresholds = gc.get_threshold()
    yield
    gc.set_threshold(*thresholds)
    gc.unfreeze()


def test_hands_that_never_moved_rest() -> None:
    assert Hands().rest()


def test_what_is_put_off_is_done_when_the_hands_rest_or_when_it_has_waited_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hands, "REST", math.inf)
    moving = Hands()
    moving.move()
    assert not moving.rest()
    assert not moving.rest(waiting=hands.LONGEST_WAIT / 2)
    assert moving.rest(waiting=hands.LONGEST_WAIT)
    monkeypatch.setattr(hands, "REST", 0.0)
    assert moving.rest()


@pytest.mark.usefixtures("_own_collector")
def test_garbage_that_is_old_is_collected_only_when_the_hands_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hands, "COLLECTIONS", 0)
    monkeypatch.setattr(hands, "REST", math.inf)
    collect_only_when_told()
    ring = Ring()
    gc.collect()  # old now
    seen = weakref.ref(ring)
    del ring
    moving = Hands()
    moving.move()
    collect(moving)
    assert seen() is not None
    collect(Hands())
    assert seen() is None
