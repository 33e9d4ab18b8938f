"""Chat templates that write today's date: a run has one date, which its manifest records for later runs."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path

import pytest

from prefscope.ledger.table import Ledger, load_ledger
from prefscope.scoring import template_date

pytestmark = pytest.mark.slow

Program = Callable[..., tuple[int, str, str]]
DATED = "Today is {{ strftime_now('%d %b %Y') }}.{% for m in messages %}<|start|>{{ m['content'] }}<|end|>{% endfor %}"
TIMED = DATED.replace("'%d %b %Y'", "time_format or '%H:%M'")


@pytest.fixture
def score(program: Program, pairs: Path, models: list[str]) -> Callable[..., Ledger]:
    """Return a function that scores with a template and returns the ledger; its messages are in `told`."""

    def call(template: str, *options: str, name: str = "out.parquet") -> Ledger:
        Path("dated.jinja").write_text(template, encoding="utf-8")
        code, _, err = program("score", pairs, *models, "--chat-template", "dated.jinja", *options, "-o", name)
        assert code == 0, err
        Path("told").write_text(err, encoding="utf-8")
        return load_ledger(name)

    return call


def messages() -> str:
    return Path("told").read_text(encoding="utf-8")


def on(monkeypatch: pytest.MonkeyPatch, date: str) -> None:
    """Set today's date."""

    def run_date(asked: str | None) -> dt.date:
        return template_date.run_date(asked or date)

    monkeypatch.setattr("prefscope.pipeline.template_in_use.run_date", run_date)


def test_the_date_of_the_run_is_rendered_recorded_and_reported(
    score: Callable[..., Ledger], monkeypatch: pytest.MonkeyPatch
) -> None:
    on(monkeypatch, "2026-01-31")
    ledger = score(DATED)
    assert ledger.manifest["tokenization"]["template_date"] == "2026-01-31"
    assert "The chat template writes the date, 2026-01-31." in messages()
    assert "--template-date 2026-01-31" in messages()


def test_the_same_date_reproduces_the_run_on_another_day(
    score: Callable[..., Ledger], monkeypatch: pytest.MonkeyPatch
) -> None:
    on(monkeypatch, "2026-01-31")
    first = score(DATED, name="a.parquet")
    on(monkeypatch, "2026-02-01")
    again = score(DATED, "--template-date", "2026-01-31", name="b.parquet")
    hashes = [one.manifest["tokenization"]["template_hash"] for one in (first, again)]
    assert hashes[0] == hashes[1]
    assert first.stored["policy_chosen_logps"].tolist() == again.stored["policy_chosen_logps"].tolist()
    assert "12 of 12 sequences" not in messages()


def test_another_date_counts_as_another_template_and_compare_reports_it(
    score: Callable[..., Ledger], program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    on(monkeypatch, "2026-01-31")
    first = score(DATED, name="a.parquet")
    on(monkeypatch, "2026-02-01")
    second = score(DATED, name="b.parquet")
    hashes = {one.manifest["tokenization"]["template_hash"] for one in (first, second)}
    assert len(hashes) == 2
    out = program("compare", "a.parquet", "b.parquet")[1]
    note = "the prompts differ: the chat template wrote the date 2026-01-31 in A, 2026-02-01 in B"
    assert f"   note: {note}." in out.splitlines()


def test_parts_are_scored_with_the_date_of_their_plan(
    score: Callable[..., Ledger], monkeypatch: pytest.MonkeyPatch
) -> None:
    on(monkeypatch, "2026-01-31")
    score(DATED, "--parts", "parts", name="a.parquet")
    on(monkeypatch, "2026-02-01")
    ledger = score(DATED, "--parts", "parts", name="b.parquet")
    assert ledger.manifest["tokenization"]["template_date"] == "2026-01-31"


def test_a_template_without_a_date_records_none(scored: Ledger) -> None:
    assert "template_date" not in scored.manifest["tokenization"]


def test_a_time_that_cannot_be_fixed_causes_a_warning(score: Callable[..., Ledger]) -> None:
    score(TIMED)
    assert "Warning: the chat template writes the time of rendering" in messages()


def test_an_invalid_date_is_refused(program: Program, pairs: Path, models: list[str]) -> None:
    code, _, err = program("score", pairs, *models, "--template-date", "31.1.2026", "-o", "out.parquet")
    assert code == 2
    assert "'31.1.2026' is not a date. Write it like --template-date 2026-01-31." in err
