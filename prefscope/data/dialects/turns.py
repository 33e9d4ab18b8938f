"""Read and write text and turns in all their forms: strings, message lists, `from`/`value`, typed parts, JSON cells."""

from __future__ import annotations

import json
from collections.abc import Mapping

from prefscope.data.dialects.cells import refuse_spelled_messages, turns_in_cell
from prefscope.data.dialects.dialect import NotAPairError, Row, code_names, columns_found
from prefscope.data.records import CALL_KEYS, REASONING_KEYS, Json, Message, NotText, Text

ROLES = {"human": "user", "gpt": "assistant", "function_call": "assistant", "observation": "tool"}
SPEAKERS = {"user": "human", "assistant": "gpt", "tool": "observation"}
_OTHER_CONTENT = (*CALL_KEYS, *REASONING_KEYS)
"""Keys that a turn without content may have instead."""


def kind(found: Json) -> str:
    """Describe the type of a JSON value, for messages."""
    if found is None:
        return "null"
    if isinstance(found, NotText):
        return found.kind
    if isinstance(found, bool):
        return f"the boolean {str(found).lower()}"
    names = {str: "text", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return names.get(type(found), f"a {type(found).__name__}")


def read_text(value: Row, column: str) -> Text:
    """Return the text or the turns in a column.

    Raises:
        NotAPairError: If the column is missing or contains something else.
    """
    if column not in value:
        raise NotAPairError(f"`{column}` is missing; {columns_found(value)}")
    return _text(value[column], column)


def read_turns(value: Row, column: str, role: str) -> tuple[Message, ...]:
    """Return the turns in a column; plain text becomes one turn of `role`.

    Raises:
        NotAPairError: If the column is missing or contains something else.
    """
    return as_turns(read_text(value, column), role)


def as_turns(text: Text, role: str) -> tuple[Message, ...]:
    """Return turns unchanged, and plain text as one turn of `role`."""
    return (Message(role, text),) if isinstance(text, str) else text


def read_string(value: Row, column: str) -> str:
    """Return the plain text in a column; "" if it is absent or null.

    Raises:
        NotAPairError: If the column contains something else.
    """
    found = value.get(column)
    if found is None:
        return ""
    if not is_text(found):
        raise NotAPairError(f"`{column}` is {kind(found)}, not text")
    if turns_in_cell(found) is not None:
        raise NotAPairError(f"`{column}` contains messages, not plain text")
    refuse_spelled_messages(found, column)
    return str(found)


def is_text(found: Json) -> bool:
    """Return whether a value is text, and not the JSON form of a date, bytes or the like."""
    return isinstance(found, str) and not isinstance(found, NotText)


def opening_role(found: Json) -> str | None:
    """Return the role of the first turn of a message list, or None if `found` is not a message list."""
    turns = turns_in_cell(found) if isinstance(found, str) else found
    if not isinstance(turns, list) or not turns or not isinstance(turns[0], Mapping):
        return None
    speaker = turns[0].get(_keys(turns[0])[0])
    return ROLES.get(speaker, speaker) if isinstance(speaker, str) else None


def write_text(text: Text, like: Json, role: str) -> Json:
    """Write text in the form of `like`, which is returned unchanged if it already has the same content.

    Args:
        text: The text to write.
        like: The current value of the column.
        role: The role of a turn that may be written as plain text.
    """
    now = _text(like, "text")
    if now == text or as_turns(now, role) == text:
        return like
    cell = turns_in_cell(like) if isinstance(like, str) else None
    if cell is not None:
        return json.dumps(write_text(text, cell, role), ensure_ascii=False)
    if isinstance(now, str) and not isinstance(text, str) and text == (Message(role, text[0].content),):
        text = text[0].content or ""
    if isinstance(text, str):
        return [text] if isinstance(like, list) and isinstance(now, str) else text
    first = like[0] if isinstance(like, list) else like
    turns = [_write_turn(turn, first if isinstance(first, Mapping) else {}) for turn in text]
    return turns[0] if isinstance(like, Mapping) and len(turns) == 1 else turns


def _text(found: Json, column: str) -> Text:
    if is_text(found):
        cell = turns_in_cell(found)
        if cell is None:
            refuse_spelled_messages(found, column)
            return str(found)
        return _text(cell, column)
    if isinstance(found, Mapping):
        return (_read_turn(found, column),)
    if not isinstance(found, list):
        raise NotAPairError(f"`{column}` is {kind(found)}, not text or a list of messages")
    if not found:
        raise NotAPairError(f"`{column}` is an empty list")
    if all(is_text(item) for item in found):
        if len(found) > 1:
            raise NotAPairError(f"`{column}` contains {len(found)} texts; only one chosen and one rejected can be read")
        return _text(found[0], column)
    return tuple(_read_turn(item, column) for item in found)


def _keys(turn: Mapping[str, Json]) -> tuple[str, str]:
    """Return the keys of speaker and content; Arrow may add those of the other spelling as null."""
    return ("from", "value") if turn.get("from") is not None and turn.get("role") is None else ("role", "content")


def _read_turn(turn: Json, column: str) -> Message:
    if not isinstance(turn, Mapping):
        raise NotAPairError(f"`{column}` contains {kind(turn)} instead of a message")
    role_key, content_key = _keys(turn)
    role = turn.get(role_key)
    if not isinstance(role, str) or not is_text(role):
        raise NotAPairError(f"`{column}` contains a message without `role`; its keys: {code_names(map(str, turn))}")
    if role_key == "from":
        role = ROLES.get(role, role)
    extra = {key: item for key, item in turn.items() if key not in (role_key, content_key)}
    if turn.get(content_key) is None and any(turn.get(key) for key in _OTHER_CONTENT):
        return Message(role, None, extra, omits_content=content_key not in turn)
    if content_key not in turn and turn.get("parts"):
        raise NotAPairError(
            f"`{column}` contains a message in Gemini's layout, with `parts`; write its text as `content`"
        )
    return Message(role, _read_content(turn.get(content_key), column), extra)


def _read_content(content: Json, column: str) -> str:
    if isinstance(content, str) and is_text(content):
        return content
    if isinstance(content, list):
        return "".join(_read_part(part, column) for part in content)
    raise NotAPairError(f"`{column}` contains a message whose content is {kind(content)}, not text")


def _read_part(part: Json, column: str) -> str:
    if isinstance(part, str) and is_text(part):
        return part
    if not isinstance(part, Mapping):
        raise NotAPairError(f"`{column}` contains a content part that is {kind(part)}")
    media = str(part.get("type"))
    text = part.get("text") if part.get("text") is not None else part.get("value")
    if media == "text" and isinstance(text, str) and is_text(text):
        return text
    refusal = "images are not supported" if "image" in media else "only text is supported"
    raise NotAPairError(f"{refusal}: `{column}` contains a content part of type `{media}`")


def _write_turn(message: Message, like: Mapping[str, Json]) -> dict[str, Json]:
    """Write a message with the keys and the content type of `like`."""
    role_key, content_key = _keys(like)
    content: Json = message.content
    before = like.get(content_key)
    if isinstance(content, str) and isinstance(before, list) and before and isinstance(before[0], Mapping):
        content = [{"type": "text", "value" if "value" in before[0] else "text": content}]
    role = SPEAKERS.get(message.role, message.role) if role_key == "from" else message.role
    written = {} if message.omits_content else {content_key: content}
    return {role_key: role, **written, **message.extra}
