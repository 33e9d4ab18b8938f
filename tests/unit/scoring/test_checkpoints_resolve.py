"""Which checkpoint a name refers to, including an adapter's base."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from prefscope.errors import ModelError, ResourceError, UsageError
from prefscope.scoring.checkpoints import Checkpoint, resolve
from prefscope.settings import ModelSettings


@pytest.fixture(name="full")
def _full(tmp_path: Path) -> Path:
    """Return a folder that says it is a full checkpoint."""
    return make_full(tmp_path / "full")


def make_full(folder: Path) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    return folder


def make_adapter(folder: Path, base: str | Path) -> Path:
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(base)}))
    return folder


def resolved(
    policy: Path | str, ref: Path | str | None = "none", base: Path | str | None = None
) -> tuple[Checkpoint, Checkpoint | None, list[str]]:
    """Return the policy, the reference and the notes."""
    notes: list[str] = []
    settings = ModelSettings(str(policy), str(ref) if ref else None, base=str(base) if base else None)
    return *resolve(settings, notes.append), notes


def test_a_full_folder_is_itself(full: Path) -> None:
    policy, ref, notes = resolved(full, full)
    assert policy == ref == Checkpoint(str(full), full)
    assert policy.full == policy
    assert notes == []


def test_ref_none_is_no_reference(full: Path) -> None:
    assert resolved(full, "none")[1] is None


def test_a_home_folder_is_found(full: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(full.parent))
    assert resolved("~/full")[0].path == full


def test_an_adapter_uses_its_recorded_base(full: Path, tmp_path: Path) -> None:
    adapter = make_adapter(tmp_path / "adapter", full)
    policy, _, notes = resolved(adapter)
    assert policy == Checkpoint(str(adapter), adapter, Checkpoint(str(full), full))
    assert notes == []


def test_a_folder_with_an_adapter_and_a_config_is_an_adapter(full: Path, tmp_path: Path) -> None:
    adapter = make_adapter(tmp_path / "adapter", full)
    (adapter / "config.json").write_text("{}")
    assert resolved(adapter)[0].base is not None


def test_the_base_option_overrides_the_recorded_base_with_a_note(full: Path, tmp_path: Path) -> None:
    other, adapter = make_full(tmp_path / "other"), make_adapter(tmp_path / "adapter", full)
    policy, _, notes = resolved(adapter, base=other)
    assert policy.full.path == other
    assert notes == [f"{adapter}: {other} is used as its base; its config names '{full}'."]


def test_a_base_option_equal_to_the_recorded_base_needs_no_note(full: Path, tmp_path: Path) -> None:
    policy, _, notes = resolved(make_adapter(tmp_path / "adapter", full), base=full)
    assert policy.full.path == full
    assert notes == []


def test_the_reference_replaces_a_missing_recorded_base_with_a_note(full: Path, tmp_path: Path) -> None:
    adapter, gone = make_adapter(tmp_path / "adapter", tmp_path / "gone"), tmp_path / "gone"
    policy, ref, notes = resolved(adapter, full)
    assert policy.base == ref
    assert notes == [f"{adapter}: the base '{gone}' that its config names was not found; {full} is used as its base."]


def test_the_base_option_replaces_a_missing_recorded_base(full: Path, tmp_path: Path) -> None:
    other = make_full(tmp_path / "other")
    policy, ref, _ = resolved(make_adapter(tmp_path / "adapter", tmp_path / "gone"), full, base=other)
    assert policy.full.path == other
    assert ref == Checkpoint(str(full), full)


def test_an_adapter_with_a_missing_base_is_refused_without_a_reference(tmp_path: Path) -> None:
    adapter, gone = make_adapter(tmp_path / "adapter", tmp_path / "gone"), tmp_path / "gone"
    told = f"{adapter}: the adapter's base model '{gone}' was not found. Pass the base model with --base."
    with pytest.raises(ModelError, match=re.escape(told)):
        resolved(adapter)


def test_a_base_on_an_unreachable_hub_counts_as_missing(full: Path, tmp_path: Path) -> None:
    policy, _, notes = resolved(make_adapter(tmp_path / "adapter", "someone/some-model"), full)
    assert policy.full.path == full
    assert len(notes) == 1


@pytest.mark.parametrize("ref", ["base", None], ids=["requested", "by default"])
def test_the_reference_of_an_adapter_is_its_base(full: Path, tmp_path: Path, ref: str | None) -> None:
    policy, reference, _ = resolved(make_adapter(tmp_path / "adapter", full), ref)
    assert reference == policy.base == Checkpoint(str(full), full)


@pytest.mark.parametrize("ref", ["base", None], ids=["asked for", "by default"])
def test_a_full_policy_has_no_base_to_use_as_reference(full: Path, ref: str | None) -> None:
    with pytest.raises(UsageError, match="is a full checkpoint, so a reference is required"):
        resolved(full, ref)


def test_an_adapter_can_be_the_reference(full: Path, tmp_path: Path) -> None:
    _, ref, _ = resolved(full, make_adapter(tmp_path / "adapter", full))
    assert ref is not None
    assert ref.full.path == full


def test_an_adapter_on_an_adapter_is_refused(full: Path, tmp_path: Path) -> None:
    inner = make_adapter(tmp_path / "inner", full)
    outer = make_adapter(tmp_path / "outer", inner)
    with pytest.raises(ModelError, match=r"is itself an adapter\. Merge that adapter into its base first"):
        resolved(outer)


def test_a_folder_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="this folder is not a checkpoint"):
        resolved(tmp_path)


def test_a_file_that_is_not_gguf_is_refused(full: Path) -> None:
    with pytest.raises(ModelError, match="this file is not a checkpoint"):
        resolved(full / "config.json")


def test_a_gguf_file_is_a_checkpoint(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF")
    policy = resolved(file)[0]
    assert policy == Checkpoint(str(file), file)
    assert policy.is_gguf


@pytest.mark.parametrize("name", ["/no/where", "./nowhere", "a/b/c", "model.gguf"])
def test_a_missing_path_is_not_looked_up_on_the_hub(name: str) -> None:
    with pytest.raises(ModelError, match="there is no such checkpoint"):
        resolved(name)


def test_a_name_that_may_be_on_an_unreachable_hub_is_reported() -> None:
    with pytest.raises(ResourceError, match="the hub cannot be reached"):
        resolved("someone/some-model")


def test_an_invalid_adapter_config_is_reported_with_its_path(tmp_path: Path) -> None:
    adapter = make_adapter(tmp_path / "adapter", "base")
    (adapter / "adapter_config.json").write_text("{")
    with pytest.raises(ModelError, match=re.escape(f"{adapter / 'adapter_config.json'}: this config cannot be read")):
        resolved(adapter)


def test_two_names_of_one_folder_are_the_same_weights(full: Path) -> None:
    policy, ref, _ = resolved(full, full.parent / "." / "full")
    assert ref is not None
    assert policy.same_weights(ref)


def test_an_adapter_is_not_the_same_weights_as_its_base(full: Path, tmp_path: Path) -> None:
    policy, ref, _ = resolved(make_adapter(tmp_path / "adapter", full), "base")
    assert ref is not None
    assert not policy.same_weights(ref)
