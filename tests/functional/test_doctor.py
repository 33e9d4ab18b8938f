"""Each check of the doctor fails alone on its own defect, and none fails on the bundled models."""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from prefscope.pipeline.doctor import examination
from prefscope.pipeline.doctor.examination import DoctorReport, examine
from prefscope.settings import ScoreSettings, TokenizationSettings
from tests.functional.runs import POLICY, REF, settings_of
from tests.peers.adapters import save_adapter

pytestmark = pytest.mark.slow

PAIRS = 12
TEMPLATE = (POLICY / "chat_template.jinja").read_text(encoding="utf-8")
THINKING = f"{TEMPLATE.removesuffix('{% endif %}')}Well, {{% endif %}}"
"""A template whose generation prompt differs from the beginning of the assistant's turns."""
CHECKS = (
    *("tokenizers", "chat_template", "same_model", "swapped", "adapter_base", "value_head"),
    *("stale_weights", "wrong_reference"),
    *("double_bos", "missing_eos", "double_eos", "not_rendered"),
    *("prefix_mismatch", "truncation", "dtype", "saturated_loss"),
)
Case = Callable[[], tuple[ScoreSettings, float]]
Examine = Callable[..., DoctorReport]


def copied(source: Path, name: str, **files: Callable[[str], str]) -> Path:
    """Return a copy of a checkpoint in which some of its files (named with `_` for `.`) are rewritten."""
    target = Path(shutil.copytree(source, name))
    for file, rewrite in files.items():
        path = target / file.replace("__", ".")
        path.write_text(rewrite(path.read_text(encoding="utf-8")), encoding="utf-8")
    return target


def templated(template: str, **more: Any) -> ScoreSettings:
    return replace(settings_of(**more), tokenization=TokenizationSettings(chat_template=template))


def other_vocabulary() -> tuple[ScoreSettings, float]:
    """The reference has the ids of two frequent tokens exchanged."""

    def exchange(text: str) -> str:
        tokenizer = json.loads(text)
        vocabulary = tokenizer["model"]["vocab"]
        vocabulary["Ġthe"], vocabulary["Ġa"] = vocabulary["Ġa"], vocabulary["Ġthe"]
        return json.dumps(tokenizer)

    return settings_of(ref=copied(REF, "ref", tokenizer__json=exchange)), 0.1


def other_template() -> tuple[ScoreSettings, float]:
    """The reference was trained with another chat template."""
    return settings_of(ref=copied(REF, "ref", chat_template__jinja=lambda text: f"### Chat\n{text}")), 0.1


def two_bos() -> tuple[ScoreSettings, float]:
    """The chat template writes the BOS that the tokenizer has, twice."""

    def with_bos(text: str) -> str:
        return json.dumps(json.loads(text) | {"bos_token": "<|pad|>"})

    def doubled(text: str) -> str:
        return "{{ bos_token }}{{ bos_token }}" + text

    policy, ref = (
        copied(source, name, tokenizer_config__json=with_bos, chat_template__jinja=doubled)
        for source, name in ((POLICY, "policy"), (REF, "ref"))
    )
    return settings_of(policy, ref), 0.1


def scarcely_trained() -> tuple[ScoreSettings, float]:
    """The policy is only a fiftieth of the way from its reference, and computed in bfloat16."""
    policy = copied(POLICY, "policy")
    ours, theirs = (load_file(source / "model.safetensors") for source in (POLICY, REF))
    near = {name: theirs[name] + (ours[name] - theirs[name]) / 50 for name in ours}
    save_file(near, policy / "model.safetensors", metadata={"format": "pt"})
    return settings_of(policy, dtype="bfloat16"), 0.1


def base_as_policy() -> tuple[ScoreSettings, float]:
    """The policy is the base, and its adapter the reference."""
    return settings_of(REF, save_adapter("lora", REF, Path.cwd())), 0.1


def two_sets_of_weights() -> tuple[ScoreSettings, float]:
    """The policy's folder has shards beside its single file."""
    policy = copied(POLICY, "policy")
    shutil.copy(REF / "model.safetensors", policy / "model-00001-of-00001.safetensors")
    (policy / "model.safetensors.index.json").write_text('{"weight_map": {}}')
    return settings_of(policy), 0.1


def base_replaced() -> tuple[ScoreSettings, float]:
    """The policy's adapter replaces weights of its base with a residual."""
    return settings_of(save_adapter("pissa", REF, Path.cwd()), None), 0.1


def with_value_head() -> tuple[ScoreSettings, float]:
    """The policy has a value head in a file beside its weights."""
    policy = copied(POLICY, "policy")
    save_file({"v_head.summary.weight": torch.zeros(1, 4)}, policy / "value_head.safetensors")
    return settings_of(policy), 0.1


