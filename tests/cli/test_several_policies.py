"""`prefscope score` with several policies, and a policy from the environment or settings."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from prefscope.ledger.table import load_ledger

Program = Callable[..., tuple[int, str, str]]


@pytest.fixture
def pairs(tmp_path: Path, samples: Path) -> Path:
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join((samples / "pairs.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)[:4]))
    return path


@pytest.mark.slow
def test_the_reference_is_computed_once_and_the_runs_are_compared(
    program: Program, pairs: Path, samples: Path, tmp_path: Path
) -> None:
    policies = ("--policy", samples / "tiny-base", "--policy", samples / "tiny-policy")
    options = ("--ref", samples / "tiny-ref", "--no-cache", "-o", tmp_path / "runs", "--json")
    code, out, err = program("score", pairs, *policies, *options)
    assert code == 0
    message = [line.partition(": ")[2][:18] for line in err.splitlines() if line.startswith("ref: ")]
    assert message == ["8 of 8 sequences t", "all 8 sequences ar"]
    assert [Path(run["ledger"]).name for run in json.loads(out)["runs"]] == ["tiny-base.parquet", "tiny-policy.parquet"]
    alone = tmp_path / "alone.parquet"
    program("score", pairs, *policies[2:], *options[:3], "-o", alone)
    found = load_ledger(tmp_path / "runs" / "tiny-policy.parquet")
    assert found.rewards(0.1)["margins"].tolist() == load_ledger(alone).rewards(0.1)["margins"].tolist()


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (["-o", "out.csv"], "Several policies write several ledgers, but 'out.csv' is not a folder."),
        (["-o", "one", "-o", "two"], "Several policies write several ledgers, but 'two' is not a folder."),
        (["--policy", "a"], "A policy is named twice. Name each once."),
    ],
)
def test_wrong_outputs_for_several_policies_are_refused_before_anything_is_computed(
    program: Program, pairs: Path, outputs: list[str], message: str
) -> None:
    code, _, err = program("score", pairs, "--policy", "a", "--policy", "b", *outputs)
    assert (code, err.startswith(f"prefscope: {message}")) == (2, True)


def test_standard_input_is_refused_for_several(program: Program) -> None:
    code, _, err = program("score", "-", "--policy", "a", "--policy", "b")
    assert (code, err) == (
        2,
        "prefscope: Standard input can be read only once, not for several policies. Save it to a file.\n",
    )


@pytest.mark.parametrize("source", ["environment", "file"])
def test_a_policy_of_the_environment_or_the_settings_file_may_have_a_space_in_its_name(
    program: Program,
    pairs: Path,
    samples: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    own_settings: Callable[[str], Path],
    source: str,
) -> None:
    policy = tmp_path / "my policy"
    shutil.copytree(samples / "tiny-policy", policy)
    monkeypatch.chdir(tmp_path)
    if source == "environment":
        monkeypatch.setenv("PREFSCOPE_POLICY", str(policy))
        own_settings('policy = "nowhere"\n')
    else:
        own_settings(f'policy = "{policy}"\n')
    code, _, _ = program("score", pairs, "--ref", samples / "tiny-ref", "-o", tmp_path / "out.parquet")
    assert code == 0
    assert load_ledger(tmp_path / "out.parquet").manifest["models"]["policy"]["name"] == str(policy)
