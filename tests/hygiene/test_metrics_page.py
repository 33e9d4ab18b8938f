"""docs/metrics.md and the program agree: everything named in one exists in the other."""

from __future__ import annotations

import importlib.util
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

import pytest

from prefscope.data.checks import lint as _lint  # noqa: F401 (registers the checks)
from prefscope.data.checks.check import CHECKS as LINT_CHECKS
from prefscope.flags import FLAGS
from prefscope.ledger.columns import ALTERNATIVES, COLLISIONS, DERIVED, RANKS, STORED, TAILS, TEXTS, TOKENS
from prefscope.ledger.pairing import PairedView, Pairing
from prefscope.ledger.table import Ledger, load_ledger
from prefscope.ledger.view import View, names_of
from prefscope.pipeline.doctor import checks as _checks  # noqa: F401 (registers the doctor's checks)
from prefscope.pipeline.doctor.verdict import CHECKS as DOCTOR_CHECKS
from prefscope.preference.diagnostics import DIAGNOSTICS
from prefscope.preference.diagnostics.trajectories import COURSES
from prefscope.preference.registry import ALIASES, LOSSES, parse_choice
from prefscope.report.cards import cards
from prefscope.report.compare_sections import comparison_sections
from prefscope.report.comparison import QUADRANTS, compare
from prefscope.report.sections import Table
from prefscope.report.summary import summarise
from prefscope.scoring.profiles import PROFILES
from prefscope.settings import LossChoice, PreferenceSettings

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "metrics.md").read_text(encoding="utf-8")
DPO = PreferenceSettings(losses=(LossChoice("dpo"),))
SPANS = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
Program: TypeAlias = Callable[..., tuple[int, str, str]]
LISTED: Mapping[str, Iterable[str]] = {
    "stored columns": [column.name for column in STORED],
    "text columns": [column.name for column in TEXTS],
    "token columns": [column.name for column in TOKENS],
    "columns of losses": [column.name for column in (*TAILS, *COLLISIONS)],
    "columns of alternatives": [column.name for column in ALTERNATIVES],
    "rank columns": [column.name for column in RANKS],
    "derived columns": [column.name for column in DERIVED.values() if column.exported],
    "diagnosed columns": [column.name for column in DERIVED.values() if not column.exported],
    "flags": FLAGS,
    "loss index": LOSSES,
    "aliases": ALIASES,
    "quadrants": QUADRANTS,
    "courses": COURSES,
    "profiles": PROFILES,
    "lint": LINT_CHECKS,
    "doctor": DOCTOR_CHECKS,
}


def table_after(heading: str, nth: int = 0) -> list[list[str]]:
    """Return the cells of a table under a heading, or after a comment, without its header."""
    assert f"{heading}\n" in PAGE
    rest = PAGE.split(f"{heading}\n", 1)[1]
    found = re.findall(r"(?:^\|.*\n)+", rest, re.MULTILINE)[nth]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in found.splitlines()[2:]]


def spans(cells: Iterable[str]) -> list[str]:
    """Return everything formatted as code."""
    return [name for cell in cells for name in SPANS.findall(cell)]


