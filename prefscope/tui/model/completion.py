"""What can be typed next in the filter: columns, functions, values and scopes, with what they are or how many."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from prefscope.ledger.column_values import flag_counts, value_counts
from prefscope.ledger.columns import MARKED, all_columns
from prefscope.ledger.filter_functions import CHOICES, FUNCTIONS
from prefscope.ledger.names import Names
from prefscope.report.visible import visible
from prefscope.tui.model.session import Session

FUNCTION_MEANINGS: Mapping[str, str] = {
    "abs": "absolute value of a number",
    "flag": "pairs with a flag",
    "has": "prompt, chosen or rejected contains a text",
    "lint": "pairs that a lint check finds",
    "mark": "pairs that you marked",
    "matches": "prompt, chosen or rejected matches a pattern",
}
KINDS: Mapping[str, str] = {"number": "number", "text": "text", "truth": "condition"}
_MEANINGS = {column.name: column.meaning for column in (*all_columns(), *MARKED)}
_WORD = re.compile(r"(?<![@\w])\w*\Z")
_PLAIN = re.compile(r"[^\W\d]\w*")
_CALL = re.compile(r"\b(\w+)\(\s*(\w*)\Z")
_SCOPE = re.compile(r"(?:^|[\s(!])@(\w*)\Z")
_VALUE = re.compile(
    r"""(?:`(?P<quoted>[^`]+)`|(?P<name>[^\W\d]\w*))\s*
        (?:==|=|!=|<>|!?~|\b(?:not\s+)?in\s*\((?:[^()]*,)?)\s*
        (?P<typed>"?(?P<value>[^"(),<>=~]*))\Z""",
    re.VERBOSE | re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A completion."""

    text: str
    """What replaces the stem."""
    stem: int
    """Number of characters before the cursor that it replaces."""
    detail: str = ""
    """What it is, or the number of its pairs."""


def candidates(before: str, session: Session) -> list[Candidate]:
    """Return the completions of the text before the cursor, the most likely first."""
    if (scope := _SCOPE.search(before)) is not None:
        found = session.scopes.items()
        return [Candidate(f"@{name}", len(scope[1]) + 1, text) for name, text in found if name.startswith(scope[1])]
    call = _CALL.search(before)
    if call and call[1] in CHOICES:
        counts = _choice_counts(session, call[1])
        choices = [choice for choice in CHOICES[call[1]] if choice.startswith(call[2])]
        choices.sort(key=lambda choice: -counts.get(choice, 0))
        return [
            Candidate(f"{choice})", len(call[2]), number_of(counts[choice]) if choice in counts else "")
            for choice in choices
        ]
    if (value := _VALUE.search(before)) is not None and (found_values := [*_values(value, session)]):
        return found_values
    word = _WORD.search(before)
    stem = word[0] if word else ""
    return [Candidate(name, len(stem), _detail(name, session)) for name in completions(stem, session.view.names)]


def completions(stem: str, names: Names) -> list[str]:
    """Return the columns, their aliases and the functions that begin with a stem; none for an empty one."""
    if not stem:
        return []
    known = [name for name in (*names.usable_aliases, *names.kinds) if visible(name) == name and "`" not in name]
    found = [name for name in known if name.casefold().startswith(stem.casefold())]
    spelled = [name if _PLAIN.fullmatch(name) else f"`{name}`" for name in dict.fromkeys(found)]
    return spelled + [f"{function}(" for function in FUNCTIONS if function.startswith(stem)]


def _values(found: re.Match[str], session: Session) -> Iterator[Candidate]:
    """Yield the values of the column before the cursor that begin as typed; if there are none, those that have it."""
    names = session.view.names
    column = names.full(found["quoted"] or found["name"])
    if column is None:
        return
    typed = found["value"].casefold()
    counts = value_counts(session.view, column)
    begin = [(value, count) for value, count in counts if value.casefold().startswith(typed)]
    for value, count in begin or [one for one in counts if typed in one[0].casefold()]:
        if visible(value) == value:
            written = re.sub(r'(["\\])', r"\\\1", value)
            yield Candidate(f'"{written}"', len(found["typed"]), number_of(count))


def _choice_counts(session: Session, function: str) -> Mapping[str, int]:
    if function == "flag":
        counts = flag_counts(session.view)
        return {flag: counts[flag] for flag in CHOICES["flag"]}
    if function == "mark":
        return {kind: int(session.view.marked(kind).sum()) for kind in CHOICES["mark"]}
    return {}


def number_of(count: int) -> str:
    """Return a number of pairs in words."""
    return f"{count:,} pair{'' if count == 1 else 's'}"


def _detail(name: str, session: Session) -> str:
    """Return what a function does, or the kind of a column and what it is."""
    if name.endswith("("):
        return FUNCTION_MEANINGS[name.removesuffix("(")]
    names = session.view.names
    full = names.full(name.strip("`"))
    if full is None:
        return ""
    own = "from the data set" if full in session.ledger.extra_columns else ""
    return f"{KINDS[names.kinds[full]]:<10}{own or _MEANINGS.get(full, '')}"


def replaced(before: str, candidate: Candidate) -> str:
    """Return the text before the cursor with a completion."""
    return before[: len(before) - candidate.stem] + candidate.text


def is_finished(before: str, found: Sequence[Candidate]) -> bool:
    """Return whether the text is the only completion already."""
    return len(found) == 1 and replaced(before, found[0]) == before
