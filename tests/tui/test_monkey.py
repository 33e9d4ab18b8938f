"""Random keys, clicks, sizes and themes: nothing that is shown is ever wrong (the long form is a campaign)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.campaigns.monkey import SIZES, walk

pytestmark = pytest.mark.exhaustive


@pytest.mark.parametrize("size", SIZES)
def test_every_screen_stays_right_whatever_is_pressed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    monkeypatch.chdir(tmp_path)
    walk(tmp_path, size, seed=size[0], steps=80)


@pytest.mark.parametrize("kind", ["run", "training"])
def test_what_goes_on_stays_right_whatever_is_pressed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    walk(tmp_path, (120, 36), seed=7, steps=60, kind=kind)
