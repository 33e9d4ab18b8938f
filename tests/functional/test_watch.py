"""Checkpoints are scored as they appear, once each and on the same pairs, whatever happens to them."""

from __future__ import annotations

import json
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from prefscope.errors import DataError, ModelError, PrefscopeError, ResourceError, UsageError
from prefscope.events import Event, Planned
from prefscope.ledger.columns import LOGPS
from prefscope.ledger.run_folder import RunFolder
from prefscope.ledger.table import load_ledger
from prefscope.pipeline.run import score
from prefscope.scoring import models as loading
from prefscope.training.settings import WatchSettings
from prefscope.training.watch import DELETED, watch
from prefscope.training.watch_process import start_watch
from tests.functional.runs import committed
from tests.functional.trainings import OUT, REF, STATE, run, save, settings_of, wait

pytestmark = pytest.mark.slow

RUNS = RunFolder(Path("runs"))
SECONDS = 60


def recorded() -> list[tuple[int, str | None]]:
    return [(one.step, one.ledger) for one in RUNS.steps()]


def test_checkpoints_are_scored_when_they_are_complete_just_as_score_does(pairs: Path) -> None:
    def begin() -> None:
        (save(1) / STATE).unlink()
        (OUT / "checkpoint-1" / "model.safetensors").rename("weights")

    def finish() -> None:
        Path("weights").rename(OUT / "checkpoint-1" / "model.safetensors")

    settings = settings_of(pairs, once=False)
    outcome = run(settings, wait, begin, wait, wait, finish, wait, lambda: save(2, "tiny-base"), wait)
    assert (outcome.scored, outcome.problems) == ([1, 2], {})
    assert [(one.step, one.checkpoint, one.epoch) for one in RUNS.steps()] == [
        (1, "checkpoint-1", None),
        (2, "checkpoint-2", 0.02),
    ]
    models = replace(settings.score.models, policy=str(OUT / "checkpoint-2"))
    alone = load_ledger(score(replace(settings.score, models=models), lambda _: Path("alone.parquet"), lambda _: None))
    watched = load_ledger(RUNS.ledger_path(2))
    for name in LOGPS:
        assert watched.stored[name].tolist() == alone.stored[name].tolist()


def test_the_reference_is_computed_once_and_without_a_cache_nothing_is_left(pairs: Path) -> None:
    save(1), save(2, "tiny-base")
    settings = settings_of(pairs)
    compute = replace(settings.score.compute, use_cache=False)
    outcome = run(replace(settings, score=replace(settings.score, compute=compute)))
    assert [event.missing > 0 for event in outcome.events if isinstance(event, Planned) and event.role == "ref"] == [
        True,
        False,
    ]
    assert committed() == 0


def test_a_watch_that_is_started_again_goes_on(pairs: Path) -> None:
    save(1)
    assert run(settings_of(pairs)).scored == [1]
    (OUT / "checkpoint-1").rename(OUT / "step_1")
    save(2, "tiny-base")
    outcome = run(settings_of(pairs))
    assert (outcome.kept, outcome.scored) == ([1], [2])
    assert "step_1 is of step 1, as checkpoint-1 is, and is not scored." in outcome.notes
    assert recorded() == [(1, "step-0000001.parquet"), (2, "step-0000002.parquet")]


def test_only_every_other_step_is_scored_and_at_once_also_the_last(pairs: Path) -> None:
    for step in (1, 2, 3):
        save(step)
    assert run(settings_of(pairs, once=False, every=2), wait).scored == [2]
    assert run(settings_of(pairs, every=2)).scored == [3]


def test_an_incomplete_checkpoint_is_skipped_when_training_has_moved_past_it(pairs: Path) -> None:
    weights = save(1) / "model.safetensors"
    weights.rename("weights")
    outcome = run(settings_of(pairs, once=False), wait, wait, lambda: save(2), wait, wait, wait)
    reason = "It is incomplete: its weights are not there yet."
    assert (outcome.scored, outcome.problems) == ([2], {1: reason})
    assert [one.problem for one in RUNS.steps()] == [reason, ""]
    Path("weights").rename(weights)
    assert run(settings_of(pairs)).scored == [1]
    assert [one.problem for one in RUNS.steps()] == ["", ""]


def test_what_is_left_incomplete_is_reported_at_once(pairs: Path) -> None:
    (save(1) / "model.safetensors").write_bytes(b"garbage" * 100)
    outcome = run(settings_of(pairs))
    assert outcome.scored == []
    assert outcome.problems[1].startswith("It is incomplete: model.safetensors is incomplete or damaged (its header is")


def test_a_checkpoint_that_does_not_load_is_skipped_and_tried_again_by_the_next_watch(pairs: Path) -> None:
    config = save(1) / "config.json"
    good = config.read_text()
    config.write_text(json.dumps(json.loads(good) | {"hidden_size": 48}))
    save(2)
    outcome = run(settings_of(pairs, once=False), wait, wait, wait)
    assert (outcome.scored, list(outcome.problems)) == ([2], [1])
    assert outcome.problems[1].startswith(str(Path.cwd() / OUT / "checkpoint-1"))
    config.write_text(good)
    assert run(settings_of(pairs)).scored == [1]


