"""Preference pairs and source rows, independent of the layout they were read from.

A pair is normalised text: nothing here depends on tokens, models or file formats.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self, TypeAlias

LONGEST_ROW = 1 << 28
"""Maximum length of a row, in bytes or, for text, in characters; longer rows could fill the memory."""
DEEPEST_ROW = 256
"""Maximum nesting depth of a row, which keeps recursive functions within Python's recursion limit."""
Json: TypeAlias = Any
"""Any value that `json.loads` can return."""


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
"""Keys with metadata of a turn, which chat templates do not read."""
REASONING_KEYS = ("reasoning_content", "reasoning", "thinking")
CALL_KEYS = ("tool_calls", "function_call")


class NotText(str):
    """The JSON form of a stored value that is not text, such as a date: shown and kept, but never scored."""

    __slots__ = ("kind",)

    def __new__(cls, text: str, kind: str) -> Self:
        """Wrap `text`, the written form of a value of some kind, such as `a date`."""
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
    """None if the content is null, or absent beside the keys in `extra`."""
    extra: Mapping[str, Json] = field(default_factory=dict)
    """Further keys that a chat template may read: `tool_calls`, `name`, `tool_call_id`, ..."""
    omits_content: bool = False
    """Whether the `content` key is absent, which a chat template can distinguish from null."""

    def to_json(self) -> dict[str, Json]:
        """Return the turn as passed to chat templates, with null and absent keys as in the row."""
        content = {} if self.omits_content else {"content": self.content}
        return {"role": self.role, **content, **self.extra}

    def identity(self) -> dict[str, Json]:
        """Return the turn without null keys, which Arrow adds to turns of the same list; used for `pair_id`."""
        extra = {key: item for key, item in self.extra.items() if item is not None}
        content = {} if self.omits_content else {"content": self.content}
        return {"role": self.role, **content, **extra}

    def comparable(self) -> dict[str, Json]:
        """Return the turn's identity without ids, scores and other metadata."""
        content = self.identity() | {"content": self.content or ""}
        return {key: item for key, item in content.items() if key not in METADATA_KEYS}

    @property
    def is_blank(self) -> bool:
        """Whether the turn contains only white space, null keys and metadata."""
        return not (self.content or "").strip() and len(self.comparable()) == len(("role", "content"))

    @property
    def is_plain(self) -> bool:
        """Whether the turn consists of a role and text content only."""
        return self.content is not None and self.identity() == {"role": self.role, "content": self.content}

    def readable(self) -> str:
        """Return the turn as text for display: its reasoning, content and tool calls."""
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


def is_blank_response(response: Text) -> bool:
    """Return whether a response contains only white space."""
    if isinstance(response, str):
        return not response.strip()
    return all(message.is_blank for message in response)


def has_other_turns(response: Text) -> bool:
    """Return whether a response contains turns of other roles than the assistant's."""
    return not isinstance(response, str) and any(message.role != "assistant" for message in response)


def text_to_json(text: Text) -> Json:
    """Convert text to JSON: plain text unchanged, a conversation as a list of message objects."""
    return text if isinstance(text, str) else [message.to_json() for message in text]


def readable(text: Text) -> str:
    """Format text for display: a single assistant turn as its content, other conversations as `[role]` blocks."""
    if isinstance(text, str):
        return text
    if len(text) == 1 and text[0].role == "assistant":
        return text[0].readable()
    return "\n\n".join(f"[{message.role}]\n{message.readable()}" for message in text)


def identity(text: Text) -> Json:
    """Return the form of a text that enters `pair_id`."""
    return text if isinstance(text, str) else [message.identity() for message in text]


@dataclass(frozen=True, slots=True)
class SourceRow:
    """One row as stored in a file, with its position."""

    row: int
    """0-based position among the rows of the source."""
    line: int
    """1-based line of the file where the row begins (or row number, if the format has no lines)."""
    value: Mapping[str, Json]
    file: str = ""
    """The file, if the source has several."""
    remarks: tuple[str, ...] = ()
    """Notes on anything doubtful in the row, as sentences without a full stop."""


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that is not a preference pair, with the reason."""

    row: int
    line: int
    reason: str
    """The reason, as a sentence without a full stop."""
    file: str = ""
    """The file, if the source has several."""


@dataclass(frozen=True, slots=True)
class PreferencePair:
    """One prompt with its chosen and its rejected response."""

    row: int
    """0-based position in the source."""
    line: int
    """1-based line (or row number) in the source file, for messages."""
    prompt: Text
    chosen: Text
    rejected: Text
    tools: Sequence[Json] | None = None
    """Tool definitions for the chat template."""
    chat_template_kwargs: Mapping[str, Json] | None = None
    """Additional variables for the chat template."""
    columns: Mapping[str, Json] = field(default_factory=dict)
    """The data set's other columns, unchanged."""
    source: Mapping[str, Json] = field(default_factory=dict)
    """The whole row as read, for writing it back."""
    file: str = ""
    """The source file, if the data set has several."""
    remarks: tuple[str, ...] = ()
    """Notes on anything doubtful in the row, as sentences without a full stop."""

    @property
    def place(self) -> str:
        """The pair's position, for messages: `line 3`, or `file:3` if there are several files."""
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
        """16 hex digits that identify the content of the pair; duplicates share them.

        Definition: the first 16 hex digits of the SHA-256 of the UTF-8 JSON text, with sorted keys and no spaces, of
        the content.
        """
        text = json.dumps(self.content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
