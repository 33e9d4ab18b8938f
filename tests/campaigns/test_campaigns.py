"""A short fuzz campaign: a few inputs for every boundary."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from prefscope.pipeline import model_pool
from prefscope.scoring.probe import probe
from tests.campaigns import fuzz_data, fuzz_ledgers, fuzz_models, fuzz_settings
from tests.campaigns.trials import ACCEPTED, REFUSED, Boundary, outcomes

pytestmark = pytest.mark.slow

SEED = 4
SLOW = ("folder of parts", "score of log-probs")
CHEAP = (*fuzz_data.BOUNDARIES, *fuzz_ledgers.BOUNDARIES, *fuzz_settings.BOUNDARIES)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(model_pool, "probe", probe)  # which some boundaries replace
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("boundary", CHEAP, ids=lambda boundary: boundary.name)
def test_hostile_values_are_refused_or_read_literally(boundary: Boundary, tmp_path: Path) -> None:
    for found, detail in outcomes(boundary, tmp_path, SEED, range(4 if boundary.name in SLOW else 10)):
        assert found in {REFUSED, ACCEPTED}, detail


@pytest.mark.parametrize("boundary", fuzz_models.BOUNDARIES, ids=lambda boundary: boundary.name)
def test_hostile_checkpoints_are_refused_or_scored(boundary: Boundary, tmp_path: Path) -> None:
    for found, detail in outcomes(boundary, tmp_path, SEED, range(2)):
        assert found in {REFUSED, ACCEPTED}, detail
