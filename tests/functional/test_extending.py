"""A flag or a column is added with one record: everything that lists them reads the registry."""

from __future__ import annotations

import csv
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prefscope.flags import FLAGS, Flag
from prefscope.ledger.columns import DERIVED, NUM_TOKENS, Column
from prefscope.ledger.table import load_ledger
from prefscope.ledger.view import View
from prefscope.settings import PreferenceSettings
from prefscope.tui.model.health_rows import flag_rows
from prefscope.tui.model.session import Session
from prefscope.tui.widgets.pair_columns import flag_letters, offered

Program = Callable[..., tuple[int, str, str]]
METRICS = Path(__file__).parents[2] / "docs" / "make_metrics.py"


def metrics_tables() -> dict[str, Callable[[], str]]:
    """Return the functions that make the tables of docs/metrics.md."""
    spec = importlib.util.spec_from_file_location("make_metrics", METRICS)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    tables: dict[str, Callable[[], str]] = module.TABLES
    return tables


def read_csv(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file."""
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_flag_is_added_with_one_record(
    program: Program, pairs: Path, models: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    flag = Flag("uneven", "V", "one response is longer", lambda found: found.num_scored[0] != found.num_scored[1])
    monkeypatch.setitem(FLAGS, flag.name, flag)
    code, report, _ = program("score", str(pairs), *models, "-o", "run.parquet", "-o", "run.csv")
    assert code == 0
    ledger = load_ledger("run.parquet")
    view = View(ledger, PreferenceSettings())
    uneven = view.filter("flag(uneven)")
    assert uneven.tolist() == [c != r for c, r in zip(*(ledger.stored[name] for name in NUM_TOKENS), strict=True)]
    assert 0 < uneven.sum() < len(uneven)
    assert ["uneven" in row["flags"].split(";") for row in read_csv(Path("run.csv"))] == uneven.tolist()
    assert "one response is longer" in report
    assert flag_letters("uneven") == "V"
    assert [row.meaning for row in flag_rows(view, clean=False) if row.name == "uneven"] == ["one response is longer"]
    assert "| `uneven` | V | one response is longer |" in metrics_tables()["flags"]()


def test_a_column_is_added_with_one_record(
    program: Program, pairs: Path, models: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def gap(of: Callable[[str], Any], beta: float) -> Any:
        return beta * (of("chosen_num_tokens") - of("rejected_num_tokens"))

    column = Column("length_gap", "number", "beta × difference in tokens", "beta·tokens", "gap", compute=gap)
    monkeypatch.setitem(DERIVED, column.name, column)
    assert program("score", str(pairs), *models, "-o", "run.parquet", "-o", "run.csv", "--beta", "0.5")[0] == 0
    ledger = load_ledger("run.parquet")
    expected = (0.5 * (ledger.stored[NUM_TOKENS[0]] - ledger.stored[NUM_TOKENS[1]])).tolist()
    assert [float(row["length_gap"]) for row in read_csv(Path("run.csv"))] == expected
    view = View(ledger, PreferenceSettings(beta=0.5))
    assert view.column("length_gap").tolist() == expected
    assert view.filter("gap > 0").tolist() == [value > 0 for value in expected]
    assert ledger.to_pandas(beta=0.5)["length_gap"].tolist() == expected
    assert "length_gap" in [one.name for one in offered(Session(ledger, PreferenceSettings()))]
    code, report, _ = program("report", "run.parquet", "--by", "length_gap")
    assert (code, "length_gap" in report) == (0, True)
    assert (
        "| `length_gap` | beta × difference in tokens | beta·tokens | `gap` |" in metrics_tables()["derived columns"]()
    )
