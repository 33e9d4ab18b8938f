"""A histogram whose wrong or right margins all fall into one bin."""

from __future__ import annotations

import numpy as np
import pytest

from prefscope.report.plots import margin_histogram

WIDTH, HEIGHT = 60, 8
BINS = 8  # of so few margins


@pytest.mark.parametrize("sign", [1, -1], ids=["one wrong", "one right"])
def test_a_lone_bar_is_as_wide_as_its_bin(sign: int) -> None:
    """At margins of 1e-4 that bar has a million columns, which takes 6 s, and at 1e-5 a minute."""
    drawn = margin_histogram(sign * np.array([-0.004, 0.05, 0.1, 0.1]), WIDTH, HEIGHT)
    lone = "▒" if sign > 0 else "█"
    assert max(line.count(lone) for line in drawn.split("\n")) <= WIDTH // BINS + 1