@pytest.mark.parametrize("ref", [REF, "none"])
def test_a_checkpoint_with_another_tokenizer_is_skipped(pairs: Path, ref: Path | str) -> None:
    save(1)
    file = save(2) / "tokenizer.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    ids = content["model"]["vocab"]
    ids["e"], ids["t"] = ids["t"], ids["e"]
    file.write_text(json.dumps(content), encoding="utf-8")
    outcome = run(settings_of(pairs, ref))
    assert (outcome.scored, list(outcome.problems)) == ([1], [2])
    assert ("different vocabularies" if ref == REF else "Its tokenizer, chat template or truncation differs") in (
        outcome.problems[2]
    )
    assert not RUNS.ledger_path(2).exists()


def test_a_checkpoint_whose_chat_template_refuses_the_pairs_is_skipped(pairs: Path) -> None:
    save(1)
    (save(2) / "chat_template.jinja").write_text("{{ raise_exception('no such role') }}")
    save(3)
    outcome = run(settings_of(pairs))
    assert (outcome.scored, list(outcome.problems)) == ([1, 3], [2])
    assert "no such role" in outcome.problems[2]


def test_a_run_folder_that_is_deleted_is_reported(pairs: Path) -> None:
    with pytest.raises(ResourceError, match="the run folder cannot be written to"):
        run(settings_of(pairs, once=False), RUNS.path.rmdir, lambda: save(1), wait)