CASES: dict[str, Case] = {
    "tokenizers": other_vocabulary,
    "chat_template": other_template,
    "same_model": lambda: (settings_of(ref=POLICY), 0.1),
    "swapped": base_as_policy,
    "stale_weights": two_sets_of_weights,
    "wrong_reference": lambda: (settings_of(ref=REF.with_name("tiny-base")), 0.1),
    "double_bos": two_bos,
    "missing_eos": lambda: (templated(TEMPLATE.replace("<|end|>", "")), 0.1),
    "double_eos": lambda: (templated(TEMPLATE.replace("<|end|>", "<|end|><|end|>")), 0.1),
    "not_rendered": lambda: (templated(TEMPLATE.replace("message['content']", "message['content'][:9]")), 0.1),
    "prefix_mismatch": lambda: (templated(THINKING), 0.1),
    "truncation": lambda: (
        replace(settings_of(), tokenization=TokenizationSettings(max_length=60)),
        0.1,
    ),
    "dtype": scarcely_trained,
    "saturated_loss": lambda: (settings_of(), 10.0),
}
WARNINGS: dict[str, Case] = {"adapter_base": base_replaced, "value_head": with_value_head}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the folder of a store that the tests share, so that each model is checked once."""
    return str(tmp_path_factory.mktemp("store"))


@pytest.fixture
def diagnose(store: str) -> Examine:
    """Return a function that examines a few pairs."""

    def examined(settings: ScoreSettings, beta: float = 0.1, pairs: int | None = PAIRS) -> DoctorReport:
        compute = replace(settings.compute, cache_dir=store)
        return examine(replace(settings, compute=compute), pairs, beta, lambda _: None)

    return examined


def states(diagnosis: DoctorReport) -> dict[str, str]:
    return {verdict.name: verdict.state for verdict in diagnosis.verdicts}


def test_the_bundled_pair_passes_every_check(diagnose: Examine) -> None:
    diagnosis = diagnose(settings_of())
    assert states(diagnosis) == dict.fromkeys(CHECKS, "ok")
    assert (diagnosis.pairs, diagnosis.has_failed) == (PAIRS, False)
    assert not any(verdict.advice for verdict in diagnosis.verdicts)


@pytest.mark.parametrize(("name", "case"), CASES.items(), ids=CASES)
def test_each_check_can_fail_alone(diagnose: Examine, name: str, case: Case) -> None:
    settings, beta = case()
    diagnosis = diagnose(settings, beta)
    assert [check for check, state in states(diagnosis).items() if state == "fail"] == [name]
    assert diagnosis.has_failed
    (verdict,) = (verdict for verdict in diagnosis.verdicts if verdict.state == "fail")
    assert verdict.advice


def test_every_check_has_its_case() -> None:
    assert sorted([*CASES, *WARNINGS]) == sorted(CHECKS)


@pytest.mark.parametrize(("name", "case"), WARNINGS.items(), ids=WARNINGS)
def test_a_check_warns_about_settings_that_may_be_intended(diagnose: Examine, name: str, case: Case) -> None:
    diagnosis = diagnose(*case())
    (verdict,) = (verdict for verdict in diagnosis.verdicts if verdict.name == name)
    assert verdict.state == "warn"
    assert verdict.advice


def test_mostly_negative_margins_suggest_swapped_models(diagnose: Examine) -> None:
    diagnosis = diagnose(settings_of(REF, POLICY), pairs=32)
    (verdict,) = (verdict for verdict in diagnosis.verdicts if verdict.name == "swapped")
    assert verdict.state == "warn"
    assert "may be swapped" in verdict.detail


def test_conversations_without_a_template_fail_a_check_without_an_error(diagnose: Examine) -> None:
    def none(source: Path, name: str) -> Path:
        path = copied(source, name)
        (path / "chat_template.jinja").unlink()
        return path

    diagnosis = diagnose(settings_of(none(POLICY, "policy"), none(REF, "ref")))
    assert states(diagnosis) == {**dict.fromkeys(CHECKS, "skip"), "tokenizers": "ok", "chat_template": "fail"}
    assert diagnosis.pairs == 0


def test_a_reference_without_a_template_is_a_warning(diagnose: Examine) -> None:
    ref = copied(REF, "ref")
    (ref / "chat_template.jinja").unlink()
    diagnosis = diagnose(settings_of(ref=ref))
    assert states(diagnosis) == {**dict.fromkeys(CHECKS, "ok"), "chat_template": "warn"}


@pytest.mark.parametrize(("operations", "pairs"), [(1e15, 32), (1.0, 8)], ids=["a quick CPU", "a slow one"])
def test_the_doctor_checks_as_many_pairs_as_a_cpu_scores_in_a_minute(
    operations: float, pairs: int, diagnose: Examine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examination, "OPERATIONS_A_CORE", operations)
    assert diagnose(settings_of(), pairs=None).pairs == pairs


def test_pairs_from_standard_input_are_checked_though_it_can_be_read_only_once(
    diagnose: Examine, rows: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(lines.encode())))
    assert diagnose(settings_of(data=Path("-")), pairs=None).pairs == len(rows)


def test_pairs_are_drawn_with_the_seed_and_no_ledger_is_left(diagnose: Examine) -> None:
    before = {*Path().rglob("*.parquet")}
    settings = settings_of()
    told = [diagnose(replace(settings, data=replace(settings.data, seed=seed)), pairs=4).verdicts for seed in (0, 0, 1)]
    assert told[0] == told[1] != told[2]
    assert {*Path().rglob("*.parquet")} == before
