"""On a real GPU: packed log-probs are those of the plain forward, and of the CPU; without one, these tests skip."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from prefscope.events import BatchScored, Event
from prefscope.ledger.columns import LOGPS
from prefscope.ledger.table import load_ledger
from prefscope.pipeline.run import score
from prefscope.scoring.engine import compute_scope, forward, score_batch
from prefscope.scoring.fused_kernels import kernel_packages
from prefscope.scoring.head import Measure
from prefscope.scoring.logps import token_logps, token_logps_and_collisions
from prefscope.scoring.models import LanguageModel
from prefscope.scoring.self_check import check, follow
from prefscope.scoring.sequences import TokenSequence
from prefscope.settings import ComputeSettings, DataSettings, ModelSettings, ScoreSettings
from tests.numerics.families import PACKED, as_loaded, random_model, related_sequences, token_pool

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]

needs_triton = pytest.mark.skipif(not kernel_packages(), reason="triton is missing")
DEVICE = torch.device("cuda")
SIX = [
    "llama, tied head",
    "qwen2",
    "gemma2, soft caps and a window",
    "mistral, a window in all layers",
    "gpt_oss, sinks, experts and a window",
    "mixtral, experts",
]


def on_gpu(family: str, dtype: torch.dtype) -> LanguageModel:
    return replace(as_loaded(random_model(PACKED[family], dtype).to(DEVICE)), device=DEVICE)  # type: ignore[arg-type]


def plain(model: LanguageModel, sequences: Sequence[TokenSequence]) -> np.ndarray:
    follow(model, "padded")
    return np.concatenate([forward(model, "padded", [one])[0] for one in sequences])


def packed(model: LanguageModel, sequences: Sequence[TokenSequence]) -> np.ndarray:
    follow(model, "packed")
    return np.concatenate(forward(model, "packed", sequences))


@pytest.mark.parametrize("family", SIX)
def test_packed_log_probs_in_float32_are_the_plain_ones(family: str) -> None:
    model = on_gpu(family, torch.float32)
    expected = plain(model, related_sequences())
    np.testing.assert_allclose(packed(model, related_sequences()), expected, rtol=0, atol=2e-4)


@pytest.mark.parametrize("family", SIX)
def test_packed_log_probs_in_bfloat16_are_as_close_to_float32_as_plain_ones(family: str) -> None:
    exact = plain(on_gpu(family, torch.float32), related_sequences())
    model = on_gpu(family, torch.bfloat16)
    rounding = np.median(np.abs(plain(model, related_sequences()) - exact))
    assert np.median(np.abs(packed(model, related_sequences()) - exact)) < 2 * rounding + 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("family", SIX)
def test_the_self_check_packs_models(family: str, dtype: torch.dtype) -> None:
    assert check(on_gpu(family, dtype), token_pool()).path == "packed"


def fused(model: LanguageModel, sequences: Sequence[TokenSequence]) -> np.ndarray:
    follow(model, "packed", is_fused=True)
    return np.concatenate(forward(model, "packed", sequences))


@needs_triton
@pytest.mark.parametrize("family", SIX)
def test_log_probs_with_fused_kernels_in_float32_are_the_plain_ones(family: str) -> None:
    model = on_gpu(family, torch.float32)
    expected = plain(model, related_sequences())
    np.testing.assert_allclose(fused(model, related_sequences()), expected, rtol=0, atol=2e-4)


@needs_triton
@pytest.mark.parametrize("family", SIX)
def test_log_probs_with_fused_kernels_in_bfloat16_are_as_close_to_float32_as_plain_ones(family: str) -> None:
    exact = plain(on_gpu(family, torch.float32), related_sequences())
    model = on_gpu(family, torch.bfloat16)
    rounding = np.median(np.abs(plain(model, related_sequences()) - exact))
    assert np.median(np.abs(fused(model, related_sequences()) - exact)) < 2 * rounding + 1e-3
    assert not any("forward" in part.__dict__ for part in model.module.modules())


@needs_triton
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("family", SIX)
def test_the_self_check_keeps_fused_kernels(family: str, dtype: torch.dtype) -> None:
    model = on_gpu(family, dtype)
    verdict = check(model, token_pool())
    assert (verdict.path, verdict.kernels, verdict.unfused) == ("packed", kernel_packages(), "")
    found = model.fusion.recognised(model.module, DEVICE, dtype)
    assert found is not None
    assert len(found.measures) == 2
    if importlib.util.find_spec("liger_kernel") is not None:
        norms = [part for part in model.module.modules() if type(part).__name__.endswith("RMSNorm")]
        assert norms
        assert {*norms} <= {part for part, _ in found.replacements}


@needs_triton
def test_the_self_check_refuses_fused_kernels_on_request() -> None:
    assert check(on_gpu("qwen2", torch.bfloat16), token_pool(), may_fuse=False).kernels == ""


@needs_triton
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("measure", [token_logps, token_logps_and_collisions])
def test_the_fused_log_probs_of_a_large_vocabulary_are_exact(measure: Measure, dtype: torch.dtype) -> None:
    from prefscope.scoring.fused_logps import FUSED

    generator = torch.Generator(DEVICE).manual_seed(0)
    logits = 4 * torch.randn((64, 151_936), generator=generator, device=DEVICE).to(dtype)
    logits[1, 5], logits[2, 100:], logits[3] = torch.nan, -torch.inf, -torch.inf
    token_ids = torch.arange(64, device=DEVICE)
    expected = measure(logits.double(), token_ids)
    torch.testing.assert_close(
        FUSED[measure](logits, token_ids).double(), expected, rtol=2e-6, atol=1e-5, equal_nan=True
    )


@pytest.fixture
def _little_memory() -> Iterator[None]:
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(DEVICE).total_memory
    torch.cuda.set_per_process_memory_fraction(min((torch.cuda.memory_reserved(DEVICE) + (96 << 20)) / total, 1.0))
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)


@pytest.mark.usefixtures("_little_memory")
def test_a_batch_that_does_not_fit_is_halved_until_it_does() -> None:
    model = on_gpu("llama, tied head", torch.float32)
    follow(model, "packed")
    rng = np.random.default_rng(0)
    sequences = [TokenSequence(rng.integers(3, 100, 48).astype(np.int32), 8) for _ in range(8192)]
    halved: list[int] = []
    found = score_batch(model, "packed", sequences, lambda one: halved.append(len(one)))
    assert halved[0] == len(sequences)
    assert [len(logps) for logps in found] == [sequence.num_scored for sequence in sequences]


def run(samples: Path, folder: Path, device: str) -> tuple[Path, list[Event]]:
    settings = ScoreSettings(
        data=DataSettings(str(samples / "pairs.jsonl"), limit=30),
        models=ModelSettings(str(samples / "tiny-policy"), str(samples / "tiny-ref"), device=device, dtype="float32"),
        compute=ComputeSettings(cache_dir=str(folder / "cache")),
    )
    events: list[Event] = []
    return score(settings, lambda _: folder / f"{device}.parquet", events.append), events


def test_two_resident_models_give_the_log_probs_of_the_cpu(samples: Path, tmp_path: Path) -> None:
    ours, theirs = (load_ledger(run(samples, tmp_path, device)[0]) for device in ("cuda", "cpu"))
    for name in LOGPS:
        np.testing.assert_allclose(ours.stored[name], theirs.stored[name], rtol=0, atol=2e-3)


def test_a_second_run_on_the_same_gpu_computes_nothing(samples: Path, tmp_path: Path) -> None:
    run(samples, tmp_path, "cuda")
    _, events = run(samples, tmp_path, "cuda")
    assert not any(isinstance(event, BatchScored) for event in events)


def test_a_gpu_and_a_cpu_have_different_store_keys() -> None:
    scopes = {
        compute_scope(fingerprint="", dtype="float32", device=device, path="packed", attention="sdpa", processes=1)
        for device in (DEVICE, torch.device("cpu"))
    }
    assert len(scopes) == 2
