"""`prefscope watch` prints a line for each checkpoint."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prefscope.ledger.run_folder import RunFolder
from prefscope.ledger.table import load_ledger

Program = Callable[..., tuple[int, str, str]]
pytestmark = pytest.mark.slow


@pytest.fixture(name="training", scope="module")
def _training(tmp_path_factory: pytest.TempPathFactory, samples: Path) -> Path:
    """Return a folder with two pairs, a checkpoint, and another that is incomplete and has a hostile index."""
    folder = tmp_path_factory.mktemp("training")
    lines = (samples / "pairs.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (folder / "pairs.jsonl").write_text("".join(lines[:2]), encoding="utf-8")
    for step, model in ((10, "tiny-policy"), (20, "tiny-base")):
        shutil.copytree(samples / model, folder / "out\x1b[2J" / f"checkpoint-{step}")
    broken = folder / "out\x1b[2J" / "checkpoint-20"
    (broken / "model.safetensors").unlink()
    (broken / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "\x1b[31m.safetensors"}}))
    state = {"global_step": 10, "epoch": 0.125}
    for number in (10, 20):
        (broken.with_name(f"checkpoint-{number}") / "trainer_state.json").write_text(json.dumps(state))
    return folder


@pytest.fixture(name="arguments")
def _arguments(training: Path, samples: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    monkeypatch.setattr("prefscope.training.watch.SECONDS_BETWEEN_LOOKS", 0)
    runs = training / "runs"
    ref = samples / "tiny-ref"
    return [training / "pairs.jsonl", "--checkpoints", training / "out\x1b[2J", "--ref", ref, "-o", runs, "--once"]


def test_a_line_has_the_key_figures_of_a_checkpoint(program: Program, arguments: list[Any], training: Path) -> None:
    code, out, err = program("watch", *arguments)
    scored, skipped = out.splitlines()
    assert code == 0
    assert re.fullmatch(
        r"step     10  epoch 0\.12  2 pairs  accuracy \d+\.\d% \(\d+\.\d% to \d+\.\d%\)  margin [+-]\d\.\d+  "
        r"chosen [+-]\d\.\d+  rejected [+-]\d\.\d+  \d+ s",
        scored,
    )
    reason = "checkpoint-20 was skipped: It is incomplete: ␛[31m.safetensors is not there yet."
    assert skipped == f"step     20  {reason}"
    assert "\x1b" not in out + err
    margins = load_ledger(training / "runs" / "step-0000010.parquet").rewards(0.1)["margins"]
    assert f"margin {margins.mean():+.3f}" in scored


def test_json_has_an_object_a_line_with_all_figures(program: Program, arguments: list[Any], training: Path) -> None:
    program("watch", *arguments)
    code, out, _ = program("watch", *arguments, "--json", "--loss", "ipo_trl", "--beta", "0.3")
    kept, skipped = map(json.loads, out.splitlines())
    ledger = training / "runs" / "step-0000010.parquet"
    assert code == 0
    names = ("step", "epoch", "checkpoint", "ledger", "problem", "seconds", "pairs", "beta")
    assert [kept[name] for name in names] == [10, 0.125, "checkpoint-10", str(ledger), "", None, 2, 0.3]
    assert kept["metrics"]["rewards/margins"] == pytest.approx(load_ledger(ledger).rewards(0.3)["margins"].mean())
    assert kept["outcomes"].keys() >= {"win", "low", "high"}
    assert [loss["name"] for loss in kept["losses"]] == ["ipo_trl"]
    assert (skipped["ledger"], "\x1b[31m.safetensors is not there yet" in skipped["problem"]) == (None, True)


def test_without_a_reference_a_line_has_log_probs_and_losses(
    program: Program, arguments: list[Any], tmp_path: Path
) -> None:
    options = [*arguments[:3], "--ref", "none", "-o", tmp_path / "free", "--once"]
    out = program("watch", *options)[1]
    assert re.search(r"2 pairs  chosen log-prob -\d+\.\d  rejected log-prob -\d+\.\d  simpo \d\.\d{3}  \d+ s\n", out)


def test_the_default_run_folder_depends_on_the_settings(program: Program, arguments: list[Any]) -> None:
    folders = set()
    for seed in (0, 0, 1):
        _, out, _ = program("watch", *arguments[:5], "--once", "--json", "--seed", seed)
        path = Path(json.loads(out.splitlines()[0])["ledger"]).parent
        folders.add(path)
        assert len(RunFolder(path).ledgers()) == 1
    assert len(folders) == 2


def test_nothing_to_score_is_an_error(program: Program, arguments: list[Any]) -> None:
    code, out, err = program("watch", *arguments[:1], "--checkpoints", "nowhere", *arguments[3:5], "--once", "-o", "r")
    assert (code, out) == (2, "")
    assert "prefscope: nowhere: no checkpoint was scored." in err


@pytest.mark.parametrize("name", ["runs.parquet", "-"])
def test_a_file_is_no_run_folder(program: Program, arguments: list[Any], name: str) -> None:
    code, _, err = program("watch", *arguments[:5], "-o", name)
    assert (code, f"A watch writes several ledgers, but '{name}' is not a folder." in err) == (2, True)


HEARS_CTRL_C = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from prefscope.cli import main; sys.exit(main(sys.argv[1:]))"
)
"""The program, also where it is started in the background, which ignores ctrl+C."""


def test_ctrl_c_ends_a_watch_that_waits_for_the_first_checkpoint(
    arguments: list[Any], environment: dict[str, str], tmp_path: Path
) -> None:
    command = [sys.executable, "-c", HEARS_CTRL_C, "watch", str(arguments[0]), "--checkpoints", "later"]
    watch = subprocess.Popen(
        [*command, *map(str, arguments[3:5]), "-o", "runs"], stdout=-1, stderr=-1, text=True, env=environment
    )
    while not (tmp_path / "runs").is_dir():  # it has read its settings, and waits
        assert watch.poll() is None
    watch.send_signal(signal.SIGINT)
    out, err = watch.communicate(timeout=60)
    assert (watch.returncode, out) == (130, "")
    assert err.endswith("Interrupted. Finished batches are kept: run the same command again to continue.\n")
