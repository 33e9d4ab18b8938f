"""Detects what is missing from a pair's rendered text: chat templates may drop reasoning, tool calls or whole turns.

Most pieces of a pair occur literally in the rendered text. If one does not, because a template escapes, trims or drops
it, the pair is rendered again with a mark in each such piece: pieces whose marks are missing from the output are left
out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from prefscope.data.records import Json, Message, PreferencePair, Text

Rendered = tuple[str, str, str]
"""Rendered prompt, chosen and rejected; the latter two with or without the prompt."""
Write = Callable[[PreferencePair], Rendered]

REASONING = ("reasoning_content", "reasoning", "thinking", "reasoning_details")
CALLS = ("tool_calls", "function_call")
NO_TEXT = frozenset({"id", "index", "type", "role", "call_id", "tool_call_id"})
"""Keys of calls and messages without text for a reader; few templates render them."""
LONG = 12
"""A text of at least this many characters does not occur in a rendered text by chance."""
_CLOSING = re.compile(r"</(?:think|thinking|thought|reasoning|reason|scratchpad)>|\[/THINK\]", re.IGNORECASE)
_OPENING = re.compile(r"<(?:think|thinking|thought|reasoning|reason|scratchpad)>|\[THINK\]", re.IGNORECASE)
_BOUNDS = re.compile(r"(\n+|</?\w+>|\[/?THINK\])", re.IGNORECASE)
_WORD = re.compile(r"[^\W\d_]{2,}")


def left_out(pair: PreferencePair, texts: Rendered, write: Write) -> tuple[str, ...]:
    """Return what is missing from a conversation's rendered texts, such as `response: reasoning`; empty for plain text.

    Args:
        pair: The pair.
        texts: Its rendered texts.
        write: Renders a pair.
    """
    if isinstance(pair.prompt, str):
        return ()
    marks = _Marks()
    suspicious = marks.marked(pair, texts)
    if not marks.names:
        return ()
    try:
        missing = marks.missing("\n".join(write(suspicious)))
    except Exception:  # noqa: BLE001 (a template is a program and can raise anything)
        missing = [number for number in range(len(marks.names)) if _is_missing(pair, texts, write, number)]
    return tuple(dict.fromkeys(marks.names[number] for number in missing))


def _is_missing(pair: PreferencePair, texts: Rendered, write: Write, number: int) -> bool:
    """Return whether a single piece is left out; if changing it makes the template fail, the template has read it."""
    marks = _Marks(only=number)
    suspicious = marks.marked(pair, texts)
    try:
        return number in marks.missing("\n".join(write(suspicious)))
    except Exception:  # noqa: BLE001 (a template is a program and can raise anything)
        return False


@dataclass(slots=True)
class _Marks:
    """The pieces not found in the rendered texts, and their marks, which are numbered."""

    only: int | None = None
    """If set, only this piece gets a mark."""
    names: list[str] = field(default_factory=list)

    def missing(self, rendered: str) -> list[int]:
        """Return the marks that were set but are missing from a text."""
        numbers = range(len(self.names)) if self.only is None else [self.only]
        found = rendered.casefold()
        return [number for number in numbers if _mark(number) not in found]

    def marked(self, pair: PreferencePair, texts: Rendered) -> PreferencePair:
        """Return the pair with a mark in each piece that does not occur literally in its texts."""
        prompt, chosen, rejected = texts
        return replace(
            pair,
            prompt=self._turns(pair.prompt, "prompt", _squeezed(prompt)),
            chosen=self._turns(pair.chosen, "response", _squeezed(_after(prompt, chosen))),
            rejected=self._turns(pair.rejected, "response", _squeezed(_after(prompt, rejected))),
            tools=self._tools(pair.tools, _squeezed(prompt)),
        )

    def _turns(self, text: Text, part: str, rendered: str) -> Text:
        if isinstance(text, str):
            return text
        return tuple(self._turn(message, part, rendered) for message in text)

    def _turn(self, message: Message, part: str, rendered: str) -> Message:
        """Return a turn with marks; reasoning in the prompt gets none, because templates drop it by design."""
        extra = {key: self._extra(key, value, part, rendered) for key, value in message.extra.items()}
        content = message.content or ""
        # Next to calls or reasoning, a short text might be found inside those.
        alone = len(content) >= LONG or not message.extra.keys() & {*CALLS, *REASONING}
        if not content.strip() or (alone and _squeezed(content) in rendered):
            return replace(message, extra=extra)
        return replace(message, content="".join(self._pieces(content, part)), extra=extra)

    def _pieces(self, content: str, part: str) -> Iterator[str]:
        """Split content into pieces, and append a mark to each piece with words."""
        closing = [found.end() for found in _CLOSING.finditer(content)]
        opening = _OPENING.search(content)
        first, last = (opening.start() if opening and closing else 0), max(closing, default=0)
        at = 0
        for piece in _BOUNDS.split(content):
            thinking = first <= at < last
            at += len(piece)
            if not re.search(r"\w", piece) or _BOUNDS.fullmatch(piece) or (thinking and part == "prompt"):
                yield piece
            else:
                text = piece.rstrip()
                yield f"{text}{self._set(part, 'reasoning' if thinking else 'content')}{piece[len(text) :]}"

    def _extra(self, key: str, value: Json, part: str, rendered: str) -> Json:
        """Return the value of another key of a turn with marks: calls, and in responses everything with text."""
        if key in CALLS:
            return self._calls(value, part, key)
        if part == "prompt" or key in NO_TEXT:
            return value
        if key in REASONING:
            plain = isinstance(value, str) and len(value) >= LONG and _squeezed(value) in rendered
            return value if plain else _changed(value, lambda text: f"{text}{self._set(part, key)}" if text else text)
        if not isinstance(value, str) or len(_WORD.findall(value)) < 2 or _squeezed(value) in rendered:  # noqa: PLR2004
            return value
        return f"{value}{self._set(part, key)}"

    def _calls(self, value: Json, part: str, key: str) -> Json:
        """Return calls with a mark in the name and in each argument."""

        def change(text: str) -> str:
            return f"{text}{self._set(part, key)}"

        if isinstance(value, list):
            return [self._calls(call, part, key) for call in value]
        if not isinstance(value, Mapping):
            return value
        found = {}
        for name, item in value.items():
            if name == "function":
                found[name] = self._calls(item, part, key)
            elif name == "arguments":
                found[name] = _changed_arguments(item, change)
            else:
                found[name] = change(item) if name == "name" and isinstance(item, str) else item
        return found

    def _tools(self, tools: Sequence[Json] | None, rendered: str) -> Sequence[Json] | None:
        """Return tool definitions with a mark in the name of each that is not found in the text."""
        if not tools:
            return tools
        return [self._tool(tool, rendered) for tool in tools]

    def _tool(self, tool: Json, rendered: str) -> Json:
        if not isinstance(tool, Mapping):
            return tool
        if isinstance(tool.get("function"), Mapping):
            return {**tool, "function": self._tool(tool["function"], rendered)}
        name, description = tool.get("name"), tool.get("description")
        if not isinstance(name, str):
            return tool
        described = isinstance(description, str) and len(description) >= LONG and _squeezed(description) in rendered
        return tool if described and name in rendered else {**tool, "name": f"{name}{self._set('prompt', 'tools')}"}

    def _set(self, part: str, what: str) -> str:
        """Return the next mark, or an empty text if only another mark is wanted."""
        self.names.append(f"{part}: {what}")
        number = len(self.names) - 1
        return _mark(number) if self.only in (None, number) else ""


def _mark(number: int) -> str:
    return f"zqx{number}xqz"


def _after(prompt: str, whole: str) -> str:
    """Return the rest of a text after what it has in common with the beginning of the prompt."""
    if whole.startswith(prompt):
        return whole[len(prompt) :]
    pairs = enumerate(zip(prompt, whole, strict=False))
    return whole[next((at for at, (one, other) in pairs if one != other), len(prompt)) :]


def _squeezed(text: str) -> str:
    """Return a text with each run of white space replaced by a space."""
    return " ".join(text.split())


def _changed(value: Json, change: Callable[[str], str]) -> Json:
    """Return a JSON value with all its texts changed, except ids and similar keys."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [_changed(item, change) for item in value]
    if isinstance(value, Mapping):
        return {key: item if key in NO_TEXT else _changed(item, change) for key, item in value.items()}
    return value


def _changed_arguments(value: Json, change: Callable[[str], str]) -> Json:
    """Return arguments with every leaf changed; arguments in a JSON string are returned as a JSON string."""
    if isinstance(value, str):
        try:
            parsed: Any = json.loads(value)
        except ValueError:
            return change(value)
        return json.dumps(_changed_arguments(parsed, change), ensure_ascii=False) if parsed else value
    if isinstance(value, list):
        return [_changed_leaf(item, change) for item in value]
    if isinstance(value, Mapping):
        return {key: _changed_leaf(item, change) for key, item in value.items()}
    return value


def _changed_leaf(value: Json, change: Callable[[str], str]) -> Json:
    if isinstance(value, Mapping):
        return {key: _changed_leaf(item, change) for key, item in value.items()}
    if isinstance(value, list):
        return [_changed_leaf(item, change) for item in value]
    if value is None:
        return None
    return change(value) if isinstance(value, str) else change("") or value
