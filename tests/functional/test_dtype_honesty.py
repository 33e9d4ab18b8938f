"""How the stored and computed dtypes affect the difference of two models, and what is reported."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from prefscope.ledger.table import load_ledger
from prefscope.scoring import probe
from tests.functional.runs import run, settings_of

pytestmark = pytest.mark.slow

Program = Callable[..., tuple[int, str, str]]
Score = Callable[..., tuple[str, str, dict[str, Any]]]
Weights = dict[str, Tensor]
LIGHT = 1.5e-5
"""The change of a weight in a light fine-tune: a fraction of a bfloat16 step of most weights."""
CLEAR = 0.01
ERASED = (
    "% of the policy's weights equal the reference's, because rounding to 16 bits erased what training did: "
    "margins are too small, signs may be wrong"
)


@pytest.fixture(autouse=True)
def _short_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "ENOUGH_SECONDS", 0)


@pytest.fixture(scope="module")
def base(samples: Path) -> Path:
    return samples / "tiny-policy"


@pytest.fixture(scope="module")
def make(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function that saves tiny-policy with other weights, in any dtype."""

    def save(change: Callable[[Weights], None] = lambda _: None, dtype: str = "float32") -> Path:
        folder = shutil.copytree(base, tmp_path_factory.mktemp("made") / "model")
        weights = load_file(folder / "model.safetensors")
        change(weights)
        stored = {name: weight.to(getattr(torch, dtype)) for name, weight in weights.items()}
        save_file(stored, folder / "model.safetensors", {"format": "pt"})
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"dtype": dtype}))
        return folder

    return save


def train_lightly(weights: Weights) -> None:
    torch.manual_seed(0)
    for weight in weights.values():
        weight.add_(torch.randn_like(weight), alpha=LIGHT)


def train_the_last_layer(weights: Weights) -> None:
    torch.manual_seed(0)
    for name, weight in weights.items():
        if ".layers.3." in name:
            weight.add_(torch.randn_like(weight), alpha=CLEAR)


def train_some_tokens(weights: Weights) -> None:
    """Change the embeddings of every fourth token, like training on few tokens without weight decay."""
    weights["model.embed_tokens.weight"][::512] += CLEAR


@pytest.fixture(scope="module")
def light(make: Callable[..., Path]) -> Path:
    """Return a light full fine-tune of tiny-policy."""
    return make(train_lightly)


@pytest.fixture
def score(program: Program, samples: Path, base: Path) -> Score:
    """Return a function that scores against tiny-policy and returns the summary, the messages and the manifest."""

    def call(policy: Path, *options: str | Path, ref: Path | None = None) -> tuple[str, str, dict[str, Any]]:
        arguments = ("--policy", policy, "--ref", ref or base, "--limit", "2", "--no-cache", "-o", "out.parquet")
        code, out, told = program("score", samples / "pairs.jsonl", *arguments, *options)
        assert code == 0, told
        return out, told, load_ledger("out.parquet").manifest

    return call


def warnings(told: str) -> list[str]:
    return [line for line in told.splitlines() if "Warning" in line]


def test_a_light_fine_tune_erased_by_bfloat16_is_reported_once_on_stderr(score: Score, light: Path) -> None:
    _, told, manifest = score(light, "--dtype", "bfloat16")
    (warning,) = warnings(told)
    share = manifest["weights"]["equal"]
    assert warning.startswith(f"Warning: {share:.0%} of the policy's weights equal the reference's")
    assert warning.endswith("score with --dtype float32.")


def test_the_summary_and_every_later_report_show_the_erasure(score: Score, light: Path, program: Program) -> None:
    out, _, manifest = score(light, "--dtype", "bfloat16")
    told = f"{100 * manifest['weights']['equal']:.1f}{ERASED}"
    assert out.count(told) == 1
    _, report, _ = program("report", "out.parquet")
    assert report.count(told) == 1


