"""Slow work waits until the user is idle, but not forever."""

from __future__ import annotations

import gc
import math
import weakref
from collections.abc import Iterator

import pytest

from prefscope.tui.model import idle_timer
from prefscope.tui.model.idle_timer import IdleTimer, collect, disable_full_collections


class Ring:
    """Refers to itself, so that only a collection frees it."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def _own_collector() -> Iterator[None]:
    """Restore the settings of the garbage collector."""
    thresholds = gc.get_threshold()
    yield
    gc.set_threshold(*thresholds)
    gc.unfreeze()


def test_the_user_is_idle_before_the_first_key() -> None:
    assert IdleTimer().allows()


def test_postponed_work_runs_when_the_user_is_idle_or_after_a_long_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(idle_timer, "IDLE_AFTER", math.inf)
    moving = IdleTimer()
    moving.move()
    assert not moving.allows()
    assert not moving.allows(waiting=idle_timer.LONGEST_WAIT / 2)
    assert moving.allows(waiting=idle_timer.LONGEST_WAIT)
    monkeypatch.setattr(idle_timer, "IDLE_AFTER", 0.0)
    assert moving.allows()


@pytest.mark.usefixtures("_own_collector")
def test_old_garbage_is_collected_only_while_the_user_is_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle_timer, "COLLECTIONS", 0)
    monkeypatch.setattr(idle_timer, "IDLE_AFTER", math.inf)
    disable_full_collections()
    ring = Ring()
    gc.collect()  # old now
    seen = weakref.ref(ring)
    del ring
    moving = IdleTimer()
    moving.move()
    collect(moving)
    assert seen() is not None
    collect(IdleTimer())
    assert seen() is None
