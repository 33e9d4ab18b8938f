"""The chat template of a run; if it writes the date, that is fixed for the whole run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from prefscope.events import Noted
from prefscope.scoring import models as loading
from prefscope.scoring.template_date import run_date, set_date, templates_of, write_date
from prefscope.settings import TokenizationSettings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ASKS = "strftime_now("
"""The call by which a chat template gets the current time."""


@dataclass(frozen=True, slots=True)
class TemplateInUse:
    """The template that renders conversations."""

    settings: TokenizationSettings
    """The run's settings, with the date written into the chat template, if one was passed."""
    hash: str
    """Hash of the template with its date; empty without a template."""
    undated_hash: str
    date: str
    """The date that the template writes, such as 2026-01-31; empty if it writes none."""
    asks_for_time: bool
    """Whether it uses the time in a way that cannot be fixed."""

    def notes(self) -> Iterator[Noted]:
        """Yield notes on the date in the template."""
        if self.asks_for_time:
            yield Noted("Warning: the chat template writes the time of rendering, so every run gets different tokens.")
        elif self.date and self.settings.template_date is None:
            yield Noted(
                f"The chat template writes the date, {self.date}. To repeat this run on another day, use "
                f"--template-date {self.date}"
            )


def pin_template_date(tokenizer: PreTrainedTokenizerBase, settings: TokenizationSettings) -> TemplateInUse:
    """Fix the date of a run's chat template; this changes the tokenizer's own template.

    Raises:
        UsageError: If the requested date is invalid.
    """
    day = run_date(settings.template_date)
    undated = loading.template_hash(tokenizer, settings.chat_template)
    asks = any(ASKS in text for text in templates_of(tokenizer, settings.chat_template))
    set_date(tokenizer, day)
    given = settings.chat_template
    dated = replace(settings, chat_template=None if given is None else write_date(given, day))
    return TemplateInUse(
        dated,
        loading.template_hash(tokenizer, dated.chat_template),
        undated,
        day.isoformat() if asks else "",
        any(ASKS in text for text in templates_of(tokenizer, dated.chat_template)),
    )