def test_the_manifest_records_the_share_of_equal_weights_and_the_dtypes(score: Score, light: Path) -> None:
    _, _, manifest = score(light, "--dtype", "bfloat16")
    weights = manifest["weights"]
    assert weights["erased"] is True
    assert 0.5 < weights["equal"] < 1
    assert manifest["compute"]["dtype"] == "bfloat16"
    assert {model["stored_dtype"] for model in manifest["models"].values()} == {"float32"}


def test_the_share_of_equal_weights_covers_all_loaded_weights(score: Score, light: Path, base: Path) -> None:
    _, _, manifest = score(light, "--dtype", "bfloat16")
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (light, base))
    equal = sum(int((ours[name].bfloat16() == theirs[name].bfloat16()).sum()) for name in ours)
    total = sum(weight.numel() for weight in ours.values())
    assert manifest["weights"]["equal"] == pytest.approx(equal / total, abs=0.02)  # some rows of each tensor are read


def test_float32_keeps_a_light_fine_tune_and_does_not_warn(score: Score, light: Path) -> None:
    out, told, manifest = score(light)
    assert warnings(told) == []
    assert "erased" not in out
    assert manifest["compute"]["dtype"] == "float32"
    assert manifest["weights"]["erased"] is False
    assert f"{100 * manifest['weights']['equal']:.1f}% of the policy's weights equal the reference's\n" in out


def test_an_erasure_on_saving_is_reported_with_advice(score: Score, make: Callable[..., Path]) -> None:
    out, told, manifest = score(make(train_lightly, "bfloat16"), ref=make(dtype="bfloat16"))
    assert manifest["compute"]["dtype"] == "float32"
    (warning,) = warnings(told)
    assert warning.endswith("score a checkpoint that was saved in float32.")
    assert ERASED in out


def test_frozen_layers_do_not_cause_a_warning(score: Score, make: Callable[..., Path]) -> None:
    out, told, manifest = score(make(train_the_last_layer), "--dtype", "bfloat16")
    assert warnings(told) == []
    assert "erased" not in out
    assert manifest["weights"]["equal"] == pytest.approx(0.836, abs=0.03)  # one layer of four, and the embeddings
    assert manifest["weights"]["erased"] is False


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_untrained_tokens_do_not_cause_a_warning(make: Callable[..., Path], base: Path, dtype: str) -> None:
    outcome = run(settings_of(make(train_some_tokens), base, limit=1, dtype=dtype))
    assert warnings("\n".join(outcome.notes)) == []
    assert outcome.manifest["weights"]["erased"] is False


def test_an_adapter_has_no_share_and_no_warning(score: Score, base: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base)
    get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")).save_pretrained("adapter")
    out, told, manifest = score(tmp_path / "adapter", "--dtype", "bfloat16")
    assert warnings(told) == []
    assert "equal the reference's" not in out
    assert manifest["weights"] is None


def test_a_policy_equal_to_its_reference_is_not_an_erasure(score: Score, base: Path) -> None:
    _, told, manifest = score(base, "--dtype", "bfloat16")
    assert warnings(told) == []
    assert manifest["weights"] is None


def test_the_summary_names_the_computed_and_the_stored_dtype(score: Score, light: Path) -> None:
    out, _, _ = score(light, "--dtype", "bfloat16", "--device", "cpu")
    assert "computed in bfloat16 on cpu, stored as float32\n" in out


def test_differing_stored_dtypes_are_both_named_and_the_widest_is_used(score: Score, make: Callable[..., Path]) -> None:
    out, _, manifest = score(make(train_the_last_layer, "bfloat16"), "--device", "cpu")
    assert "computed in float32 on cpu, stored as bfloat16 (policy) and float32 (reference)\n" in out
    stored = {role: model["stored_dtype"] for role, model in manifest["models"].items()}
    assert stored == {"policy": "bfloat16", "ref": "float32"}
    assert manifest["compute"]["dtype"] == "float32"
