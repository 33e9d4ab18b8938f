"""Search the texts of pairs: case and Unicode forms do not matter, and patterns take linear time.

Patterns are those of RE2, which needs no time limit: it has no look-around and no back-references. Arrow searches
without holding Python's lock, so screens stay responsive while a thread searches.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa

SEARCHED = ("prompt", "chosen", "rejected")
"""The text columns that are searched."""
KEPT_BYTES = 256 << 20
"""Folded texts are kept for the next search if they take no more than this."""
KEPT_RESULTS = 64
MOST_HITS = 500
"""Hits to return for one text."""
_NONE = np.zeros(0, dtype=np.bool_)
_OPEN, _CLOSE = "\ufdd0", "\ufdd1"
"""Noncharacters that enclose the hits of a pattern."""
_PROBLEM = re.compile(r"(?:Invalid regular expression: )?(.*?)(?:: (.*))?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Needle:
    """What to search for: a text, or an RE2 pattern; case is ignored."""

    text: str
    is_pattern: bool = False


class TextSearch:
    """Finds the pairs whose prompt, chosen or rejected response contains a needle; results are cached."""

    def __init__(self, read_group: Callable[[int], pa.Table], groups: int) -> None:
        """Set up the search.

        Args:
            read_group: Reads the columns `SEARCHED` of a row group.
            groups: Number of row groups.
        """
        self._read_group = read_group
        self._groups = groups
        self._results: dict[Needle, NDArray[np.bool_]] = {}
        self._folded: dict[int, list[pa.Array]] = {}
        self._kept_bytes = 0

    def is_known(self, needle: Needle) -> bool:
        """Return whether a result is cached."""
        return needle in self._results

    def find(self, needle: Needle) -> NDArray[np.bool_]:
        """Return which pairs contain a needle, in file order."""
        found = self._results.get(needle)
        if found is None:
            found = np.concatenate([_NONE, *(self._find_in(group, needle) for group in range(self._groups))])
            self._keep(needle, found)
        return found

    def prepare(self, needle: Needle, is_stopped: Callable[[], bool]) -> None:
        """Search in a thread, so that `find` returns at once; give up when `is_stopped` becomes true."""
        masks = [_NONE]
        for group in range(self._groups if needle not in self._results else 0):
            if is_stopped():
                return
            masks.append(self._find_in(group, needle))
        if not self.is_known(needle):
            self._keep(needle, np.concatenate(masks))

    def _keep(self, needle: Needle, found: NDArray[np.bool_]) -> None:
        while len(self._results) >= KEPT_RESULTS:
            self._results.pop(next(iter(self._results)), None)
        self._results[needle] = found

    def _find_in(self, group: int, needle: Needle) -> NDArray[np.bool_]:
        import pyarrow.compute as pc

        if needle.is_pattern:
            pattern = unicodedata.normalize("NFC", needle.text)
            found = [
                pc.match_substring_regex(pc.utf8_normalize(texts, form="NFC"), pattern, ignore_case=True)
                for texts in self._texts(group)
            ]
        else:
            wanted = folded(needle.text)
            found = [pc.match_substring(texts, wanted) for texts in self._folded_texts(group)]
        mask = functools.reduce(pc.or_, found).fill_null(False)  # noqa: FBT003 (pyarrow's own)
        return np.from_dlpack(mask.cast("uint8")).astype(np.bool_)

    def _texts(self, group: int) -> Iterator[pa.Array]:
        table = self._read_group(group)
        return (table.column(name).combine_chunks() for name in SEARCHED)

    def _folded_texts(self, group: int) -> list[pa.Array]:
        if group in self._folded:
            return self._folded[group]
        texts = [fold_texts(one) for one in self._texts(group)]
        size = sum(one.nbytes for one in texts)
        if self._kept_bytes + size <= KEPT_BYTES:
            self._kept_bytes += size
            self._folded[group] = texts
        return texts


def fold_texts(texts: pa.Array) -> pa.Array:
    """Return texts in the form in which they are compared: NFKC, and letters that differ in case made equal.

    Upper case, then lower case also joins σ and ς, ſ and s, and the Turkish ı, I, İ and i. ß is ss.
    """
    import pyarrow.compute as pc

    is_ascii = pc.string_is_ascii(texts).fill_null(True)  # noqa: FBT003 (pyarrow's own)
    lower = pc.ascii_lower(texts)  # ten times as fast
    if pc.all(is_ascii).as_py() is not False:
        return lower
    others = pc.utf8_lower(pc.utf8_upper(pc.utf8_normalize(texts.filter(pc.invert(is_ascii)), form="NFKC")))
    for written, plain in _FOLDED.items():
        others = pc.replace_substring(others, written, plain)
    return pc.replace_with_mask(lower, pc.invert(is_ascii), others)


_FOLDED = {"ß": "ss", "i\u0307": "i"}


@functools.lru_cache(maxsize=4096)
def folded(text: str) -> str:
    """Return a text in the form in which texts are compared; see `fold_texts`.

    >>> folded("Straße"), folded("İSTANBUL")
    ('strasse', 'istanbul')
    """
    import pyarrow as pa

    if text.isascii():
        return text.lower()
    return str(fold_texts(pa.array([text.encode(errors="replace").decode()], type=pa.string()))[0].as_py())


def problem_of(pattern: str) -> tuple[str, int, int] | None:
    """Return what is wrong with a pattern, and where; None if it is valid."""
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        pc.match_substring_regex(pa.array([""], type=pa.string()), pattern, ignore_case=True)
    except (pa.ArrowException, UnicodeError) as error:
        found = _PROBLEM.fullmatch(str(error))
        what, fragment = (found[1], found[2] or "") if found else (str(error), "")
        start = max(pattern.find(fragment), 0) if fragment else 0
        return what, start, start + (len(fragment) or len(pattern))
    return None


def hits(text: str, needles: tuple[Needle, ...]) -> list[tuple[int, int]]:
    """Return where needles occur in a text, as sorted, disjoint spans of characters."""
    found: list[tuple[int, int]] = []
    for needle in needles:
        found += _pattern_hits(text, needle.text) if needle.is_pattern else _text_hits(text, needle.text)
    merged: list[tuple[int, int]] = []
    for start, stop in sorted(found):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(stop, merged[-1][1])
        else:
            merged.append((start, stop))
    return merged


def _text_hits(text: str, wanted: str) -> list[tuple[int, int]]:
    wanted = folded(wanted)
    if not wanted or wanted not in folded(text):
        return []
    whole, starts = _folded_with_places(text)
    places: list[tuple[int, int]] = []
    at = whole.find(wanted)
    while at >= 0 and len(places) < MOST_HITS:
        places.append((starts[at], starts[at + len(wanted) - 1] + 1))
        at = whole.find(wanted, at + len(wanted))
    return [(start, _end_of_cluster(text, stop)) for start, stop in places]


def _folded_with_places(text: str) -> tuple[str, list[int]]:
    """Return a folded text, and for each of its characters the position of the original one."""
    if text.isascii():
        return text.lower(), [*range(len(text))]
    parts: list[str] = []
    starts: list[int] = []
    at = 0
    while at < len(text):
        stop = _end_of_cluster(text, at + 1)
        part = folded(text[at:stop])
        parts.append(part)
        starts += [at] * len(part)
        at = stop
    return "".join(parts), starts


def _end_of_cluster(text: str, at: int) -> int:
    """Return the end of the combining characters that begin at a position."""
    while at < len(text) and unicodedata.combining(text[at]):
        at += 1
    return at


def _pattern_hits(text: str, pattern: str) -> list[tuple[int, int]]:
    """Return where a pattern matches; RE2 encloses the matches, because Python's `re` could take forever."""
    import pyarrow as pa
    import pyarrow.compute as pc

    plain = text.replace(_OPEN, "\ufffd").replace(_CLOSE, "\ufffd").encode(errors="replace").decode()
    shown: Any = pc.replace_substring_regex(
        pa.array([plain], type=pa.string()), pattern=f"(?i){pattern}", replacement=f"{_OPEN}\\0{_CLOSE}"
    )
    places: list[tuple[int, int]] = []
    at = 0
    for part in str(shown[0].as_py()).split(_OPEN)[: MOST_HITS + 1]:
        hit, closed, rest = part.partition(_CLOSE)
        if not closed:
            at += len(hit)
            continue
        if hit:
            places.append((at, at + len(hit)))
        at += len(hit) + len(rest)
    return places
