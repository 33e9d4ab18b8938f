r"""Conversations written as a single text: `\n\nHuman: ...\n\nAssistant: ...`."""

from __future__ import annotations

import re

from prefscope.data.dialects.dialect import NotAPairError, Row
from prefscope.data.records import Json, Message, Text
from prefscope.errors import DataError

_TURN = re.compile(r"(?:\A|\n\n)(Human|Assistant):")
_ROLES = {"Human": "user", "Assistant": "assistant"}
_SPEAKERS = {role: speaker for speaker, role in _ROLES.items()}


def is_transcript(found: Json) -> bool:
    """Return whether `found` is text that begins with a turn and has an assistant turn."""
    return isinstance(found, str) and _TURN.match(found) is not None and "\n\nAssistant:" in found


def read_transcript(value: Row, column: str) -> tuple[Message, ...]:
    """Return the turns of a column's transcript.

    Raises:
        NotAPairError: If the column is not a transcript.
    """
    found = value.get(column)
    if not is_transcript(found):
        raise NotAPairError(f"`{column}` is not a transcript with Human and Assistant turns")
    _, *pieces = _TURN.split(str(found))
    turns = zip(pieces[::2], pieces[1::2], strict=True)
    return tuple(Message(_ROLES[speaker], content.removeprefix(" ")) for speaker, content in turns)


def write_transcript(text: Text, like: Json) -> Json:
    """Write turns as a transcript; return `like` unchanged if it already has the same content.

    Raises:
        DataError: If there are other turns than plain user and assistant turns.
    """
    if read_transcript({"like": like}, "like") == text:
        return like
    if isinstance(text, str) or any(turn.role not in _SPEAKERS or not turn.is_plain for turn in text):
        raise DataError("a transcript can only contain plain user and assistant turns")
    return "".join(f"\n\n{_SPEAKERS[turn.role]}: {turn.content}" for turn in text)
