"""Incremental JSON parsing: reads files of any size in constant memory and tracks line numbers."""

from __future__ import annotations

import codecs
import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import BinaryIO

from prefscope.data.records import LONGEST_ROW, Json
from prefscope.errors import DataError

_CHUNK_BYTES = 1 << 20
_SPACE = re.compile(r"[ \t\r\n]*")
_LONGEST_LITERAL = 16
"""A JSON error this close to the end of the text read so far may be a literal split between two chunks."""


def repeated_key(key: str) -> str:
    """Return the remark on a key that is repeated in an object."""
    return f"`{key}` occurs twice in one object; the last value is used"


class Objects:
    """A JSON decoder that notices repeated keys and constants such as NaN."""

    def __init__(self) -> None:
        self.decoder = json.JSONDecoder(object_pairs_hook=self._made, parse_constant=self._constant)
        self._repeated: dict[str, None] = {}
        self._constants: dict[str, None] = {}

    def read(self, text: str) -> Json:
        """Parse a whole text."""
        self._forget()
        return self.decoder.decode(text)

    def read_at(self, text: str, at: int) -> tuple[Json, int]:
        """Parse the value at a position of a text and return it with the position of its end."""
        self._forget()
        return self.decoder.raw_decode(text, at)

    @property
    def remarks(self) -> tuple[str, ...]:
        """Notes on anything doubtful in the last value read, as sentences without a full stop."""
        constants = (f"{name} is not valid JSON and is read as a number" for name in self._constants)
        return (*map(repeated_key, self._repeated), *constants)

    def _forget(self) -> None:
        self._repeated.clear()
        self._constants.clear()

    def _constant(self, name: str) -> float:
        self._constants[name] = None
        return float(name)

    def _made(self, items: list[tuple[str, Json]]) -> dict[str, Json]:
        value = dict(items)
        if len(value) < len(items):
            counts = Counter(key for key, _ in items)
            self._repeated |= dict.fromkeys(key for key in value if counts[key] > 1)
        return value


class JsonText:
    """A JSON stream with a read position and its line number."""

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self._stream = stream
        self._name = name
        self._objects = Objects()
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._text = ""
        self._at = 0
        self.line = 1

    @property
    def remarks(self) -> tuple[str, ...]:
        """Notes on anything doubtful in the last value read, as sentences without a full stop."""
        return self._objects.remarks

    def peek(self) -> str:
        """Return the next character that is not white space, or "" at the end."""
        while True:
            self._skip_to(_SPACE.match(self._text, self._at).end())  # type: ignore[union-attr]
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._grow():
                return ""

    def take(self, mark: str) -> None:
        """Consume a punctuation mark, which must come next."""
        if self.peek() != mark:
            raise self._broken(f"expecting '{mark}'" if self.peek() else "unexpected end", self._at)
        self._skip_to(self._at + 1)

    def value(self) -> Json:
        """Consume a value and return it."""
        self.peek()
        while True:
            try:
                value, end = self._objects.read_at(self._text, self._at)
            except json.JSONDecodeError as error:
                cut = error.msg.startswith("Unterminated") or error.pos > len(self._text) - _LONGEST_LITERAL
                if not (cut and self._grow()):
                    raise self._broken(error.msg, error.pos) from error
            except (ValueError, RecursionError) as error:
                raise self._broken(str(error), self._at) from error
            else:
                # A number at the end of the text read so far may continue.
                if end < len(self._text) or not self._grow():
                    self._skip_to(end)
                    return value

    def items(self, opening: str, closing: str) -> Iterator[int]:
        """Iterate over an array or an object: yield the line of each item, which the caller consumes."""
        self.take(opening)
        if self.peek() != closing:
            yield self.line
            while self.peek() == ",":
                self.take(",")
                if self.peek() == closing:
                    raise self._broken(f"trailing comma before '{closing}'", self._at)
                yield self.line
        self.take(closing)

    def elements(self) -> Iterator[tuple[int, Json]]:
        """Iterate over an array: yield each element with its line."""
        for line in self.items("[", "]"):
            yield line, self.value()

    def entries(self) -> Iterator[str]:
        """Iterate over an object: yield each key; the caller consumes its value."""
        for _ in self.items("{", "}"):
            key = self.value()
            self.take(":")
            yield str(key)

    def end(self) -> None:
        """Check that nothing comes next."""
        if self.peek():
            raise self._broken("extra data after its end", self._at)

    def _skip_to(self, end: int) -> None:
        self.line += self._text.count("\n", self._at, end)
        self._at = end

    def _grow(self) -> bool:
        """Read another chunk and drop the consumed text; return whether there was more to read."""
        kept = self._text[self._at :]
        if len(kept) > LONGEST_ROW:
            raise self._broken(f"a value is longer than {LONGEST_ROW:,} characters", self._at)
        more = ""
        while not more:
            # Doubling avoids decoding a very long element again for each of its chunks.
            stored = self._stream.read(max(_CHUNK_BYTES, len(kept)))
            try:
                more = self._decoder.decode(stored, final=not stored)
            except UnicodeDecodeError as error:
                line = self.line + kept.count("\n") + error.object.count(b"\n", 0, error.start)
                raise DataError("is not UTF-8 here", where=f"{self._name}:{line}") from error
            if not stored:
                break
        if more:
            self._text, self._at = kept + more, 0
        return bool(more)

    def _broken(self, what: str, at: int) -> DataError:
        line = self.line + self._text.count("\n", self._at, at)
        return DataError(f"the JSON is broken: {what}", where=f"{self._name}:{line}")
