"""What a preference pair is, whatever layout it was read from.

A pair is normalised text: nothing here knows of tokens, models or file formats.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self, TypeAlias

LONGEST_ROW = 1 << 28
"""Bytes of a row, or characters where it is text: what is longer would fill the memory before it could be judged."""
Json: TypeAlias = Any
"""A value that `json.loads` can return."""


METADATA_KEYS = frozenset(
    {
        *("id", "message_id", "turn_id", "parent_id", "conversation_id", "user_id", "uuid", "hash", "parent", "author"),
        *("index", "position", "turn", "timestamp", "date", "created", "created_at", "create_time", "updated_at"),
        *("score", "scores", "raw_score", "rating", "ratings", "rank", "label", "labels", "is_preferred", "weight"),
        *("lang", "language", "model", "model_name", "source", "url", "meta", "metadata", "annotations", "feedback"),
        *("toxicity", "finish_reason", "usage", "tokens", "num_tokens", "token_count"),
        *("prompt_tokens", "completion_tokens"),
    }
)
"""Keys of a turn that describe it and that no chat template reads."""
REASONING_KEYS = ("reasoning_content", "reasoning", "thinking")
CALL_KEYS = ("tool_calls", "function_call")


class NotText(str):
    """The JSON form of a stored value that is no text: shown and carried along, never scored."""

    __slots__ = ("kind",)

    def __new__(cls, text: str, kind: str) -> Self:
        """Return `text`, which stands for a value of some kind, such as `a date`."""
        value = super().__new__(cls, text)
        value.kind = kind
        return value

    kind: str

    def __reduce__(self) -> tuple[object, ...]:
        return NotText, (str(self), self.kind)


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: str
    content: str | None
    """None where the row has null, or no content at all beside what `extra` holds."""
    extra: Mapping[str, Json] = field(default_factory=dict)
    """Further keys that a chat template may read: `tool_calls`, `name`, `tool_call_id`, ..."""
    lacks_content: bool = False
    """Whether the row has no `content` key, which a chat template can distinguish from null."""

    def to_json(self) -> dict[str, Json]:
        """Return the turn as chat templates take it, null and absent keys as the row has them."""
        content = {} if self.lacks_content else {"content": self.content}
        return {"role": self.role, **content, **self.extra}

    def identity(self) -> dict[str, Json]:
        """Return what names the turn: `to_json` without null keys, which Arrow gives to turns of one list."""
        extra = {key: item for key, item in self.extra.items() if item is not None}
        content = {} if self.lacks_content else {"content": self.content}
        return {"role": self.role, **content, **extra}

    def said(self) -> dict[str, Json]:
        """Return what the turn says: its identity without ids, scores and other metadata."""
        said = self.identity() | {"content": self.content or ""}
        return {key: item for key, item in said.items() if key not in METADATA_KEYS}

    @property
    def is_blank(self) -> bool:
        """Whether the turn holds nothing but white space, null keys and metadata."""
        return not (self.content or "").strip() and len(self.said()) == len(("role", "content"))

    @property
    def is_plain(self) -> bool:
        """Whether role and text content are all there is."""
        return self.content is not None and self.identity() == {"role": self.role, "content": self.content}

    def readable(self) -> str:
        """Return the turn for people: its reasoning, its content and its tool calls."""
        reasoning = [f"[reasoning]\n{_plain(self.extra[key])}" for key in REASONING_KEYS if self.extra.get(key)]
        content = [self.content] if self.content else []
        calls = [line for key in CALL_KEYS if self.extra.get(key) for line in _readable_calls(self.extra[key])]
        return "\n\n".join([*reasoning, *content, *calls])


def _plain(value: Json) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _readable_calls(calls: Json) -> list[str]:
    return [f"[tool call] {_readable_call(call)}" for call in (calls if isinstance(calls, list) else [calls])]


def _readable_call(call: Json) -> str:
    function = call.get("function") or call if isinstance(call, dict) else call
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        return _plain(call)
    return f"{function['name']} {_plain(function.get('arguments', {}))}"


Text: TypeAlias = str | tuple[Message, ...]
"""Plain text, or the turns of a conversation."""


def says_nothing(response: Text) -> bool:
    """Return whether a response holds nothing but white space."""
    if isinstance(response, str):
        return not response.strip()
    return all(message.is_blank for message in response)


def has_other_turns(response: Text) -> bool:
    """Return whether a response holds turns that are not the assistant's."""
    return not isinstance(response, str) and any(message.role != "assistant" for message in response)


def text_to_json(text: Text) -> Json:
    """Return plain text as it is and a conversation as a list of message objects."""
    return text if isinstance(text, str) else [message.to_json() for message in text]


def readable(text: Text) -> str:
    """Return text for people: a single assistant turn as its content, other conversations as `[role]` blocks."""
    if isinstance(text, str):
        return text
    if len(text) == 1 and text[0].role == "assistant":
        return text[0].readable()
    return "\n\n".join(f"[{message.role}]\n{message.readable()}" for message in text)


def identity(text: Text) -> Json:
    """Return what names a text in `pair_id`."""
    return text if isinstance(text, str) else [message.identity() for message in text]


@dataclass(frozen=True, slots=True)
class SourceRow:
    """One row as a file holds it, with its place."""

    row: int
    """0-based position among the rows of the source."""
    line: int
    """1-based line of the file where the row begins (row number where a format has no lines)."""
    value: Mapping[str, Json]
    file: str = ""
    """The file, where the source has several."""
    remarks: tuple[str, ...] = ()
    """What was doubtful in reading the row, as sentences without a full stop."""


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that is not a preference pair, and why."""

    row: int
    line: int
    reason: str
    """What is wrong, as a sentence without a full stop."""
    file: str = ""
    """The file, where the source has several."""


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
    file: str = ""
    """The source file, where the data set has several."""
    remarks: tuple[str, ...] = ()
    """What was doubtful in reading the row, as sentences without a full stop."""

    @property
    def place(self) -> str:
        """Where the pair is, for messages: `line 3`, or with its file where there are several."""
        return f"{self.file}:{self.line}" if self.file else f"line {self.line}"

    @property
    def content(self) -> dict[str, Json]:
        """`prompt`, `chosen`, `rejected` and, where present, `tools` and `chat_template_kwargs` as JSON values."""
        content: dict[str, Json] = {
            "prompt": identity(self.prompt),
            "chosen": identity(self.chosen),
            "rejected": identity(self.rejected),
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
