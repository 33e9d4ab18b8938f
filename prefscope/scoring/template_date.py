"""Fixes the date that a chat template writes for a whole run; it becomes part of the template's text and hash.

transformers provides `strftime_now(format)` to templates. Without a fixed date, a pair has different tokens each day.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

from transformers import PreTrainedTokenizerBase

from prefscope.errors import UsageError

_CALL = re.compile(r"""strftime_now\(\s*(?P<quote>["'])(?P<format>(?:\\.|(?!(?P=quote)).)*)(?P=quote)\s*\)""")


def run_date(asked: str | None) -> dt.date:
    """Return the date of a run: the requested one, or today's.

    Raises:
        UsageError: If the requested date is invalid.
    """
    if asked is None:
        return dt.datetime.now().astimezone().date()
    try:
        return dt.date.fromisoformat(asked)
    except ValueError as error:
        raise UsageError(f"{asked!r} is not a date", hint="Write it like --template-date 2026-01-31.") from error


def write_date(template: str, date: dt.date) -> str:
    """Replace a template's calls of `strftime_now` by a date.

    >>> write_date("{{ strftime_now('%d %b %Y') }}", dt.date(2026, 1, 31))
    "{{ '31 Jan 2026' }}"
    """
    midnight = dt.datetime.combine(date, dt.time())
    return _CALL.sub(lambda call: f"{call['quote']}{midnight.strftime(call['format'])}{call['quote']}", template)


def templates_of(tokenizer: PreTrainedTokenizerBase, chat_template: str | None) -> list[str]:
    """Return the templates that a run may use: the one passed, or the tokenizer's, which may have several."""
    found: Any = chat_template if chat_template is not None else tokenizer.chat_template
    return [*found.values()] if isinstance(found, dict) else [found] if found else []


def set_date(tokenizer: PreTrainedTokenizerBase, date: dt.date) -> None:
    """Write a date into the tokenizer's own templates."""
    found: Any = tokenizer.chat_template
    if isinstance(found, dict):
        tokenizer.chat_template = {name: write_date(text, date) for name, text in found.items()}
    elif found:
        tokenizer.chat_template = write_date(found, date)
