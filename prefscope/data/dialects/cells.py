"""Messages stored as text in a cell: JSON is parsed, Python's printed form is refused."""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Mapping

from prefscope.data.dialects.dialect import NotAPairError
from prefscope.data.records import CALL_KEYS, Json

_NAMES = frozenset({"role", "from"})
_ROLES = frozenset(
    {
        *("system", "developer", "user", "human", "assistant", "gpt", "bot", "chatbot", "model"),
        *("tool", "function", "function_call", "observation", "ipython"),
    }
)
_BODIES = frozenset({"content", "value", *CALL_KEYS})
_JSON_TURN = re.compile(r'\s*(\[\s*\{\s*"(role|from|content|value)"|\{\s*"(role|from)")\s*:')
_PYTHON_TURN = re.compile(r"\s*(?:(?:np\.)?array\()?[\[(]?\s*\{\s*['\"]\w+['\"]\s*:")
_PYTHON_KEYS = (re.compile(r"['\"](?:role|from)['\"]\s*:"), re.compile(r"['\"](?:content|value|tool_calls)['\"]\s*:"))
_PYTHON_OBJECT = re.compile(r"\s*\[?\s*\w*Message(?:Chunk)?\(\s*\w+=.*\)\s*\]?\s*\Z", re.DOTALL)


def turns_in_cell(found: str) -> list[Json] | dict[str, Json] | None:
    """Parse a text that is JSON messages (in CSV cells): a list, a single message, or None for other text."""
    if found.lstrip()[:1] not in ("[", "{"):
        return None
    try:
        turns = json.loads(found)
    except (ValueError, RecursionError):
        return None
    if isinstance(turns, dict):
        return turns if _is_turn(turns) and _has_known_role(turns) else None
    if not isinstance(turns, list) or not turns:
        return None
    certain = all(map(_is_turn, turns)) or any(_is_turn(turn) and _has_known_role(turn) for turn in turns)
    return turns if certain else None


def refuse_spelled_messages(found: str, column: str) -> None:
    """Refuse a text that contains messages in a form that cannot be read reliably.

    Raises:
        NotAPairError: If it is messages as printed by Python, or truncated JSON messages.
    """
    if found.lstrip()[:1] in ("[", "{") and _JSON_TURN.match(found) and not _is_json(found):
        raise NotAPairError(f"`{column}` begins like JSON messages but is not valid JSON: is it truncated?")
    if is_python_messages(found):
        raise NotAPairError(f"`{column}` contains messages as printed by Python; write them as JSON")


def is_python_messages(found: str) -> bool:
    """Return whether a text is one or several messages as printed by Python."""
    if _PYTHON_OBJECT.match(found):
        return True
    if not _PYTHON_TURN.match(found):
        return False
    if _is_json(found):
        return False
    value = _literal(found.strip())
    if value is None:  # an array, truncated in the middle, or followed by more text
        is_whole = found.rstrip()[-1:] in tuple("]})") or _is_cut(found)
        return is_whole and all(key.search(found) for key in _PYTHON_KEYS)
    return any(_is_turn(turn) for turn in (value if isinstance(value, list | tuple) else [value]))


def is_python_bytes(found: Json) -> bool:
    """Return whether a text is bytes as printed by Python."""
    return isinstance(found, str) and found[:2] in ("b'", 'b"') and isinstance(_literal(found), bytes)


def _literal(text: str) -> object:
    """Evaluate a Python literal; None if it is not one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about unknown escape sequences
        try:
            value: object = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return None
    return value


def _is_cut(text: str) -> bool:
    return sum(map(text.count, "[{(")) > sum(map(text.count, "]})"))


def _is_turn(found: Json) -> bool:
    return isinstance(found, Mapping) and bool(_NAMES & found.keys()) and bool(_BODIES & found.keys())


def _has_known_role(turn: Mapping[str, Json]) -> bool:
    return turn.get("role", turn.get("from")) in _ROLES


def _is_json(found: str) -> bool:
    try:
        json.loads(found)
    except (ValueError, RecursionError):
        return False
    return True
