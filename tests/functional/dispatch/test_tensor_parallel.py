"""`--tp` gives the numbers of one process, whichever of the processes that share a model dies."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from prefscope.errors import ModelError, ResourceError
from prefscope.events import BatchScored, Event, Noted
from prefscope.pipeline.dispatch import choice
from prefscope.pipeline.logp_source import SIDES
from prefscope.pipeline.run import score
from tests.functional.dispatch.processes import finds_processes, ranks, splits_in_two
from tests.functional.dispatch.shards import BATCH_TOKENS, call
from tests.functional.runs import NATS_A_TOKEN, run, settings_of

pytestmark = [pytest.mark.exhaustive, pytest.mark.usefixtures("shards_by_tokens")]
PAIRS = 24
LOGPS = [f"{role}_{side}_token_logps" for role in ("policy", "ref") for side in SIDES]


@finds_processes
@splits_in_two
def test_a_model_split_in_two_gives_the_numbers_of_one_process_even_if_a_rank_is_killed(data: Path) -> None:
    whole = run(settings_of(data=data, limit=PAIRS, batch_tokens=BATCH_TOKENS, cache="whole"))
    before, killed = set(ranks()), list[int]()
    told: list[str] = []

    def kill_once(event: Event) -> None:
        told.extend([event.text] if isinstance(event, Noted) else [])
        if isinstance(event, BatchScored) and not killed:
            killed.extend(set(ranks()) - before)
            os.kill(killed[0], signal.SIGKILL)

    score(
        settings_of(data=data, limit=PAIRS, batch_tokens=BATCH_TOKENS, tp=2), lambda _: Path("split.parquet"), kill_once
    )
    table = pq.read_table("split.parquet", columns=LOGPS)
    for name in LOGPS:
        expected = whole.table[name].combine_chunks().flatten().to_numpy()
        found = table[name].combine_chunks().flatten().to_numpy()
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() < NATS_A_TOKEN
    assert len(killed) == 1
    assert "worker 0 died (exit code 75) and is being restarted" in told
    assert set(ranks()) <= before


@splits_in_two
def test_a_process_that_dies_while_checking_a_model_ends_the_run_with_its_log(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "COMMAND", (sys.executable, "-c", "import sys; sys.exit('No memory.')"))
    with pytest.raises(ResourceError, match="the process that examines the policy has died") as told:
        score(settings_of(data=data, limit=4, tp=2), lambda _: Path("ledger.parquet"), lambda _: None)
    assert Path(told.value.where).read_text(encoding="utf-8") == "No memory.\n"


@pytest.mark.parametrize("other", [["--noise-floor"], ["--device-map", "auto"]], ids=["noise floor", "device map"])
def test_options_that_a_split_model_does_not_support_are_refused(
    other: list[str], data: Path, models: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("score", data, *models, "--tp", "2", *other) == 2
    assert f"--tp cannot be combined with {other[0]}" in capsys.readouterr().err


def test_every_worker_gets_enough_gpus_if_they_do_not_divide_evenly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,7")
    seen = [choice._environment(torch.device("cuda"), number, 2)["CUDA_VISIBLE_DEVICES"] for number in range(3)]
    assert seen == ["4,5"] * 3


@pytest.mark.skipif(0 < torch.cuda.device_count() < 3, reason="three processes need three GPUs, or none")
def test_heads_that_do_not_divide_are_reported_before_anything_is_loaded(data: Path) -> None:
    with pytest.raises(ModelError, match="4 and 2 attention and key heads cannot be split among 3 processes"):
        score(settings_of(data=data, tp=3), lambda _: Path("ledger.parquet"), lambda _: None)
