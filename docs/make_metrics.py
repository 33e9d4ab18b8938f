"""Regenerates the tables of metrics.md from declarations in the program: `python docs/make_metrics.py`.

The text between `<!-- made: NAME -->` and `<!-- end -->` is the result of `TABLES[NAME]`. The rest of the page is
written by hand; tests/hygiene/test_metrics_page.py compares both with the program.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import textwrap
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from prefscope.data.checks import lint as _lint  # noqa: F401 (registers the checks)
from prefscope.data.checks.check import CHECKS as LINT_CHECKS
from prefscope.events import Planned
from prefscope.flags import FLAGS
from prefscope.ledger.columns import (
    ALTERNATIVES,
    COLLISIONS,
    DERIVED,
    DIVERGENCES,
    MARKED,
    RANKS,
    STORED,
    TAILS,
    TEXTS,
    TOKEN_DIVERGENCES,
    TOKENS,
    Column,
)
from prefscope.pipeline.doctor import checks as _checks  # noqa: F401 (registers the doctor's checks)
from prefscope.pipeline.doctor.verdict import CHECKS as DOCTOR_CHECKS
from prefscope.preference import losses as _losses  # noqa: F401 (registers the losses)
from prefscope.preference.diagnostics import DIAGNOSTICS, Subset
from prefscope.preference.diagnostics.diagnostic import Diagnostic
from prefscope.preference.diagnostics.trajectories import COURSES, Trajectories
from prefscope.preference.registry import ALIASES, UNAVAILABLE, Loss, Parameter, listed_losses
from prefscope.preference.symbols import SYMBOLS
from prefscope.report.alarms import RULES
from prefscope.report.comparison import QUADRANTS, Paired
from prefscope.report.summary import Summary
from prefscope.report.training import StepFigures
from prefscope.scoring.profiles import PROFILES

PAGE = Path(__file__).with_name("metrics.md")
MADE = re.compile(r"(?<=<!-- made: )(.+?)( -->\n).*?(?=<!-- end -->)", re.DOTALL)


def filled(page: str) -> str:
    """Return the page with current tables.

    Raises:
        KeyError: A name has no table.
    """
    return MADE.sub(lambda found: f"{found[1]}{found[2]}\n{TABLES[found[1]]()}\n", page)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in GitHub's Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def code(*texts: str) -> str:
    """Return texts formatted as code."""
    return ", ".join(f"`{text}`" for text in texts)


def columns(some: Iterable[Column]) -> str:
    """Return a table of columns."""
    return table(
        ("column", "what it is", "unit", "short name"),
        ((code(one.name), one.meaning, one.unit, code(one.alias) if one.alias else "") for one in some),
    )


def fields(kind: type) -> str:
    """Return tables of a dataclass's fields and their docstrings, including nested dataclasses."""
    found: dict[type, str] = {kind: ""}
    for outer in (waiting := [kind]):
        for name, hint in typing.get_type_hints(outer).items():
            for inner in _parts(hint):
                if isinstance(inner, type) and dataclasses.is_dataclass(inner) and inner not in found:
                    found[inner] = f"\nIn {code(name)}:\n\n"
                    waiting.append(inner)
    return "".join(title + table(("name", "what it is"), _fields(one)) for one, title in found.items())


def _fields(kind: type) -> Iterator[tuple[str, str]]:
    """Yield the fields of a dataclass, grouped with the docstring below them."""
    definition = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    names: list[str] = []
    for statement in typing.cast("ast.ClassDef", definition).body:
        match statement:
            case ast.AnnAssign(target=ast.Name(id=name)):
                names.append(name)
            case ast.Expr(value=ast.Constant(value=str(text))) if names:
                yield code(*names), " ".join(text.split())
                names = []
    if names:
        raise ValueError(f"{kind.__name__}: no docstring for {', '.join(names)}")


def _parts(hint: typing.Any) -> Iterator[typing.Any]:
    """Yield a type and its type arguments, recursively."""
    yield hint
    for argument in typing.get_args(hint):
        yield from _parts(argument)


def symbols() -> str:
    """Return the symbols of formulas and the columns they stand for."""
    return table(("symbol", "columns"), ((code(name), " − ".join(map(code, some))) for name, some in SYMBOLS.items()))


def alarms() -> str:
    """Return the alarms with their rules."""
    return table(("alarm", "given if"), ((code(rule.name), rule.words) for rule in RULES))


def flags() -> str:
    """Return the flags with their letters and meanings."""
    return table(
        ("flag", "letter", "what it means"), ((code(one.name), one.letter, one.meaning) for one in FLAGS.values())
    )


def loss_index() -> str:
    """Return a table of all losses."""
    return table(
        ("loss", "title", "reference", "over all pairs"),
        (
            (f"[`{one.name}`](#{one.name})", one.title, "yes" if one.needs_reference else "no", one.population)
            for one in listed_losses()
        ),
    )


