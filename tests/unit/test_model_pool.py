"""What a run says of its models before any is loaded, and how they share the memory of a GPU."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from prefscope.pipeline import model_pool
from prefscope.pipeline.candidates import Candidate
from prefscope.pipeline.model_pool import ModelPool, why_wide
from prefscope.scoring.checkpoints import Checkpoint
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
    return ModelPool(settings, store, lambda _: None, torch.device("cuda"), "bfloat16", groups, together, ids)


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


def test_the_key_of_a_budget_is_the_same_before_and_after_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    before = keys(pool(monkeypatch, free=70 * GB))
    after = pool(monkeypatch, free=60 * GB)
    room(after)
    assert keys(after) == before
