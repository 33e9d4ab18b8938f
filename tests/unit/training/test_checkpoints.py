"""Which folders are checkpoints, of which step, and when they are complete."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from prefscope.errors import ResourceError
from prefscope.training.checkpoints import CheckpointFinder, Look

SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


def write_json(file: Path, value: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value))


def weights(file: Path) -> Path:
    save_file({"one": np.zeros(64, dtype=np.float32)}, file)
    return file


def checkpoint(folder: Path, *, state: dict[str, Any] | None = None) -> Path:
    """Write a complete checkpoint that has one weight."""
    write_json(folder / "config.json", {})
    weights(folder / "model.safetensors")
    if state is not None:
        write_json(folder / "trainer_state.json", state)
    return folder


def sharded(folder: Path) -> Path:
    write_json(folder / "config.json", {})
    for name in SHARDS:
        weights(folder / name)
    write_json(folder / "model.safetensors.index.json", {"weight_map": dict(zip("ab", SHARDS, strict=True))})
    return folder


def settled(folder: Path) -> Look:
    """Return the second look at a folder in which nothing changes."""
    finder = CheckpointFinder(folder)
    finder.look()
    return finder.look()


def ready(folder: Path) -> list[tuple[int, str]]:
    return [(one.step, one.name) for one in settled(folder).ready]


def reasons(folder: Path) -> list[str]:
    return [one.reason for one in settled(folder).unfinished]


@pytest.mark.parametrize(
    ("name", "step", "epoch"),
    [
        ("checkpoint-500", 500, None),
        ("v0-20250131-120000/checkpoint-500", 500, None),
        ("step_100", 100, None),
        ("step-100", 100, None),
        ("step100", 100, None),
        ("epoch_0", 0, 0.0),
        ("epoch-2", 2, 2.0),
        ("global_step40", 40, None),
        ("global_step40_hf", 40, None),
        ("global_step_40", 40, None),
    ],
)
def test_a_checkpoint_is_found_by_the_name_that_its_trainer_gives_it(
    tmp_path: Path, name: str, step: int, epoch: float | None
) -> None:
    checkpoint(tmp_path / name)
    (found,) = settled(tmp_path).ready
    assert (found.step, found.name, found.path, found.epoch) == (step, name, tmp_path / name, epoch)


@pytest.mark.parametrize(
    "name",
    [
        *("tmp-checkpoint-5", "checkpoint-", "checkpoint-5-best", "checkpoint-last", "runs", "checkpoint-5\n"),
        *("checkpoint-٥", "checkpoint-5\x1b[2J", "step_1234567890123", "final"),
    ],
)
def test_another_folder_is_no_checkpoint(tmp_path: Path, name: str) -> None:
    checkpoint(tmp_path / name)
    checkpoint(tmp_path)
    assert settled(tmp_path) == Look()


def test_the_trainers_state_has_the_step_and_the_epoch(tmp_path: Path) -> None:
    checkpoint(tmp_path / "checkpoint-1", state={"global_step": 70, "epoch": 0.5})
    (found,) = settled(tmp_path).ready
    assert (found.step, found.epoch) == (70, 0.5)


@pytest.mark.parametrize("value", [-1, True, "7", None, 10**12])
def test_a_step_that_is_no_count_is_taken_from_the_name(tmp_path: Path, value: Any) -> None:
    checkpoint(tmp_path / "checkpoint-7", state={"global_step": value, "epoch": float("nan")})
    (found,) = settled(tmp_path).ready
    assert (found.step, found.epoch) == (7, None)


def test_steps_are_in_the_order_of_training(tmp_path: Path) -> None:
    for step in (1000, 90, 200):
        checkpoint(tmp_path / f"checkpoint-{step}")
    assert [step for step, _ in ready(tmp_path)] == [90, 200, 1000]


def test_epochs_are_left_out_where_steps_are_counted(tmp_path: Path) -> None:
    checkpoint(tmp_path / "epoch_0")
    checkpoint(tmp_path / "step_100")
    assert ready(tmp_path) == [(100, "step_100")]


def test_the_newest_run_of_ms_swift_is_watched_to_its_end(tmp_path: Path) -> None:
    for version in (9, 10):
        checkpoint(tmp_path / f"v{version}-20250131-120000" / "checkpoint-5")
    finder = CheckpointFinder(tmp_path)
    finder.look()
    assert finder.newer_version == ""
    checkpoint(tmp_path / "v11-20250131-120000" / "checkpoint-5")
    assert [one.name for one in finder.look().ready] == ["v10-20250131-120000/checkpoint-5"]
    assert finder.newer_version == "v11-20250131-120000"


def test_the_model_may_be_in_a_folder_of_the_checkpoint(tmp_path: Path) -> None:
    model = checkpoint(tmp_path / "global_step_5" / "actor" / "huggingface")
    (found,) = settled(tmp_path).ready
    assert (found.name, found.path) == ("global_step_5", model)


def test_the_state_of_deepspeed_beside_a_model_of_the_same_step_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "global_step5").mkdir()
    checkpoint(tmp_path / "global_step5_hf")
    assert reasons(tmp_path) == []
    assert ready(tmp_path) == [(5, "global_step5_hf")]


def test_a_checkpoint_that_changed_between_two_looks_is_looked_at_again(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "checkpoint-5")
    finder = CheckpointFinder(tmp_path)
    assert finder.look().is_settling
    (folder / "optimizer.pt").write_bytes(b"half")
    assert finder.look().is_settling
    look = finder.look()
    assert (len(look.ready), look.is_settling) == (1, False)


def test_an_old_checkpoint_needs_no_second_look(tmp_path: Path) -> None:
    checkpoint(tmp_path / "checkpoint-5")
    assert len(CheckpointFinder(tmp_path, clock=lambda: 1e11).look().ready) == 1


def test_a_checkpoint_of_transformers_without_its_last_file_is_given_time(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "checkpoint-5")
    (folder / "training_args.bin").touch()
    now = [0.0]
    finder = CheckpointFinder(tmp_path, clock=lambda: now[0])
    finder.look()
    assert finder.look().is_settling
    now[0] = 1e11
    assert len(finder.look().ready) == 1


def test_shards_of_deepspeed_are_reported_with_what_to_do(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "checkpoint-5")
    (folder / "model.safetensors").unlink()
    (folder / "global_step5").mkdir()
    (folder / "global_step5" / "zero_pp_rank_0_mp_rank_00_model_states.pt").touch()
    (reason,) = reasons(tmp_path)
    assert reason.startswith("this folder has DeepSpeed shards instead of weights. Convert them with `python zero_to")


@pytest.mark.parametrize("lost", [*SHARDS, "model.safetensors.index.json", "config.json"])
def test_a_checkpoint_without_all_of_its_files_is_incomplete(tmp_path: Path, lost: str) -> None:
    folder = sharded(tmp_path / "checkpoint-5")
    assert ready(tmp_path) == [(5, "checkpoint-5")]
    (folder / lost).unlink()
    expected = {
        "config.json": "neither config.json nor adapter_config.json is there yet",
        "model.safetensors.index.json": "the index of its shards is not there yet",
    }
    assert reasons(tmp_path) == [expected.get(lost, f"{lost} is not there yet")]


def test_weights_that_are_shorter_than_their_header_says_are_incomplete(tmp_path: Path) -> None:
    file = checkpoint(tmp_path / "checkpoint-5") / "model.safetensors"
    whole = file.stat().st_size
    os.truncate(file, whole - 100)
    assert reasons(tmp_path) == [f"model.safetensors is incomplete or damaged (it has {whole - 100} of {whole} bytes)"]


def test_a_checkpoint_without_weights_is_incomplete(tmp_path: Path) -> None:
    (checkpoint(tmp_path / "checkpoint-5") / "model.safetensors").unlink()
    (tmp_path / "checkpoint-5" / "value_head.pt").touch()
    assert reasons(tmp_path) == ["its weights are not there yet"]


def test_the_trainers_state_is_waited_for_where_other_checkpoints_have_one(tmp_path: Path) -> None:
    checkpoint(tmp_path / "checkpoint-5", state={"global_step": 5})
    half = checkpoint(tmp_path / "checkpoint-6")
    finder = CheckpointFinder(tmp_path)
    finder.look({"checkpoint-5"})
    (waiting,) = finder.look({"checkpoint-5"}).unfinished
    assert waiting.reason == "trainer_state.json, which the other checkpoints have, is not there yet"
    (half / "trainer_state.json").write_text('{"global_')
    assert reasons(tmp_path) == ["trainer_state.json cannot be read"]


@pytest.mark.parametrize(
    ("index", "reason"),
    [
        ({"weight_map": {"a": "../other.safetensors"}}, "which is not a file of its folder"),
        ({"weight_map": {"a": 5}}, "which is not a file of its folder"),
        ({"weight_map": []}, "lists no weights"),
        ([], "is not a JSON object"),
    ],
)
def test_a_damaged_index_is_a_reason(tmp_path: Path, index: Any, reason: str) -> None:
    write_json(sharded(tmp_path / "checkpoint-5") / "model.safetensors.index.json", index)
    (found,) = reasons(tmp_path)
    assert found.endswith(reason)


def test_an_adapter_needs_its_own_weights_alone(tmp_path: Path) -> None:
    write_json(tmp_path / "checkpoint-5" / "adapter_config.json", {})
    assert reasons(tmp_path) == ["its weights are not there yet"]
    weights(tmp_path / "checkpoint-5" / "adapter_model.safetensors")
    assert ready(tmp_path) == [(5, "checkpoint-5")]


def test_links_are_followed_and_those_to_nowhere_are_passed_over(tmp_path: Path) -> None:
    checkpoint(tmp_path / "elsewhere" / "checkpoint-5")
    out = tmp_path / "out"
    out.mkdir()
    (out / "checkpoint-5").symlink_to(tmp_path / "elsewhere" / "checkpoint-5")
    (out / "checkpoint-6").symlink_to(tmp_path / "gone")
    (out / "checkpoint-7").symlink_to("checkpoint-7")
    assert ready(out) == [(5, "checkpoint-5")]


def test_a_folder_that_does_not_exist_has_no_checkpoints(tmp_path: Path) -> None:
    assert settled(tmp_path / "later") == Look()


def test_a_folder_that_cannot_be_read_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("prefscope.training.checkpoints.os.scandir", refuse)
    with pytest.raises(ResourceError, match="folder of checkpoints cannot be read"):
        settled(tmp_path)


def test_a_checkpoint_that_cannot_be_read_does_not_hide_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (5, 6):
        checkpoint(tmp_path / f"checkpoint-{step}")
    scandir = os.scandir

    def refuse(path: Path) -> Any:
        if path.name == "checkpoint-5":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr("prefscope.training.completeness.os.scandir", refuse)
    look = settled(tmp_path)
    assert [one.name for one in look.ready] == ["checkpoint-6"]
    assert [one.reason for one in look.unfinished] == ["it cannot be read (Permission denied)"]
