"""`prefscope compare`: its output and its files."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from prefscope.ledger.columns import LOGPS

pytestmark = pytest.mark.slow

Program = Callable[..., tuple[int, str, str]]
Write = Callable[..., str]


@pytest.fixture
def write(program: Program, tmp_path: Path) -> Write:
    """Return a function that makes a ledger of margins (at beta 0.1) and returns its path."""

    def make(name: str, margins: list[float], *, reference: bool = True) -> str:
        given = LOGPS if reference else LOGPS[:2]
        rows = [
            {"prompt": f"prompt {at}", "chosen": "yes", "rejected": "no", "even": at % 2 == 0}
            | dict(zip(given, (-52.0 + 10 * margin, -60.0, -52.0, -60.0), strict=False))
            for at, margin in enumerate(margins)
        ]
        source, path = tmp_path / f"{name}.jsonl", tmp_path / f"{name}.parquet"
        source.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
        assert program("score", source, "-o", path)[0] == 0
        return str(path)

    return make


def test_two_runs_are_compared_pair_by_pair(program: Program, write: Write) -> None:
    code, out, err = program("compare", write("a", [1, 1, -1, -1]), write("b", [2, -1, -1, 3]))
    assert (code, err) == (0, "")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert lines[:3] == ["A a", "B b", "4 shared pairs, beta 0.1"]
    assert "accuracy 50.0% 50.0% +0.0 pp -49.5 to +49.5 pp" in lines
    assert "margin 0.0000 0.7500 +0.7500 -1.2500 to +3.0000" in lines
    assert "only B right 1 25.0% margins <= 0 and margins_b > 0" in lines
    assert lines[lines.index("Right in A, not in B (1; largest changes first)") + 3] == "1 1.0000 -1.0000 prompt 1"


def test_three_runs_show_the_courses_of_the_pairs(program: Program, write: Write) -> None:
    runs = [write("one", [1, 1, -1, -1]), write("two", [1, -1, 1, -2]), write("three", [2, -1, 3, -3])]
    _, out, _ = program("compare", *runs)
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "three 50.0% 15.0% to 85.0% 0.2500 +0.5000 (-0.5000 to +1.5000)" in lines
    assert [line.split()[:2] for line in lines if line.startswith(("always", "learnt", "forgotten", "never"))] == [
        ["always", "1"],
        ["learnt", "1"],
        ["forgotten", "1"],
        ["never", "1"],
    ]
    assert "1 ▆▃▃ 1.0000 -1.0000 prompt 1" in lines


def test_the_file_has_every_shared_pair_with_its_margins_and_its_course(
    program: Program, write: Write, tmp_path: Path
) -> None:
    program("compare", write("a", [1, -1, 2]), write("b", [1, 1]), "-o", tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as stream:
        rows = [*csv.DictReader(stream)]
    assert [(row["row"], row["margins:a"], row["margins:b"], row["course"]) for row in rows] == [
        ("0", "1.0", "1.0", "always"),
        ("1", "-1.0", "1.0", "learnt"),
    ]


def test_an_expression_picks_pairs_by_columns_of_both_runs(program: Program, write: Write) -> None:
    runs = write("a", [1, 1, -1, -1]), write("b", [2, -1, -1, 3])
    _, out, _ = program("compare", *runs, "--where", "even and margin_b < 0", "--json")
    found = json.loads(out)
    assert (found["pairs"], found["quadrants"]["neither"]) == (1, 1)
    assert found["notes"] == []


def test_json_has_the_figures(program: Program, write: Write) -> None:
    _, out, _ = program("compare", write("a", [1, 1, -1]), write("b", [2, -1, 3]), "--json")
    found = json.loads(out)
    assert found["differences"]["margin"]["difference"] == pytest.approx(1.0)
    assert found["mcnemar_p"] == 1.0
    assert found["courses"] == {"always": 1, "learnt": 1, "forgotten": 1, "never": 0}
    assert [run["name"] for run in found["runs"]] == ["a", "b"]


def test_runs_without_a_reference_are_compared_by_log_prob_per_token(program: Program, write: Write) -> None:
    code, out, _ = program("compare", write("a", [1, -1], reference=False), write("b", [1, 1], reference=False))
    assert code == 0
    assert "A or B has no reference: compared by log-prob per token, chosen − rejected." in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a"], "prefscope: There is nothing to compare it with. Pass two or more ledgers of the same pairs.\n"),
        (["a", "a"], "this ledger is named twice. Name each ledger only once.\n"),
        (["a", "b", "-o", "out.pdf"], "No format has the suffix of 'out.pdf'."),
    ],
)
def test_what_cannot_be_compared_is_refused(program: Program, write: Write, arguments: list[str], message: str) -> None:
    runs = {name: write(name, [1, -1]) for name in ("a", "b")}
    code, out, err = program("compare", *(runs.get(argument, argument) for argument in arguments))
    assert (code, out) == (2, "")
    assert message in err
