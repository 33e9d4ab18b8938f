"""What can be typed in the filter, with examples from the columns and values of a ledger."""

from __future__ import annotations

import re
from dataclasses import dataclass

from prefscope.ledger.column_values import flag_counts, value_counts
from prefscope.report.visible import visible
from prefscope.tui.model.completion import number_of
from prefscope.tui.model.session import Session

_PLAIN = re.compile(r"[\w .,-]{1,24}")


@dataclass(frozen=True, slots=True)
class Example:
    """Something to type, and what it finds."""

    text: str
    meaning: str


def grammar(session: Session) -> dict[str, list[Example]]:
    """Return examples by topic; all are valid for the session's ledger."""
    names = session.view.names
    chosen, rejected = (names.short(f"{side}_num_tokens") for side in ("chosen", "rejected"))
    number = names.short("margins") if session.ledger.has_reference else names.short("policy_chosen_logps")
    topics = {
        "search the texts: prompt, chosen, rejected": [
            Example("python list", "both words, in upper or lower case"),
            Example('"the answer is"', "the exact phrase"),
            Example(r"re:def \w+\(", "a regular expression, to the end"),
        ],
        "compare": [
            Example(f"{number} < 0", "also <= > >= == !="),
            Example(f"-1 < {number} < 1", "between two numbers"),
            Example(f"{chosen} > 1.5 * {rejected}", "with + - * / and abs( )"),
            Example('prompt ~ "python"', "prompt contains it; !~ does not"),
            *_of_values(session),
        ],
        "combine": [
            Example(f"{number} < 0 and not {chosen} > 100", "and, or, not, ( )"),
            Example(f'has("python") and {number} < 0', "a search within an expression"),
            Example(r'matches("pyth.n|java\\b")', "a regular expression"),
        ],
        "pick": [
            *(Example(f"flag({flag})", number_of(count)) for flag, count in flag_counts(session.view).most_common(2)),
            Example("lint(contradictions)", "what prefscope lint finds"),
            Example("mark(drop)", "keep, drop, swap, note or any"),
            Example('mark == "drop" or mark == ""', "the same as a column"),
            *(Example(f"@{name}", visible(text)) for name, text in session.scopes.items()),
        ],
    }
    return {
        topic: [one for one in some if one.text.startswith(('"', "re:", "python list")) or session.is_valid(one.text)]
        for topic, some in topics.items()
    }


def _of_values(session: Session) -> list[Example]:
    """Return examples for the first text column with few plain values."""
    for column in session.ledger.extra_columns:
        values = value_counts(session.view, column) if session.view.names.kinds[column] == "text" else []
        plain = [(value, count) for value, count in values if _PLAIN.fullmatch(value)]
        if len(plain) > 1 and _PLAIN.fullmatch(column):
            name = column if re.fullmatch(r"[^\W\d]\w*", column) else f"`{column}`"
            (first, count), (second, other) = plain[:2]
            return [
                Example(f'{name} == "{first}"', number_of(count)),
                Example(f'{name} in ("{first}", "{second}")', f"{number_of(count + other)}; also not in ( )"),
            ]
    return []
