"""Results go to stdout, progress and messages to stderr."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

Program = Callable[..., tuple[int, str, str]]
SEVEN = {
    *("loss", "rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies"),
    *("logps/chosen", "logps/rejected"),
}


@pytest.fixture
def score(program: Program, samples: Path) -> Callable[..., tuple[int, str, str]]:
    """Return a function that scores a few bundled pairs with the bundled models and further options."""

    def call(*options: str) -> tuple[int, str, str]:
        return program("score", samples / "pairs.jsonl", "--limit", "6", *options)

    return call


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_the_summary_is_on_stdout_and_the_narration_on_stderr(score: Program) -> None:
    code, out, err = score("-o", "out.parquet")
    assert code == 0
    assert out.splitlines()[0].startswith("No --policy was given: this is a demonstration with the bundled tiny models")
    assert "rewards/margins" in out
    assert "rewards/margins" not in err
    assert "6 pairs, TRL explicit prompt" in err
    assert err.endswith("\nledger: out.parquet\nopen it: prefscope view out.parquet\n")


def test_a_table_on_stdout_puts_the_summary_on_stderr(score: Program) -> None:
    code, out, err = score("-o", "-")
    assert code == 0
    assert [row["row"] for row in table(out)] == ["0", "1", "2", "3", "4", "5"]
    assert "rewards/margins" in err


def test_a_table_on_stdout_is_the_table_of_a_file(score: Program) -> None:
    _, out, _ = score("-o", "-", "-o", "out.csv")
    assert out == Path("out.csv").read_text(encoding="utf-8")


def test_json_on_stdout_is_one_object_of_schema_1_with_the_seven_metrics_and_the_time(score: Program) -> None:
    code, out, _ = score("--json")
    found = json.loads(out)
    assert code == 0
    assert found["schema"] == 1
    assert set(found["metrics"]) == SEVEN
    assert isinstance(found["timing"]["scoring_seconds"], float)
    assert (found["pairs"], found["beta"]) == (6, 0.1)


def test_json_beside_a_table_on_stdout_goes_to_stderr(score: Program) -> None:
    _, out, err = score("-o", "-", "--json")
    assert len(table(out)) == 6
    assert json.loads(err[err.index("{\n") : err.rindex("}") + 1])["schema"] == 1


def test_the_json_of_a_report_has_no_time(program: Program, ledger: Path) -> None:
    code, out, err = program("report", ledger, "--json")
    assert (code, err) == (0, "")
    assert "timing" not in json.loads(out)


def test_off_a_terminal_nothing_has_an_escape_sequence(score: Program, program: Program, ledger: Path) -> None:
    shown = [*score(), *program("report", ledger), *program("losses"), *program("--help"), *program("report", "no")]
    assert [text for text in shown if isinstance(text, str) and "\x1b" in text] == []


def test_every_output_is_written_in_its_own_format(score: Program) -> None:
    names = ("a.parquet", "a.csv", "a.tsv", "a.jsonl", "a.csv.gz")
    assert score(*(word for name in names for word in ("-o", name)))[0] == 0
    assert sorted(path.name for path in Path().iterdir()) == sorted(names)
    assert len(Path("a.jsonl").read_text().splitlines()) == 6


def test_export_repeats_and_takes_the_knobs_of_score(program: Program, ledger: Path) -> None:
    knobs = ("--beta", "0.3", "--loss", "ipo_azar", "--loss", "simpo:gamma=0.8", "--weights", "--texts")
    code, out, err = program("export", ledger, "-o", "a.csv", "-o", "a.jsonl", "-o", "-", *knobs)
    rows = table(out)
    assert (code, err) == (0, "")
    assert out == Path("a.csv").read_text(encoding="utf-8")
    assert [json.loads(line)["margins"] for line in Path("a.jsonl").read_text().splitlines()] == [
        float(row["margins"]) for row in rows
    ]
    assert list(rows[0])[-8:] == [
        *("ipo_azar_loss", "simpo_loss", "ipo_azar_weight", "simpo_weight"),
        *("flags", "prompt", "chosen", "rejected"),
    ]


def test_a_score_and_an_export_of_its_ledger_give_the_same_table(score: Program, program: Program) -> None:
    _, scored, _ = score("-o", "-", "-o", "out.parquet", "--beta", "0.2")
    _, exported, _ = program("export", "out.parquet", "-o", "-", "--beta", "0.2")
    assert scored == exported


def metrics(out: str) -> dict[str, float]:
    found: dict[str, Any] = json.loads(out)["metrics"]
    return found


def test_rewards_scale_with_beta_and_log_probs_do_not(program: Program, ledger: Path) -> None:
    one, other = (metrics(program("report", ledger, "--json", "--beta", beta)[1]) for beta in ("0.1", "0.4"))
    assert other["rewards/margins"] == pytest.approx(4 * one["rewards/margins"])
    assert other["logps/chosen"] == one["logps/chosen"]


def test_a_parameter_of_a_loss_overrides_the_common_option(program: Program, ledger: Path) -> None:
    _, out, _ = program("report", ledger, "--json", "--loss", "simpo:gamma=0.8", "--simpo-gamma", "3")
    assert json.loads(out)["losses"][0]["parameters"] == {"beta": 2.0, "gamma": 0.8}
