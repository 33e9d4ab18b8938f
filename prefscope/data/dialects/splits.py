"""Find the end of the prompt if a row only has whole texts or whole conversations."""

from __future__ import annotations

from prefscope.data.records import Message

_ENDINGS = "\n\u3002\uff01\uff1f\uff1a\uff1b\uff0c\u3001"
"""A prompt may end with a line break or with full-width punctuation, which is not followed by a space."""


def split_turns(
    chosen: tuple[Message, ...], rejected: tuple[Message, ...]
) -> tuple[tuple[Message, ...], tuple[Message, ...], tuple[Message, ...]]:
    """Return the common turns and the rest of each conversation, which keeps at least its last turn.

    Turns are compared without ids, scores and other metadata.
    """
    longest = max(min(len(chosen), len(rejected)) - 1, 0)
    shared = 0
    while shared < longest and chosen[shared].comparable() == rejected[shared].comparable():
        shared += 1
    return chosen[:shared], chosen[shared:], rejected[shared:]


def split_text(chosen: str, rejected: str) -> tuple[str, str, str]:
    """Return the common beginning and the rest of each text, which keeps at least its last word.

    The beginning ends at a line break or before the white space of a word, never inside a word.
    """
    unlike = (place for place, (one, other) in enumerate(zip(chosen, rejected, strict=False)) if one != other)
    shared = next(unlike, min(len(chosen), len(rejected)))
    longest = min(shared, len(chosen.rstrip()) - 1, len(rejected.rstrip()) - 1)
    ends = (end for end in range(longest, 0, -1) if _may_end(chosen, end) and _may_end(rejected, end))
    end = next(ends, 0)
    return chosen[:end], chosen[end:], rejected[end:]


def _may_end(text: str, end: int) -> bool:
    before, after = text[end - 1], text[end]
    return before in _ENDINGS or (after.isspace() and not before.isspace())
