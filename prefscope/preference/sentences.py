"""Split the tokens of a response into sentences, and find the tokens that follow its text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import accumulate, pairwise

_CLOSING = r"[\"'”’»)\]\}」』）】〉》*_]*+"
_STOP = "[.!?…؟۔։።៕।॥]"
_STOPS = re.compile(rf"(?<!{_STOP})(?P<stop>{_STOP}++{_CLOSING})(?=\s)|[。！？｡．]++{_CLOSING}|\n++")
"""Linear in the text: a run of stops is tried once, and nothing is given back."""
_FENCE = re.compile(r"^[ \t]*(?:```|~~~)", re.MULTILINE)
_NO_STOP = re.compile(
    r"(?:^|[\s(\[\"'“‘])(?:[^\W\d_]|[^\W\d_]\.[^\W\d_]|Mr|Mrs|Ms|Dr|Prof|St|vs|No|Fig|cf|ca|approx)\.$|^\s*\d+\.$"
)
"""Text up to a full stop that ends no sentence: an initial, e.g., a title, the number of a list item."""
_ESCAPED_BYTES = re.compile(r"\\x([0-9a-f]{2})")
_LOOK_BACK = 40
"""Characters before a full stop that are searched for an abbreviation."""


def sentence_bounds(tokens: Sequence[str]) -> list[tuple[int, int]]:
    r"""Return the first token of each sentence and the one after its last; together they cover every token once.

    A sentence ends at a stop of any script that white space follows, at a full-width stop, or at a line break; inside a
    fenced block of code, only at a line break. A token belongs to the sentence in which its first visible character
    is; one without any, to the sentence before it if it breaks a line, else to the next.

    >>> sentence_bounds(["Yes", ".", " See", " e", ".g", ".", " Dr", ".", " No", ".\n", "1", ".", " Go"])
    [(0, 2), (2, 10), (10, 13)]
    """
    text = "".join(tokens)
    ends = _ends(text)
    starts, at = [0], 0
    for index, start in enumerate(accumulate((len(token) for token in tokens), initial=0)):
        if index == len(tokens):
            break
        token = tokens[index]
        visible = len(token) - len(token.lstrip())
        place = start if visible == len(token) and "\n" in token else start + visible
        before = at
        while at < len(ends) and ends[at] <= place:
            at += 1
        if at > before and index > 0:
            starts.append(index)
    return [*pairwise([*starts, len(tokens)])] if tokens else []


def _ends(text: str) -> list[int]:
    """Return where the sentences of a text end, ascending: each offset is after the last character."""
    fences = [match.start() for match in _FENCE.finditer(text)]
    ends: list[int] = []
    opened = 0
    for match in _STOPS.finditer(text):
        while opened < len(fences) and fences[opened] < match.end():
            opened += 1
        is_stop = not match.group().isspace()
        if is_stop and (opened % 2 or (match["stop"] and not _ends_sentence(text, match))):
            continue
        if ends and not is_stop and text[ends[-1] : match.start()].isspace() | (ends[-1] == match.start()):
            ends[-1] = match.end()  # the break belongs to the sentence that has just ended
        else:
            ends.append(match.end())
    return ends


def _ends_sentence(text: str, match: re.Match[str]) -> bool:
    """Return whether a stop is the end of a sentence rather than of an abbreviation or a list number."""
    if match["stop"][0] not in ".…":
        return True
    after = text[match.end() : match.end() + _LOOK_BACK].lstrip(" \t")[:1]
    line = text[max(match.start() - _LOOK_BACK, 0) : match.end()].rpartition("\n")[2]
    return not after.islower() and _NO_STOP.search(line) is None


def text_end(tokens: Sequence[str], text: str) -> int:
    r"""Return how many tokens hold a response's text; the others follow it, such as an end of turn.

    All tokens are counted if they do not spell the text out, as after truncation or with a tokenizer that changes it.

    Args:
        tokens: The scored tokens; bytes of incomplete characters as `\xe2`.
        text: The response; white space around it does not matter.

    >>> text_end(["Hi", ".", "<|im_end|>", "\n"], "Hi."), text_end(["\\xc3", "\\xa9", "</s>"], "é")
    (2, 2)
    >>> text_end(["another", " text"], "a text")
    2
    """
    whole, at = text.strip().encode(errors="surrogatepass"), 0
    for index, token in enumerate(tokens):
        if at == len(whole):
            return index
        while whole[at : at + 1].isspace():
            at += 1
        piece = next((one for one in _spellings(token) if whole.startswith(one, at)), None)
        if piece is None:
            return len(tokens)
        at += len(piece)
    return len(tokens)


def _spellings(token: str) -> list[bytes]:
    """Return the bytes that a token may stand for, without white space around them where the text has none left."""
    plain = token.encode(errors="surrogatepass")
    parts = _ESCAPED_BYTES.sub(lambda found: chr(0xDC00 + int(found[1], 16)), token)
    restored = parts.encode("utf-8", "surrogateescape") if _restorable(parts) else plain
    return [plain.lstrip(), restored.lstrip(), plain.strip(), restored.strip()]


def _restorable(text: str) -> bool:
    """Return whether every escaped byte is above 0x7F, as those of incomplete characters are."""
    return all(not 0xDC00 <= ord(one) < 0xDC80 for one in text)  # noqa: PLR2004 (surrogateescape)
