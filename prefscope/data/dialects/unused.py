"""Remarks on columns that are usually part of the prompt, but are not used in the pair."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from prefscope.data.dialects.columns import PROMPTS
from prefscope.data.dialects.dialect import Fields, Row
from prefscope.data.dialects.refusals import labels_of
from prefscope.data.records import Json, readable

_SYSTEM = re.compile(
    r"(?:sys|system)_?(?:prompt|message|msg|instructions?|text|content)?|(?:instruction|prompt)_system"
)
_HISTORY = frozenset({"history", "chat_history", "conversation_history", "dialogue_history", "previous_turns"})
_CONTEXT = frozenset({"context", "input"})


def unused_columns(value: Row, parts: Fields, mapping: Mapping[str, str] | None) -> Iterator[str]:
    """Yield a remark on each unused column that looks relevant, as a sentence without a full stop."""
    for name, found in value.items():
        if name in parts.consumed or not _has_content(found):
            continue
        if _SYSTEM.fullmatch(name.lower()) and isinstance(found, str) and not _is_in_prompt(found, parts):
            yield f"`{name}` is not used (TRL does not use it either); system={name} in --map makes it the system turn"
        elif name in _HISTORY:
            yield f"`{name}` is not used: turns before the prompt belong in the prompt"
        elif name in _CONTEXT and isinstance(found, str) and not _is_in_prompt(found, parts):
            yield f"`{name}` is not part of the prompt"
        elif name in PROMPTS and not readable(parts.prompt).strip():
            yield f"`{name}` is not used, though the prompt is empty"
    if mapping and (labels := labels_of(value)):
        yield f"`{labels[0]}` is not used, but may say which answer is better in each row"


def _has_content(found: Json) -> bool:
    return bool(found.strip()) if isinstance(found, str) else isinstance(found, list) and bool(found)


def _is_in_prompt(found: str, parts: Fields) -> bool:
    return found.strip() in readable(parts.prompt)
