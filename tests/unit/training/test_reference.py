"""The reference that a training's files name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from prefscope.errors import UsageError
from prefscope.training.reference import find_reference


@pytest.fixture(name="sft")
def _sft(tmp_path: Path) -> Path:
    return model(tmp_path / "sft")


def model(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    return folder


@pytest.fixture(name="checkpoint")
def _checkpoint(tmp_path: Path) -> Path:
    return model(tmp_path / "out" / "v0-20250131-120000" / "checkpoint-5")


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("out/training_args.yaml", "model_name_or_path: {}\nlearning_rate: 1.0e-6\n"),
        ("out/config.yml", "base_model: {}\nadapter: lora\n"),
        ("out/v0-20250131-120000/args.json", '{{"model": "{}"}}'),
        ("out/README.md", "---\nbase_model: {}\ntags: [trl]\n---\n\n# Model\n"),
        ("out/v0-20250131-120000/checkpoint-5/config.json", '{{"_name_or_path": "{}"}}'),
    ],
    ids=["LLaMA-Factory", "axolotl", "ms-swift", "model card", "transformers"],
)
def test_the_reference_is_the_model_that_the_training_started_from(
    tmp_path: Path, checkpoint: Path, sft: Path, file: str, text: str
) -> None:
    (tmp_path / file).write_text(text.format(sft))
    named = find_reference(checkpoint, tmp_path / "out")
    assert (named.model, named.file) == (str(sft), tmp_path / file)


def test_a_reference_that_the_training_names_comes_before_its_model(
    tmp_path: Path, checkpoint: Path, sft: Path
) -> None:
    start = model(tmp_path / "start")
    (tmp_path / "out" / "args.json").write_text(json.dumps({"model_name_or_path": str(start)}))
    (checkpoint / "train.yaml").write_text(f"ref_model: {sft}\n")
    assert find_reference(checkpoint, tmp_path / "out").model == str(sft)


def test_a_model_that_is_not_on_this_machine_is_named_in_the_refusal(tmp_path: Path, checkpoint: Path) -> None:
    (tmp_path / "out" / "args.json").write_text('{"model": "/gone/sft"}')
    with pytest.raises(UsageError, match=r"started from '/gone/sft' .*args\.json.*Pass that model with --ref"):
        find_reference(checkpoint, tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("args.json", "[]"),
        ("args.json", '{"model": {"name": "x"}}'),
        ("train.yaml", "model: [unclosed"),
        ("train.yaml", "!!python/object/apply:os.system ['touch owned']"),
        ("README.md", "base_model: sft\n"),
        ("training_args.bin", "model_name_or_path: sft"),
    ],
)
def test_files_that_name_nothing_readable_are_passed_over(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    model(tmp_path / "x")
    (tmp_path / "out" / name).write_text(text)
    with pytest.raises(UsageError, match="no file beside it names the model"):
        find_reference(checkpoint, tmp_path / "out")
    assert not (tmp_path / "owned").exists()


def test_a_checkpoint_of_the_same_training_is_no_reference(tmp_path: Path, checkpoint: Path) -> None:
    (tmp_path / "out" / "args.json").write_text(json.dumps({"model": str(checkpoint)}))
    with pytest.raises(UsageError):
        find_reference(checkpoint, tmp_path / "out")
