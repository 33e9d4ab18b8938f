"""What a preference pair is, whatever layout it was read from.

A pair is normalised text: nothing here knows of tokens, models or file formats.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Json: TypeAlias = Any
"""A value that `json.loads` can return."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: str
    content: str
    extra: Mapping[str, Json] = field(default_factory=dict)
    """Further keys that a chat template may read: `tool_calls`, `name`, `tool_call_id`, ..."""

    def to_json(self) -> dict[str, Json]:
        """Return the turn as chat templates take it."""
        return {"role": self.role, "content": self.content, **self.extra}


Text: TypeAlias = str | tuple[Message, ...]
"""Plain text, or the turns of a conversation."""


def text_to_json(text: Text) -> Json:
    """Return plain text as it is and a conversation as a list of message objects."""
    return text if isinstance(text, str) else [message.to_json() for message in text]


def readable(text: Text) -> str:
    """Return text for people: a single assistant turn as its content, other conversations as `[role]` blocks."""
    if isinstance(text, str):
        return text
    if len(text) == 1 and text[0].role == "assistant":
        return text[0].content
    return "\n\n".join(f"[{message.role}]\n{message.content}" for message in text)


@dataclass(frozen=True, slots=True)
class SourceRow:
    """One row as a file holds it, with its place."""

    row: int
    """0-based position among the rows of the source."""
    line: int
    """1-based line of the file where the row begins (row number where a format has no lines)."""
    value: Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that is not a preference pair, and why."""

    row: int
    line: int
    reason: str
    """What is wrong, as a sentence without a full stop."""


@dataclass(frozen=True, slots=True)
class PreferencePair:
    """One prompt with its chosen and its rejected response."""

    row: int
    """0-based position in the source."""
    line: int
    """1-based line (or row number) in the source file, for messages to people."""
    prompt: Text
    chosen: Text
    rejected: Text
    tools: Sequence[Json] | None = None
    """Tool definitions for the chat template."""
    chat_template_kwargs: Mapping[str, Json] | None = None
    """Further variables for the chat template."""
    columns: Mapping[str, Json] = field(default_factory=dict)
    """The data set's other columns, as they were."""
    source: Mapping[str, Json] = field(default_factory=dict)
    """The whole row as it was read, for writing it back."""

    @property
    def content(self) -> dict[str, Json]:
        """`prompt`, `chosen`, `rejected` and, where present, `tools` and `chat_template_kwargs` as JSON values."""
        content: dict[str, Json] = {
            "prompt": text_to_json(self.prompt),
            "chosen": text_to_json(self.chosen),
            "rejected": text_to_json(self.rejected),
        }
        if self.tools:
            content["tools"] = list(self.tools)
        if self.chat_template_kwargs:
            content["chat_template_kwargs"] = dict(self.chat_template_kwargs)
        return content

    @property
    def pair_id(self) -> str:
        """16 hex digits that name the content of the pair; duplicates share them.

        Definition: the first 16 hex digits of the SHA-256 of the UTF-8 JSON text, with sorted keys and no spaces, of
        the content.
        """
        text = json.dumps(self.content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
