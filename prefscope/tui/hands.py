"""What takes longer than a key may wait is left until the hands rest."""

from __future__ import annotations

import gc
import math
import time

REST = 0.3
"""Seconds without a key or a mouse event after which the hands rest."""
LONGEST_WAIT = 3.0
"""Seconds for which hands that never rest put something off."""
COLLECTIONS = 50
"""Of young objects, between two full ones."""
MOST_COLLECTIONS = 2000
"""The same, where the hands never rest."""
NEVER = 1 << 30


class Hands:
    """When somebody last did something."""

    def __init__(self) -> None:
        self._moved = -math.inf

    def move(self) -> None:
        """Note that somebody did something."""
        self._moved = time.monotonic()

    def rest(self, waiting: float = 0.0) -> bool:
        """Return whether something that has been waiting for so many seconds may be done now."""
        return waiting >= LONGEST_WAIT or time.monotonic() - self._moved >= REST


def collect_only_when_told() -> None:
    """Turn the garbage collector on, but for full collections: of what came since the start alone they take 100 ms.

    What is there by now is spared for good.
    """
    gc.freeze()
    gc.set_threshold(*gc.get_threshold()[:2], NEVER)
    gc.enable()


def collect(hands: Hands) -> None:
    """Make a full collection if there may be much to find and the hands rest."""
    count = gc.get_count()[2]
    if count >= MOST_COLLECTIONS or (count >= COLLECTIONS and hands.rest()):
        gc.collect()