def test_a_checkpoint_that_is_deleted_while_it_is_read_is_a_note_and_the_watch_goes_on(
    pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = loading.load_model

    def lose(checkpoint: Any, *args: Any, **kwargs: Any) -> Any:
        if checkpoint.path.name == "checkpoint-1":
            shutil.rmtree(checkpoint.path)
        return load(checkpoint, *args, **kwargs)

    monkeypatch.setattr(loading, "load_model", lose)
    save(1), save(2)
    outcome = run(settings_of(pairs, once=False), wait, wait)
    assert (outcome.scored, outcome.problems) == ([2], {1: DELETED})
    assert [one.problem for one in RUNS.steps()] == [DELETED, ""]


def test_the_newest_checkpoint_comes_first_once_one_was_deleted_before_it_was_scored(
    pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (1, 2, 3, 4):
        save(step)
    load = loading.load_model

    def delete_the_next(checkpoint: Any, *args: Any, **kwargs: Any) -> Any:
        shutil.rmtree(OUT / "checkpoint-2", ignore_errors=True)
        return load(checkpoint, *args, **kwargs)

    monkeypatch.setattr(loading, "load_model", delete_the_next)
    outcome = run(settings_of(pairs))
    assert outcome.scored == [1, 4, 3]
    assert any(note.startswith("checkpoint-2 was deleted before it was scored") for note in outcome.notes)


def test_two_watchers_score_each_step_once(pairs: Path) -> None:
    save(1), save(2, "tiny-base")
    other = watch(settings_of(pairs), lambda _: None, lambda _: None)
    elsewhere: list[int] = []

    def let_the_other_run(event: Event) -> None:
        if isinstance(event, Planned) and not elsewhere:
            elsewhere.append(next(other).step.step)

    outcome = run(settings_of(pairs), emit=let_the_other_run)
    assert (elsewhere, outcome.scored, outcome.kept) == ([2], [1], [2])
    assert [(one.step.step, one.seconds) for one in other] == [(1, None)]
    assert [step for step, _ in recorded()] == [1, 2]
    assert not list(RUNS.path.glob(".*"))


def test_a_killed_watch_goes_on_without_scoring_anything_twice(pairs: Path) -> None:
    for step in (1, 2, 3):
        save(step, ["tiny-policy", "tiny-base", "tiny-ref"][step - 1])
    child = start_watch(settings_of(pairs))
    deadline = time.monotonic() + SECONDS
    while not RUNS.ledgers() and time.monotonic() < deadline:
        time.sleep(0.01)
    child.process.send_signal(signal.SIGKILL)
    child.end()
    (RUNS.path / ".step-0000009.lock").touch()
    before = {path: path.stat().st_mtime_ns for path in RUNS.ledgers()}
    assert before
    outcome = run(settings_of(pairs))
    assert sorted([*outcome.kept, *outcome.scored]) == [1, 2, 3]
    assert len(outcome.kept) == len(before)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert not list(RUNS.path.glob(".*"))


@pytest.mark.parametrize("how", ["end of stdin", "SIGTERM"])
def test_the_process_for_the_screens_ends_when_it_is_asked_to(pairs: Path, how: str) -> None:
    child = start_watch(settings_of(pairs, once=False))
    while not RUNS.path.exists():
        assert child.process.poll() is None
    if how == "SIGTERM":
        child.process.terminate()
    elif child.process.stdin is not None:
        child.process.stdin.close()
    assert child.process.wait(SECONDS) == 0
    child.end()
    assert child.where == ""


def test_the_process_for_the_screens_says_in_its_log_why_it_ended(pairs: Path) -> None:
    save(1)
    child = start_watch(settings_of(pairs, ref=None))
    assert child.process.wait(SECONDS) == 2
    assert child.log is not None
    assert "this is a full checkpoint, and no file beside it names the model" in child.log.read_text()
    child.end(keep_log=False)


def test_the_reference_of_adapters_is_their_base(pairs: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(REF)
    lora = LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    get_peft_model(model, lora).save_pretrained(str(OUT / "checkpoint-1"))
    outcome = run(settings_of(pairs, ref=None))
    assert outcome.scored == [1]
    assert f"The reference is {REF}: the base of the adapters." in outcome.notes


def test_the_reference_of_full_checkpoints_is_what_the_trainer_names(pairs: Path) -> None:
    save(1)
    with pytest.raises(UsageError, match="Pass that model with --ref"):
        run(settings_of(pairs, ref=None))
    (OUT / "args.json").write_text(json.dumps({"model": str(REF)}))
    outcome = run(settings_of(pairs, ref=None))
    assert outcome.scored == [1]
    assert f"The reference is {REF}: the model of {OUT / 'args.json'}." in outcome.notes


def test_a_new_training_in_the_same_folder_is_refused(pairs: Path) -> None:
    save(1)
    run(settings_of(pairs))

    def begin_again() -> None:
        shutil.rmtree(OUT / "checkpoint-1")

    with pytest.raises(UsageError, match="it is of another training"):
        run(settings_of(pairs, once=False), begin_again, lambda: save(1, "tiny-base"), wait)
    with pytest.raises(UsageError, match="it is of another training"):
        run(settings_of(pairs))
    shutil.rmtree(OUT / "checkpoint-1")
    save(1)
    assert run(settings_of(pairs)).kept == [1]


def test_another_training_is_refused_even_if_it_is_older(pairs: Path) -> None:
    save(1, "tiny-base", out=Path("earlier"))
    save(1)
    run(settings_of(pairs))
    with pytest.raises(UsageError, match="it is of another training"):
        run(replace(settings_of(pairs), checkpoints="earlier"))
    OUT.rename("moved")
    assert run(replace(settings_of(pairs), checkpoints="moved")).kept == [1]


@pytest.fixture(name="kept", scope="module")
def _kept(tmp_path_factory: pytest.TempPathFactory, samples: Path) -> Path:
    """Return a folder with a run folder, a training of one checkpoint and its pairs."""
    folder = tmp_path_factory.mktemp("kept")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        lines = (samples / "pairs.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
        Path("pairs.jsonl").write_text("".join(lines[:2]), encoding="utf-8")
        Path("other.jsonl").write_text("".join(lines[2:4]), encoding="utf-8")
        save(1)
        assert run(settings_of(Path("pairs.jsonl"))).scored == [1]
    return folder


def changed(settings: WatchSettings, **parts: Any) -> WatchSettings:
    """Return settings with other values in a part of the settings of the runs."""
    others = {part: replace(getattr(settings.score, part), **values) for part, values in parts.items()}
    return replace(settings, score=replace(settings.score, **others))


@pytest.mark.parametrize(
    ("parts", "name"),
    [
        ({"data": {"source": "other.jsonl"}}, "data set"),
        ({"data": {"sample": 1}}, "sample, seed or rows"),
        ({"data": {"seed": 1}}, "sample, seed or rows"),
        ({"models": {"ref": str(REF.with_name("tiny-base"))}}, "reference"),
        ({"models": {"ref": "none"}}, "reference"),
        ({"models": {"dtype": "bfloat16"}}, "dtype"),
        ({"tokenization": {"max_length": 20}}, "tokenization"),
        ({"tokenization": {"profile": "simpo"}, "data": {"limit": 1}}, "sample, seed or rows and another tokenization"),
    ],
)
def test_a_run_folder_of_other_settings_is_refused(
    kept: Path, monkeypatch: pytest.MonkeyPatch, parts: dict[str, Any], name: str
) -> None:
    monkeypatch.chdir(kept)
    with pytest.raises(UsageError, match=f"made with another {name}, so its figures cannot be compared"):
        run(changed(settings_of(Path("pairs.jsonl")), **parts))


@pytest.mark.parametrize(
    ("parts", "error", "message"),
    [
        ({"data": {"source": "gone.jsonl"}}, DataError, "there is no such file"),
        ({"data": {"source": "-"}}, UsageError, "Standard input can be read only once"),
        ({"models": {"ref": "./gone"}}, ModelError, "there is no such checkpoint"),
    ],
)
def test_mistakes_are_reported_before_the_first_checkpoint_exists(
    pairs: Path, parts: dict[str, Any], error: type[PrefscopeError], message: str
) -> None:
    with pytest.raises(error, match=message):
        run(changed(settings_of(pairs, once=False), **parts), wait)


def test_a_checkpoint_itself_is_not_watched(pairs: Path) -> None:
    folder = save(1)
    with pytest.raises(UsageError, match="not the folder that a trainer writes them to"):
        run(replace(settings_of(pairs), checkpoints=str(folder)))
