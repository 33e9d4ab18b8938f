"""What a run says of its models before any is loaded, and how they share the memory of a GPU."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from prefscope.errors import ResourceError
from prefscope.pipeline import model_pool, passes
from prefscope.pipeline.candidates import Candidate
from prefscope.pipeline.model_pool import ModelPool, share_memory, why_wide
from prefscope.pipeline.passes import Passes
from prefscope.scoring import models as loading
from prefscope.scoring.checkpoints import Checkpoint
from prefscope.scoring.free_memory import free_bytes_elsewhere
from prefscope.scoring.probe import Budget
from prefscope.scoring.self_check import ForwardChoice
from prefscope.scoring.store import LogpStore
from prefscope.settings import DataSettings, DispatchSettings, ModelSettings, ScoreSettings


def candidates(policy: str, ref: str) -> list[Candidate]:
    return [
        Candidate(role, Checkpoint(role, Path(role)), role, dtype, "sdpa", (), "here")
        for role, dtype in (("policy", policy), ("ref", ref))
    ]


def test_a_float32_checkpoint_that_slows_a_gpu_down_is_reported_with_the_option_that_avoids_it() -> None:
    assert why_wide(candidates("bfloat16", "float32"), torch.device("cuda"), "float32") == (
        "Warning: the policy (bfloat16) and the reference (float32) are stored in different dtypes, so both are "
        "computed in float32, which takes a GPU about 15 times as long as 16 bits. If the trainer computed in "
        "bfloat16, pass --dtype bfloat16."
    )


@pytest.mark.parametrize(
    ("policy", "ref", "device", "dtype"),
    [
        ("bfloat16", "float32", "cpu", "float32"),
        ("bfloat16", "bfloat16", "cuda", "bfloat16"),
        ("float32", "float32", "cuda", "float32"),
    ],
)
def test_a_dtype_that_all_models_have_needs_no_warning(policy: str, ref: str, device: str, dtype: str) -> None:
    assert why_wide(candidates(policy, ref), torch.device(device), dtype) == ""


GB = 1 << 30


def pool(monkeypatch: pytest.MonkeyPatch, *, free: float, together: bool = True, **options: Any) -> ModelPool:
    """Return a pool on a GPU of a policy and a reference of 10 GB each, in bfloat16, of which none is loaded."""
    weights = {Path("policy"): 5 * GB, Path("ref"): 5 * GB}
    monkeypatch.setattr(model_pool, "num_weights", lambda checkpoint: weights[checkpoint.path])
    monkeypatch.setattr(model_pool, "available_bytes", lambda _: free)
    monkeypatch.setattr(model_pool, "free_bytes_elsewhere", lambda _: free)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: options.get("gpus", 1))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "a card")
    settings = ScoreSettings(
        data=DataSettings("pairs.jsonl"),
        models=ModelSettings("policy", "ref", tp=options.get("tp", 1)),
        dispatch=DispatchSettings(workers=options.get("workers")),
    )
    groups = tuple((one,) for one in candidates("bfloat16", "bfloat16"))
    store: Any = None
    ids = np.zeros(1, dtype=np.int32)
    device = torch.device("cuda")
    sharing = share_memory(settings, device)
    return ModelPool(settings, store, lambda _: None, device, "bfloat16", groups, together, ids, sharing)


def room(found: ModelPool) -> float:
    """Return the gigabytes for forward passes once the policy is loaded."""
    model: Any = SimpleNamespace(device=torch.device("cuda"))
    found._loaded[found.groups[0]] = model
    return found._room_for_passes(model) / GB


def test_a_reference_that_is_loaded_later_keeps_its_room(monkeypatch: pytest.MonkeyPatch) -> None:
    assert room(pool(monkeypatch, free=60 * GB)) == 50
    assert room(pool(monkeypatch, free=60 * GB, together=False)) == 60


def test_workers_share_a_gpu_with_all_their_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    assert room(pool(monkeypatch, free=70 * GB, workers=2)) == (70 + 10) / 2 - 20


def test_a_rank_has_the_room_beside_its_part_of_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    assert room(pool(monkeypatch, free=60 * GB, tp=4, gpus=4)) == 60 - 2.5


def keys(found: ModelPool) -> set[bytes]:
    return {found._verdict_key(candidate) for candidate in found.candidates}


def test_a_budget_is_kept_for_the_memory_and_the_sharing_that_it_was_found_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    alone = keys(pool(monkeypatch, free=70 * GB))
    assert keys(pool(monkeypatch, free=75 * GB)) == alone
    for other in ({"workers": 4}, {"together": False}):
        assert not keys(pool(monkeypatch, free=70 * GB, **other)) & alone
    assert not keys(pool(monkeypatch, free=20 * GB)) & alone


def test_ranks_of_several_workers_share_their_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    assert room(pool(monkeypatch, free=60 * GB, tp=2, workers=4, gpus=2)) == (60 + 5) / 4 - 10


def test_the_parent_of_workers_does_not_touch_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    found = pool(monkeypatch, free=60 * GB, workers=1)

    def touch(*_: object) -> None:
        raise AssertionError("this takes memory of the GPU")

    monkeypatch.setattr(model_pool, "available_bytes", touch)
    monkeypatch.setattr(ModelPool, "examine", touch)
    monkeypatch.setattr(LogpStore, "find_verdict", lambda *_: None)
    verdict = ForwardChoice("packed", ""), Budget(4096, 1000.0)
    monkeypatch.setattr(passes, "examine_in_worker", lambda *_: verdict)
    monkeypatch.setattr(loading, "load_config", lambda *_: None)
    monkeypatch.setattr(loading, "rope_limit", lambda _: None)
    with LogpStore(None) as store:
        found.store = store
        stand_in = {"left": lambda *_: {}, "speeds": {}, "emit": found.emit}
        scorer: Any = SimpleNamespace(pool=found, settings=found.settings, **stand_in)
        models = Passes(scorer, range(1)).score_models()
    assert [model.budget.batch_tokens for model in models] == [4096, 4096]
    assert share_memory(found.settings, found.device).room == 60 * GB


@pytest.mark.slow
def test_free_memory_is_measured_in_another_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert free_bytes_elsewhere(torch.device("cpu")) > 0
    with pytest.raises(ResourceError, match=r"[Tt]he free memory of cuda:99 could not be measured"):
        free_bytes_elsewhere(torch.device("cuda:99"))
