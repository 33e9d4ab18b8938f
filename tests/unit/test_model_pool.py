"""What a run says of its models before any is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from prefscope.pipeline.candidates import Candidate
from prefscope.pipeline.model_pool import why_wide
from prefscope.scoring.checkpoints import Checkpoint


def candidates(policy: str, ref: str) -> list[Candidate]:
    return [
        Candidate(role, Checkpoint(role, Path(role)), role, dtype, "sdpa", (), "here")
        for role, dtype in (("policy", policy), ("ref", ref))
    ]


def test_a_float32_checkpoint_that_slows_a_gpu_down_is_reported_with_the_option_that_avoids_it() -> None:
    assert why_wide(candidates("bfloat16", "float32"), torch.device("cuda"), "float32") == (
        "Warning: the policy (bfloat16) and the ref (float32) are stored in different dtypes, so both are computed in "
        "float32, which takes a GPU about 15 times as long as 16 bits. If the trainer computed in bfloat16, pass "
        "--dtype bfloat16."
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
