"""Streams for data on stdout: unchanged in a file or pipe, with control characters made visible on a terminal."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TextIO, cast

from prefscope.report.visible import is_shown, visible_lines


@dataclass(frozen=True, slots=True)
class _Shown:
    """A stream that transforms what is written to it."""

    stream: TextIO
    change: Callable[[str], str]

    def write(self, text: str) -> int:
        return self.stream.write(self.change(text))

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)


def text_stream(stream: TextIO) -> TextIO:
    """Return a stream for text; on a terminal, it shows control characters as pictures."""
    return cast("TextIO", _Shown(stream, visible_lines)) if stream.isatty() else stream


def json_stream(stream: TextIO) -> TextIO:
    """Return a stream for JSON; on a terminal, it writes control characters as JSON escapes."""
    return cast("TextIO", _Shown(stream, escaped)) if stream.isatty() else stream


def print_json(value: Any, stream: TextIO) -> None:
    """Print a value as indented JSON."""
    json_stream(stream).write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def escaped(text: str) -> str:
    r"""Return equivalent JSON without characters that control a terminal or are invisible.

    >>> escaped('{"a": "\x9b31m"}')
    '{"a": "\\u009b31m"}'
    """
    return "".join(one if one == "\n" or is_shown(one) else json.dumps(one)[1:-1] for one in text)
