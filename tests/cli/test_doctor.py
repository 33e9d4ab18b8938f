"""`prefscope doctor`: verdicts and exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from prefscope.pipeline.doctor import checks as _checks  # noqa: F401 (registers the checks)
from prefscope.pipeline.doctor.verdict import CHECKS

pytestmark = pytest.mark.slow

Program = Callable[..., tuple[int, str, str]]


def test_a_good_pair_of_models_exits_with_0_and_has_a_line_per_check(program: Program, samples: Path) -> None:
    models = ["--policy", samples / "tiny-policy", "--ref", samples / "tiny-ref"]
    code, out, _ = program("doctor", samples / "pairs.jsonl", *models, "--pairs", "4")
    lines = out.splitlines()
    assert code == 0
    assert lines[:2] == [f"policy {samples / 'tiny-policy'}", f"reference {samples / 'tiny-ref'}"]
    assert lines[2] == f"4 pairs of {samples / 'pairs.jsonl'}: {len(CHECKS)} ok"
    assert [line.split()[0] for line in lines[4:] if not line.startswith(" ")] == ["ok"] * len(CHECKS)
    assert "ok    double_bos       none of 4 pairs begin with two BOS tokens" in lines


def test_a_failing_check_exits_with_1_and_says_what_to_do(program: Program, samples: Path) -> None:
    models = ["--policy", samples / "tiny-policy", "--ref", samples / "tiny-policy"]
    code, out, _ = program("doctor", samples / "pairs.jsonl", *models, "--pairs", "2")
    assert code == 1
    assert (
        "FAIL  same_model       policy and reference have the same weights, so every reward is 0\n"
        "                       → Pass the trained checkpoint with --policy and the one that its training started from"
        " with\n                       --ref.\n"
    ) in out


def test_json_has_every_verdict(program: Program, samples: Path) -> None:
    code, out, _ = program("doctor", samples / "pairs.jsonl", "--pairs", "2", "--max-length", "8", "--json")
    diagnosis = json.loads(out)
    assert (code, diagnosis["schema"], diagnosis["pairs"]) == (1, 1, 2)
    assert diagnosis["policy"] == str(samples / "tiny-policy")
    assert diagnosis["checks"]["truncation"] == {
        "state": "fail",
        "detail": "2 of 2 pairs are cut to 8 tokens",
        "told": "2 of 2 pairs are cut to 8 tokens",
        "advice": "Raise --max-length, or omit it to use the model's whole context.",
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--policy", "p", "--ref", "none"], "The doctor needs a reference, so it cannot run with --ref none"),
        (["--ref", "r"], "--ref and --base need a --policy."),
        (["--beta", "99"], "Loss dpo: beta = 99 is out of range."),
        (["--pairs", "0"], "--pairs"),
        (["--policy", "./nowhere", "--ref", "base"], "./nowhere: there is no such checkpoint."),
    ],
    ids=["no reference", "no policy", "beta", "no pairs", "no checkpoint"],
)
def test_a_mistake_exits_with_2(program: Program, samples: Path, options: list[str], message: str) -> None:
    code, out, err = program("doctor", samples / "pairs.jsonl", *options)
    assert (code, out) == (2, "")
    assert message in err
