"""`prefscope parity` and `--profile`: the bundled pairs as another stack tokenizes them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prefscope.ledger.table import load_ledger

pytestmark = pytest.mark.slow

Program = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory, samples: Path) -> Path:
    """Return a file of the first bundled pairs, of which one has a system message."""
    path = tmp_path_factory.mktemp("parity") / "pairs.jsonl"
    rows = (samples / "pairs.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    with_system = next(row for row in rows if '"role": "system"' in row)
    path.write_text("".join([*[row for row in rows if '"system"' not in row][:5], with_system]), encoding="utf-8")
    return path


def test_differing_tokens_are_shown_with_their_place_and_number_of_pairs(program: Program, pairs: Path) -> None:
    code, out, _ = program("parity", pairs, "--b", "trl-0.24")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert code == 0
    assert lines[:3] == ["A trl", "B trl-0.24", "0 of 6 pairs have the same tokens under both"]
    assert "last 6 100% · <|end|>" in lines


def test_pairs_that_a_profile_refuses_are_left_out_and_counted(program: Program, pairs: Path) -> None:
    _, out, _ = program("parity", pairs, "--b", "rewardbench", "--json")
    found: dict[str, Any] = json.loads(out)
    assert (found["pairs"], found["refused"]) == (5, {"trl": 0, "rewardbench": 1})
    places = {(one["place"], one["a"], one["b"]): one["pairs"] for one in found["differences_of_tokens"]}
    assert places == {
        ("first", "", "<|start|>assistant\n"): 5,
        ("last", "", "<|end|>"): 5,
        ("prompt, last", "<|start|>assistant\n", ""): 5,
        ("prompt, first", "", "<|end|>"): 5,
    }


def test_the_effect_of_tokens_equals_that_of_two_runs(program: Program, pairs: Path, tmp_path: Path) -> None:
    _, out, _ = program("parity", pairs, "--a", "simpo", "--b", "trl", "--json")
    margins = []
    for profile in ("simpo", "trl"):
        program("score", pairs, "--profile", profile, "-o", tmp_path / f"{profile}.parquet")
        ledger = load_ledger(tmp_path / f"{profile}.parquet")
        assert ledger.manifest["tokenization"]["profile"] == profile
        margins.append(float(ledger.rewards(0.1)["margins"].mean()))
    found = json.loads(out)["differences"]["margin"]
    assert (found["a"], found["b"]) == pytest.approx(margins, abs=1e-9)


@pytest.mark.parametrize(
    ("profiles", "message"),
    [
        (("trl", "trl"), "Both profiles are the same. Pass two different ones with --a and --b."),
        (("trl", "dpo"), "There is no profile 'dpo'. Use one of trl, trl-0.24, simpo, rewardbench."),
    ],
)
def test_profiles_that_cannot_be_compared_are_refused(
    program: Program, pairs: Path, profiles: tuple[str, str], message: str
) -> None:
    code, _, err = program("parity", pairs, "--a", profiles[0], "--b", profiles[1])
    assert (code, err) == (2, f"prefscope: {message}\n")
