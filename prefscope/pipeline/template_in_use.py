"""The chat template of a run, with one date in it if it writes the date."""

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
"""How a chat template asks for the time."""


@dataclass(frozen=True, slots=True)
class TemplateInUse:
    """What conversations are rendered with."""

    settings: TokenizationSettings
    """Those of the run, a template that was given with its date."""
    hash: str
    """Of the template with its date; empty without a template."""
    undated_hash: str
    date: str
    """The date that it writes, as 2026-01-31; empty if it writes none."""
    asks_still: bool
    """Whether it writes the time in a way that cannot be fixed."""

    def notes(self) -> Iterator[Noted]:
        """Yield what a person should know of the date."""
        if self.asks_still:
            yield Noted("Warning: the chat template writes the time of rendering, so another run gets other tokens.")
        elif self.date and self.settings.template_date is None:
            yield Noted(
                f"The chat template writes the date, {self.date}. To repeat this run on another day: "
                f"--template-date {self.date}"
            )


def settle_template(tokenizer: PreTrainedTokenizerBase, settings: TokenizationSettings) -> TemplateInUse:
    """Return the template of a run; from now on the tokenizer's own writes one date.

    Raises:
        UsageError: The requested date is not a date.
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
