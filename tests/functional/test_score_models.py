"""Policies, references and adapters: which weights are compared, and what is reported about them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from prefscope.ledger.columns import LOGPS
from prefscope.ledger.table import Ledger, load_ledger
from prefscope.settings import PreferenceSettings

pytestmark = pytest.mark.slow

Program = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="session")
def make_adapter(samples: Path) -> Callable[[Path, str], Path]:
    """Return a function that saves a LoRA adapter of tiny-ref with a recorded base."""

    def make(path: Path, base: str) -> Path:
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModelForCausalLM

        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_pretrained(samples / "tiny-ref")
        config = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
        get_peft_model(model, config).save_pretrained(str(path))
        file = path / "adapter_config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"base_model_name_or_path": base}))
        return path

    return make


@pytest.fixture(scope="session")
def adapter(make_adapter: Callable[[Path, str], Path], samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_adapter(tmp_path_factory.mktemp("adapters") / "adapter", str(samples / "tiny-ref"))


@pytest.fixture(scope="session")
def orphan(adapter: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the adapter with a recorded base that does not exist."""
    path = shutil.copytree(adapter, tmp_path_factory.mktemp("adapters") / "orphan")
    file = path / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"base_model_name_or_path": "/gone/base"}))
    return path


@pytest.fixture
def swapped_tokens(samples: Path, tmp_path: Path) -> Callable[[str, str], Path]:
    """Return a function that copies tiny-ref with the ids of two tokens exchanged in its tokenizer."""

    def make(one: str, other: str) -> Path:
        path = shutil.copytree(samples / "tiny-ref", tmp_path / "swapped")
        file = path / "tokenizer.json"
        content = json.loads(file.read_text(encoding="utf-8"))
        ids = content["model"]["vocab"]
        ids[one], ids[other] = ids[other], ids[one]
        file.write_text(json.dumps(content), encoding="utf-8")
        return path

    return make


def vocabulary(samples: Path) -> dict[str, int]:
    content = json.loads((samples / "tiny-ref" / "tokenizer.json").read_text(encoding="utf-8"))
    found: dict[str, int] = content["model"]["vocab"]
    return found


def sums(ledger: Ledger, *names: str) -> list[list[float]]:
    return [ledger.stored[name].tolist() for name in names]


def test_a_policy_that_is_its_reference_ties_every_pair(program: Program, pairs: Path, samples: Path) -> None:
    ref = samples / "tiny-ref"
    code, out, _ = program("score", pairs, "--policy", ref, "--ref", ref, "-o", "out.parquet", "--json")
    derived = load_ledger("out.parquet").derived(PreferenceSettings())
    assert code == 0
    for name in ("chosen_rewards", "rejected_rewards", "margins"):
        assert set(derived[name].tolist()) == {0.0}
    assert set(derived["outcome"].tolist()) == {"tie"}
    assert json.loads(out)["metrics"]["loss"] == pytest.approx(np.log(2), abs=1e-15)
    assert json.loads(out)["metrics"]["rewards/accuracies"] == 0


def test_a_reference_equal_to_the_policy_is_not_scored_again(program: Program, pairs: Path, samples: Path) -> None:
    copy = shutil.copytree(samples / "tiny-ref", Path("copy"))
    _, _, told = program("score", pairs, "--policy", samples / "tiny-ref", "--ref", copy, "--no-cache")
    assert "policy: 10 of 10 sequences to compute" in told  # two of the twelve are said twice
    assert "ref: " not in told


def test_without_a_reference_only_the_policy_is_scored(program: Program, pairs: Path, samples: Path) -> None:
    policy = samples / "tiny-policy"
    code, out, _ = program("score", pairs, "--policy", policy, "--ref", "none", "-o", "out.parquet", "--json")
    ledger = load_ledger("out.parquet")
    assert code == 0
    assert not ledger.has_reference
    assert np.isnan(ledger.stored["ref_chosen_logps"].astype(float)).all()
    assert set(json.loads(out)["metrics"]) == {"loss", "logps/chosen", "logps/rejected"}
    assert [loss["name"] for loss in json.loads(out)["losses"]] == ["simpo"]


def test_policy_log_probs_are_the_same_with_and_without_a_reference(
    program: Program, pairs: Path, samples: Path, scored: Ledger
) -> None:
    policy = samples / "tiny-policy"
    program("score", pairs, "--policy", policy, "--ref", "none", "-o", "out.parquet", "--no-cache")
    for found, expected in zip(sums(load_ledger("out.parquet"), *LOGPS[:2]), sums(scored, *LOGPS[:2]), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-3)


def test_the_reference_of_an_adapter_is_its_base(
    program: Program, pairs: Path, adapter: Path, scored: Ledger, samples: Path
) -> None:
    code, out, told = program("score", pairs, "--policy", adapter, "-o", "out.parquet", "--json")
    ledger = load_ledger("out.parquet")
    assert code == 0, told
    assert sums(ledger, *LOGPS[2:]) == sums(scored, *LOGPS[2:])
    assert ledger.manifest["models"]["policy"]["base"] == str(samples / "tiny-ref")
    assert ledger.manifest["models"]["ref"]["name"] == str(samples / "tiny-ref")
    assert json.loads(out)["outcomes"]["tie"] == 0  # the adapter does something
    assert "was not found" not in told


