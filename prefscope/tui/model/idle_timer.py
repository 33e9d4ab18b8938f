"""Postpones slow work until the user is idle."""

from __future__ import annotations

import gc
import math
import time

IDLE_AFTER = 0.3
"""Seconds without a key or mouse event after which the user counts as idle."""
LONGEST_WAIT = 3.0
"""Seconds after which postponed work is done even if the user is not idle."""
COLLECTIONS = 50
"""Young collections between two full collections."""
MOST_COLLECTIONS = 2000
"""The same, if the user is not idle."""
NEVER = 1 << 30


class IdleTimer:
    """Tracks how long the user has been idle, without a key or mouse event."""

    def __init__(self) -> None:
        self._moved = -math.inf

    def move(self) -> None:
        """Record that the user did something."""
        self._moved = time.monotonic()

    def allows(self, waiting: float = 0.0) -> bool:
        """Return whether work that has waited this many seconds may be done now."""
        return waiting >= LONGEST_WAIT or time.monotonic() - self._moved >= IDLE_AFTER


def disable_full_collections() -> None:
    """Enable the garbage collector without full collections, which take 100 ms even over new objects alone.

    Objects that exist now are never collected.
    """
    gc.freeze()
    gc.set_threshold(*gc.get_threshold()[:2], NEVER)
    gc.enable()


def collect(idle_timer: IdleTimer) -> None:
    """Run a full collection if there is likely much to free, preferably while the user is idle."""
    count = gc.get_count()[2]
    if count >= MOST_COLLECTIONS or (count >= COLLECTIONS and idle_timer.allows()):
        gc.collect()
