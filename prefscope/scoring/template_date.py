"""The date that a chat template writes: one for a whole run, in the template's text, and so in its hash.

transformers gives templates `strftime_now(format)`. Rendered as it is, the same pair has other tokens on another day.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

from transformers import PreTrainedTokenizerBase

from prefscope.errors import UsageError

_CALL = re.compile(r"""strftime_now\(\s*(?P<quote>["'])(?P<format>(?:\\.|(?!(?P=quote)).)*)(?P=quote)\s*\)""")


def run_date(asked: str | None) -> dt.date:
    """Return the date of a run: the one asked for, or today's.

    Raises:
        UsageError: It is no date.
    """
    if asked is None:
        return dt.datetime.now().astimezone().date()
    try:
        return dt.date.fromisoformat(asked)
    except ValueError as error:
        raise UsageError(f"{asked!r} is no date", hint="Write --template-date 2026-01-31.") from error


def write_date(template: str, date: dt.date) -> str:
    """Return a template with a date in place of its calls for today's.

    >>> write_date("{{ strftime_now('%d %b %Y') }}", dt.date(2026, 1, 31))
    "{{ '31 Jan 2026' }}"
    """
    midnight = dt.datetime.combine(date, dt.time())
    return _CALL.sub(lambda call: f"{call['quote']}{midnight.strftime(call['format'])}{call['quote']}", template)


def templates_of(tokenizer: PreTrainedTokenizerBase, chat_template: str | None) -> list[str]:
    """Return the templates that a run may use: the given one, or the tokenizer's, which may be several."""
    found: Any = chat_template if chat_template is not None else tokenizer.chat_template
    return [*found.values()] if isinstance(found, dict) else [found] if found else []


def set_date(tokenizer: PreTrainedTokenizerBase, date: dt.date) -> None:
    """Let the tokenizer's own templates write a date."""
    found: Any = tokenizer.chat_template
    if isinstance(found, dict):
        tokenizer.chat_template = {name: write_date(text, date) for name, text in found.items()}
    elif found:
        tokenizer.chat_template = write_date(found, date)
