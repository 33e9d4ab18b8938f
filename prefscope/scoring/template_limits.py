"""Limits of chat templates: processor time of a rendering, and size of each value that it creates.

A chat template is a program written by whoever published the model. Python operations of unlimited size block the
interpreter and cannot be interrupted, so their size is checked before they run.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Event
from typing import Any

LARGEST = 1 << 24
"""Maximum number of characters and items of a value, including nested ones."""
LARGEST_BITS = 1 << 14
"""Maximum size of an integer: 4,900 digits."""
LARGEST_WIDTH = 100_000
SECONDS = 5.0
"""Maximum processor time of a rendering; a long conversation takes a hundredth of a second."""
CHECK_EVERY = 512
"""Number of steps between checks of the time."""
STOPPED: ContextVar[Event | None] = ContextVar("stopped", default=None)
"""An event that ends the renderings of this thread when it is set."""

_WIDE = re.compile(r"\d{6}")
_REPEATING = frozenset(
    {"center", "ljust", "rjust", "zfill", "expandtabs", "indent", "wordwrap", "batch", "slice", "tojson", "to_bytes"}
)
"""Functions whose result may be as large as their input times a number."""
_SLOW = frozenset({"striptags", "urlize"})
"""Functions whose time grows with the square of their input."""


class TemplateLimitError(Exception):
    """A chat template created a value that is too large."""


class TemplateTimeError(TemplateLimitError):
    """A chat template took too long, or its rendering was cancelled."""


class _Meter:
    """Counts the steps of a rendering and checks its time."""

    def __init__(self) -> None:
        self.steps = 0
        self.end = time.thread_time() + SECONDS
        self.stopped = STOPPED.get()

    def check(self) -> None:
        self.steps = 0
        if self.stopped is not None and self.stopped.is_set():
            raise TemplateTimeError("it was interrupted")
        if time.thread_time() > self.end:
            raise TemplateTimeError(f"it takes more than {SECONDS:g} seconds of processor time")


_METER: ContextVar[_Meter | None] = ContextVar("meter", default=None)


def is_metered() -> bool:
    """Return whether the current rendering is limited."""
    return _METER.get() is not None


@contextmanager
def metered() -> Iterator[None]:
    """Limit the rendering in this block."""
    meter = _Meter()
    token = _METER.set(meter)
    try:
        meter.check()
        yield
    finally:
        _METER.reset(token)


def spend(steps: int = 1) -> None:
    """Count steps of the current rendering.

    Raises:
        TemplateTimeError: If the rendering has taken too long.
    """
    meter = _METER.get()
    if meter is not None:
        meter.steps += steps
        if meter.steps >= CHECK_EVERY:
            meter.check()


def check_size(size: int) -> None:
    """Check the size of a value.

    Raises:
        TemplateLimitError: If it is too large.
    """
    if size > LARGEST:
        raise TemplateLimitError(f"it makes a text or list of more than {LARGEST:,} characters or items")


def weight(value: Any) -> int:
    """Return the number of characters and items in a value, counting repeated ones each time.

    Raises:
        TemplateLimitError: If there are too many.
    """
    if isinstance(value, str | bytes):
        return len(value) + 1
    total, waiting = 0, [value]
    while waiting:
        item = waiting.pop()
        spend()
        total += len(item) + 1 if isinstance(item, str | bytes | Mapping | list | tuple | set | frozenset) else 1
        check_size(total + len(waiting))
        if isinstance(item, Mapping):
            waiting += [*item.keys(), *item.values()]
        elif isinstance(item, list | tuple | set | frozenset):
            waiting += item
    return total


def weighed(value: Any) -> Any:
    """Return a value unchanged, after checking its size."""
    if isinstance(value, str):
        check_size(len(value))
    elif isinstance(value, list | tuple | Mapping | set | frozenset | bytes):
        weight(value)
    elif isinstance(value, int) and value.bit_length() > LARGEST_BITS:
        raise TemplateLimitError(f"it makes a number of more than {LARGEST_BITS:,} bits")
    return value


def join(pieces: Iterable[str]) -> str:
    """Concatenate texts, checking the total size."""
    found: list[str] = []
    size = 0
    for piece in pieces:
        spend()
        size += len(piece)
        check_size(size)
        found.append(piece)
    return "".join(found)


def check_operation(operator: str, left: Any, right: Any) -> None:
    """Check the size of an operation's result before the operation runs.

    Raises:
        TemplateLimitError: If the result would be too large.
    """
    spend()
    if operator == "+":
        if isinstance(left, str | list | tuple) and isinstance(right, str | list | tuple):
            check_size(len(left) + len(right))
    elif operator == "%":
        if isinstance(left, str | bytes):
            _check_format(left, "%", (right,))
    elif isinstance(left, int) and isinstance(right, int):
        bits = left.bit_length() * right if operator == "**" else left.bit_length() + right.bit_length()
        if bits > LARGEST_BITS and abs(left) > 1:
            raise TemplateLimitError(f"it makes a number of more than {LARGEST_BITS:,} bits")
    elif operator == "*":
        for sequence, times in ((left, right), (right, left)):
            if isinstance(sequence, str | bytes | list | tuple) and isinstance(times, int):
                check_size(weight(sequence) * max(times, 0))


def check_call(name: str, value: Any, arguments: Sequence[Any]) -> None:
    """Check the size of the result of a filter or method before it is called.

    Args:
        name: The filter or method.
        value: The value that it is applied to.
        arguments: The other arguments, including keyword arguments.

    Raises:
        TemplateLimitError: If the result would be too large.
    """
    spend()
    numbers = [argument for argument in arguments if isinstance(argument, int)]
    if name in _REPEATING:
        widest = max((abs(number) for number in numbers), default=1)
        _check_width(widest)
        check_size(weight(value) * max(widest, 1))
    elif name == "replace":
        _check_replacement(value, arguments)
    elif name == "translate":
        check_size(weight(value) * weight(arguments))
    elif name == "join":
        separators = sum(len(one) for one in (value, *arguments) if isinstance(one, str))
        items = [weight(one) + len(one) * separators for one in (value, *arguments) if isinstance(one, list | tuple)]
        check_size(sum(items))
    elif name in {"format", "format_map"}:
        _check_format(value, "{", arguments)
    elif name == "round":
        _check_width(max((abs(number) for number in numbers), default=0) * 100)
    elif name == "sum" and any(isinstance(argument, list | tuple) for argument in arguments):
        raise TemplateLimitError("it adds up lists")
    elif name in _SLOW:
        _check_width(weight(value))


def _check_width(width: int) -> None:
    if width > LARGEST_WIDTH:
        raise TemplateLimitError(f"it uses a width of {width:,}, but {LARGEST_WIDTH:,} is the largest")


def _check_replacement(value: Any, arguments: Sequence[Any]) -> None:
    texts = [one for one in arguments if isinstance(one, str | bytes)]
    if isinstance(value, str | bytes) and len(texts) > 1 and type(texts[0]) is type(value):
        check_size(len(value) + value.count(texts[0]) * len(texts[1]))  # type: ignore[arg-type]
    elif not isinstance(value, str | bytes):
        check_size(weight(value) * max(map(len, texts), default=1))


def _check_format(layout: Any, sign: str, arguments: Sequence[Any]) -> None:
    """Check a format text of `%` or `str.format` for wide fields, and for many fields with long values."""
    text = layout if isinstance(layout, str) else str(layout)
    if _WIDE.search(text) or any(abs(one) > LARGEST_WIDTH for one in _numbers(arguments) if "*" in text or "{" in text):
        raise TemplateLimitError("it writes a field with a width of six digits")
    check_size(len(text) + text.count(sign) * max(weight(list(arguments)), LARGEST_WIDTH if "*" in text else 1))


def _numbers(values: Iterable[Any]) -> Iterator[int]:
    for value in values:
        if isinstance(value, int):
            yield value
        elif isinstance(value, tuple | list):
            yield from (one for one in value if isinstance(one, int))