def loss_sections() -> str:
    """Return a section for every loss."""
    return "\n".join(map(_loss_section, listed_losses()))


def _loss_section(loss: Loss) -> str:
    facts = [
        f"Takes {loss.convention}.",
        *(["Reads no reference."] if not loss.needs_reference else []),
        *(
            [f"Over all pairs of the ledger: {loss.population}. A trainer takes it over a batch."]
            * bool(loss.population)
        ),
        *(map(_parameter, loss.parameters)),
        *(f"{code(name)}: alternative spelling of one of these." for name in loss.spellings),
        *_target(loss),
        f"Source: {loss.source}.",
    ]
    listed = "".join(f"- {fact}\n" for fact in facts)
    return f"#### {loss.name}\n\n{_capital(loss.title)}.\n\n```text\n{loss.formula}\n```\n\n{listed}"


def _parameter(knob: Parameter) -> str:
    return f"{code(knob.name)} = {knob.default:g}, from {knob.low:g} to {knob.high:g}: {knob.meaning}."


def _target(loss: Loss) -> Iterator[str]:
    if loss.target_gap is not None:
        gap, unit = loss.target_gap(loss.resolve({}))
        yield f"It is 0 at a gap of {gap:g} {unit} with these parameters."


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def aliases() -> str:
    """Return the names that other stacks use for losses."""
    losses = {
        name: ":".join(filter(None, (loss, ",".join(f"{key}={value:g}" for key, value in parameters.items()))))
        for name, (loss, parameters) in ALIASES.items()
    }
    return table(("name", "is"), ((code(name), code(loss)) for name, loss in losses.items()))


def diagnostics() -> str:
    """Return a section for every diagnostic."""
    return "\n".join(map(_diagnostic, DIAGNOSTICS.values()))


def _diagnostic(one: Diagnostic) -> str:
    facts = {
        "Reads": code(*one.inputs),
        "Rule": one.rule,
        "Thresholds": one.basis,
        "Source": one.source,
        "Papers disagree": one.dispute,
    }
    listed = "".join(f"- {name}: {text}.\n" for name, text in facts.items() if text)
    figures = fields(typing.get_type_hints(one.measure)["return"])
    return f"### {one.title}\n\n{code(one.name)} in JSON.\n\n```text\n{one.formula}\n```\n\n{listed}\n{figures}"


def profiles() -> str:
    """Return the rules of every profile except the default."""
    return table(
        ("profile", "stack", "rules", "max tokens", "max prompt tokens"),
        (
            (code(one.name), one.stack, one.rules, f"{one.max_length:,}", f"{one.max_prompt_length:,}")
            for one in PROFILES.values()
        ),
    )


def lint_checks() -> str:
    """Return the rules of `prefscope lint`."""
    rows = ((code(one.name), one.severity, one.meaning, one.rule) for one in LINT_CHECKS.values())
    return table(("check", "severity", "what it finds", "threshold"), rows)


def doctor_checks() -> str:
    """Return the rules of `prefscope doctor`."""
    return table(("check", "rule"), ((code(name), one.rule) for name, one in DOCTOR_CHECKS.items()))


def named(some: Iterable[tuple[str, str]], header: Sequence[str]) -> str:
    """Return a table of names and their meanings."""
    return table(header, ((code(name), meaning) for name, meaning in some))


TABLES: Mapping[str, Callable[[], str]] = {
    "symbols": symbols,
    "stored columns": lambda: columns(STORED),
    "mark columns": lambda: columns(MARKED),
    "text columns": lambda: columns(TEXTS),
    "token columns": lambda: columns(TOKENS),
    "columns of losses": lambda: columns((*TAILS, *COLLISIONS)),
    "columns of divergences": lambda: columns((*DIVERGENCES, *TOKEN_DIVERGENCES)),
    "columns of alternatives": lambda: columns(ALTERNATIVES),
    "rank columns": lambda: columns(RANKS),
    "derived columns": lambda: columns(one for one in DERIVED.values() if one.exported),
    "diagnosed columns": lambda: columns(one for one in DERIVED.values() if not one.exported),
    "flags": flags,
    "loss index": loss_index,
    "losses": loss_sections,
    "aliases": aliases,
    "unavailable": lambda: named(UNAVAILABLE.items(), ("loss", "why not")),
    "summary": lambda: fields(Summary),
    "diagnostics": diagnostics,
    "subsets": lambda: fields(Subset),
    "paired": lambda: fields(Paired),
    "quadrants": lambda: named(QUADRANTS.items(), ("name", "shown as")),
    "trajectories": lambda: fields(Trajectories),
    "steps": lambda: fields(StepFigures),
    "alarms": alarms,
    "courses": lambda: named(COURSES.items(), ("course", "what became of the pair")),
    "profiles": profiles,
    "lint": lint_checks,
    "doctor": doctor_checks,
    "plan": lambda: fields(Planned),
}
"""The function that generates each table."""

if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