def sections(block: str, level: str) -> dict[str, str]:
    """Return the text under each heading of a generated block."""
    made = PAGE.split(f"<!-- made: {block} -->\n", 1)[1].split("<!-- end -->", 1)[0]
    parts = re.split(rf"^{level} (.+)\n", made, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def formula_of(section: str) -> str:
    """Return the content of a section's code block."""
    return section.split("```text\n", 1)[1].split("\n```", 1)[0]


def numbers_in(value: Any, name: str) -> Iterator[str]:
    """Yield the names of numbers in JSON, without those about what was scored and how."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from () if key == "manifest" else numbers_in(inner, key)
    elif isinstance(value, list):
        for inner in value:
            yield from numbers_in(inner, name)
    elif value is None or isinstance(value, float) or type(value) is int:
        yield name


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_metrics", DOCS / "make_metrics.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def demo(samples: Path) -> Ledger:
    return load_ledger(samples / "demo.parquet")


def test_the_tables_match_the_output_of_the_script(script: ModuleType) -> None:
    assert script.filled(PAGE) == PAGE, "run python docs/make_metrics.py"


def test_every_table_of_the_script_is_on_the_page_once(script: ModuleType) -> None:
    assert Counter(re.findall(r"<!-- made: (.+) -->", PAGE)) == Counter(script.TABLES.keys())


@pytest.mark.parametrize("block", LISTED)
def test_a_table_lists_exactly_what_the_program_declares(block: str) -> None:
    named = spans(row[0] for row in table_after(f"<!-- made: {block} -->"))
    assert Counter(named) == Counter(list(LISTED[block]))


def test_exactly_the_losses_have_formulas() -> None:
    assert {name: formula_of(text) for name, text in sections("losses", "####").items()} == {
        name: loss.formula for name, loss in LOSSES.items()
    }


def test_every_parameter_of_a_loss_has_its_default_and_range() -> None:
    known = re.compile(r"^- `(\w+)` = (\S+), from (\S+) to (\S+): (.+)\.$", re.MULTILINE)
    assert {name: known.findall(text) for name, text in sections("losses", "####").items()} == {
        name: [(p.name, f"{p.default:g}", f"{p.low:g}", f"{p.high:g}", p.meaning) for p in loss.parameters]
        for name, loss in LOSSES.items()
    }


def test_exactly_the_diagnostics_have_formulas() -> None:
    assert {title: formula_of(text) for title, text in sections("diagnostics", "###").items()} == {
        one.title: one.formula for one in DIAGNOSTICS.values()
    }


def test_losses_over_all_pairs_are_marked() -> None:
    told = PAGE.split("- **Losses over all pairs** (", 1)[1].split(")", 1)[0]
    assert {*SPANS.findall(told)} == {name for name, loss in LOSSES.items() if loss.population}


def test_the_names_of_another_trainer_lead_to_losses() -> None:
    named = spans(row[2] for row in table_after("### The loss by another name"))
    assert len(named) > 30
    for text in named:
        parse_choice(text)


def test_the_metrics_match_the_summary(demo: Ledger) -> None:
    told = spans(row[0] for row in table_after("## Summary"))
    assert {*told} == summarise(demo, DPO).to_json()["metrics"].keys()


@pytest.mark.parametrize(("nth", "loss"), [(0, "dpo"), (1, "simpo")], ids=["with a reference", "without one"])
def test_the_cards_match_the_overview(demo: Ledger, nth: int, loss: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(demo.manifest, "has_reference", loss == "dpo")
    shown = [card.title for card in cards(View(demo, PreferenceSettings(losses=(LossChoice(loss),))))]
    assert spans(row[0] for row in table_after("### Overview", nth)) == shown


def test_the_rows_of_a_comparison_match_compare(demo: Ledger) -> None:
    view = PairedView(demo, DPO, None, demo, Pairing(demo, demo))
    differences = comparison_sections(view, compare(view))[0]
    assert isinstance(differences, Table)
    assert spans(row[0] for row in table_after("## Comparison")) == [row[0] for row in differences.rows]


@pytest.mark.parametrize(
    "command",
    [
        ("report", "demo.parquet", "--by", "category"),
        ("compare", "demo-early.parquet", "demo.parquet"),
        ("lint", "pairs.jsonl"),
    ],
    ids=lambda command: command[0],
)
def test_every_number_in_json_is_on_the_page(command: tuple[str, ...], samples: Path, program: Program) -> None:
    name, *ledgers = command
    arguments = [samples / one if (samples / one).exists() else one for one in ledgers]
    _, shown, _ = program(name, *arguments, "--json")
    told = {part for span in SPANS.findall(PAGE) for part in (span, *span.split("."))}
    assert {*numbers_in(json.loads(shown), "")} - told == set()


def test_names_formatted_as_columns_are_columns(demo: Ledger) -> None:
    like = re.compile(
        r"\w+_(?:logps|logratios|rewards|num_tokens|tokens|loss|weight|posterior|margins)|margins|outcome"
    )
    spelled = {name for name in SPANS.findall(PAGE) if like.fullmatch(name)}
    others = (
        {column.name for column in (*TOKENS, *TAILS, *COLLISIONS, *ALTERNATIVES)}
        | DOCTOR_CHECKS.keys()
        | {"batch_tokens"}
    )
    assert spelled - names_of(demo).kinds.keys() - others == set()


def test_every_internal_link_has_a_heading() -> None:
    headings = re.findall(r"^#+ (.+)$", PAGE, re.MULTILINE)
    anchors = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
    assert {*re.findall(r"\]\(#([^)]+)\)", PAGE)} <= {*anchors}