def test_naming_the_base_equals_the_default(program: Program, pairs: Path, adapter: Path, samples: Path) -> None:
    found = []
    for ref in ("base", str(samples / "tiny-ref")):
        assert program("score", pairs, "--policy", adapter, "--ref", ref, "-o", "out.parquet", "--no-cache")[0] == 0
        found.append(sums(load_ledger("out.parquet"), *LOGPS))
    np.testing.assert_allclose(found[0], found[1], atol=1e-3)


def test_a_base_option_replaces_a_missing_base_with_a_note(
    program: Program, pairs: Path, orphan: Path, samples: Path
) -> None:
    arguments = ("--policy", orphan, "--base", samples / "tiny-ref", "-o", "out.parquet")
    code, _, told = program("score", pairs, *arguments)
    assert code == 0, told
    assert f"{orphan}: {samples / 'tiny-ref'} is used as its base; its config names '/gone/base'." in told
    assert load_ledger("out.parquet").manifest["models"]["ref"]["name"] == str(samples / "tiny-ref")


def test_using_the_reference_for_a_missing_base_is_noted(
    program: Program, pairs: Path, orphan: Path, samples: Path
) -> None:
    code, _, told = program("score", pairs, "--policy", orphan, "--ref", samples / "tiny-ref")
    assert code == 0
    assert (
        f"{orphan}: the base '/gone/base' that its config names was not found; {samples / 'tiny-ref'} is used" in told
    )


def test_an_adapter_without_an_available_base_is_refused(program: Program, pairs: Path, orphan: Path) -> None:
    code, out, told = program("score", pairs, "--policy", orphan)
    assert (code, out) == (2, "")
    assert told == (
        f"prefscope: {orphan}: the adapter's base model '/gone/base' was not found. Pass the base model with --base.\n"
    )


def test_nan_log_probs_flag_their_pairs_and_the_run_continues(program: Program, pairs: Path, samples: Path) -> None:
    broken = shutil.copytree(samples / "tiny-policy", Path("broken"))
    weights = load_file(broken / "model.safetensors")
    weights["model.norm.weight"][0] = float("nan")
    save_file(weights, broken / "model.safetensors", {"format": "pt"})
    code, out, _ = program("score", pairs, "--policy", broken, "--ref", samples / "tiny-ref", "-o", "out.csv", "--json")
    found = json.loads(out)
    assert code == 0
    assert found["flags"] == {"non_finite": 6}
    assert found["metrics"]["rewards/margins"] is None
    assert found["metrics"]["loss"] is None
    cells = Path("out.csv").read_text().splitlines()[1].split(",")
    assert cells[-1] == "non_finite"
    assert "nan" in cells


def test_a_used_token_with_another_meaning_in_the_reference_is_refused(
    program: Program, pairs: Path, samples: Path, swapped_tokens: Callable[[str, str], Path]
) -> None:
    ids = vocabulary(samples)
    code, out, told = program(
        "score", pairs, "--policy", samples / "tiny-policy", "--ref", swapped_tokens("e", "t"), "-o", "out.parquet"
    )
    assert (code, out) == (2, "")
    assert f"token id {ids['e']} is 'e' in the policy's and 't' in the reference's" in told
    assert not Path("out.parquet").exists()


def test_differing_tokens_that_are_not_used_are_only_noted(
    program: Program, pairs: Path, samples: Path, scored: Ledger, swapped_tokens: Callable[[str, str], Path]
) -> None:
    ref = swapped_tokens("Ā", "ā")  # bytes 0 and 1
    code, _, told = program("score", pairs, "--policy", samples / "tiny-policy", "--ref", ref, "-o", "out.parquet")
    assert code == 0
    assert "2 tokens of the policy's vocabulary differ in the reference's." in told
    assert sums(load_ledger("out.parquet"), *LOGPS) == sums(scored, *LOGPS)


def test_the_bundled_models_are_used_and_named_first_if_none_is_given(
    program: Program, pairs: Path, scored: Ledger
) -> None:
    code, out, _ = program("score", pairs, "-o", "out.parquet")
    ledger = load_ledger("out.parquet")
    assert code == 0
    assert out.splitlines()[0] == ("No --policy was given: this is a demonstration with the bundled tiny models.")
    assert ledger.manifest["bundled"] is True
    assert sums(ledger, *LOGPS) == sums(scored, *LOGPS)


def test_the_manifest_records_everything_that_affects_a_number(scored: Ledger) -> None:
    manifest: dict[str, Any] = scored.manifest
    assert {model["stored_dtype"] for model in manifest["models"].values()} == {"float32"}
    assert len({model["fingerprint"] for model in manifest["models"].values()}) == 2
    assert manifest["compute"]["dtype"] == "float32"
    assert manifest["compute"]["device"] in ("cpu", "cuda", "mps")
    assert manifest["tokenization"]["truncation"] == "keep_start"
    assert manifest["tokenization"]["max_length"] == 1024
    assert set(manifest["versions"]) == {"prefscope", "python", "torch", "transformers", "tokenizers", "numpy"}
    assert manifest["settings"]["data"]["source"].endswith("pairs.jsonl")
    assert manifest["data"]["dialects"] == {"trl": 6}
