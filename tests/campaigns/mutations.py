"""Damage to bytes and to JSON values, drawn from a seeded generator."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from random import Random
from typing import Any

DEEP: Any = []
for _ in range(80):
    DEEP = [DEEP]
EXTREMES: Sequence[Any] = (
    *(None, True, False, 0, -1, 1, 2, 7, 1 << 31, 1 << 40, 1 << 63, -(1 << 64), 10**400),
    *(0.5, -0.0, 1.5, -2.5, 1e-320, 1e300, -1e300, float("inf"), float("-inf"), float("nan")),
    *("", " ", "x", "5", "-1.5", "true", "\ud800", "\0", "\u0663", "-1_000", "1e400", "[]", '{"a": 1}', "\u202e\u3164"),
    *("@nested 300", "@nested 600", "@nested 900", "@nested 970"),
    *("y" * 5000, [], [[]], [None], ["x"], [1, 2], {}, {"a": None}, {"role": "user"}, [{}], DEEP),
)
"""Values that an untrusted file may contain in place of any other."""
_HOSTILE_BYTES = (
    b"\0",
    b"\xff" * 8,
    b"\n",
    b'"',
    b"[" * 64,
    b"\xed\xa0\x80",
    b"1e999",
    b"\xef\xbb\xbf",
    b"\r",
    b"9" * 40,
)


def damaged_bytes(draw: Random, whole: bytes) -> bytes:
    """Return bytes with one to four pieces of damage: flipped bits, cuts, copies, insertions."""
    raw = bytearray(whole)
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        _damage(draw, raw)
    return bytes(raw)


def flipped(draw: Random, whole: bytes) -> bytes:
    """Return bytes with one flipped bit."""
    raw = bytearray(whole)
    raw[draw.randrange(len(raw))] ^= 1 << draw.randrange(8)
    return bytes(raw)


def _damage(draw: Random, raw: bytearray) -> None:
    at, size = draw.randrange(len(raw) + 1), draw.choice((1, 2, 4, 16, 200))
    match draw.choice(("flip", "flip", "cut", "drop", "copy", "insert", "zero", "swap")):
        case "flip" if at < len(raw):
            raw[at] ^= 1 << draw.randrange(8)
        case "cut":
            del raw[at:]
        case "drop":
            del raw[at : at + size]
        case "copy":
            source = draw.randrange(len(raw) + 1)
            raw[at:at] = raw[source : source + size]
        case "insert":
            raw[at:at] = draw.choice(_HOSTILE_BYTES)
        case "zero":
            raw[at : at + size] = bytes(len(raw[at : at + size]))
        case "swap":
            half = raw[at:]
            del raw[at:]
            raw[0:0] = half


def damaged_json(draw: Random, value: Any, times: int = 0) -> Any:
    """Return a copy of a JSON value with some parts dropped, renamed, repeated, nested or replaced."""
    value = copy.deepcopy(value)
    for _ in range(times or draw.choice((1, 1, 1, 2, 3))):
        value = _damaged_once(draw, value)
    return value


def _damaged_once(draw: Random, value: Any) -> Any:
    places = [*_places(value)]
    if not places or draw.random() < 0.02:
        return draw.choice(EXTREMES)
    holder, key = draw.choice(places)
    match draw.choice(("replace", "replace", "replace", "drop", "wrap", "graft", "rename")):
        case "drop":
            del holder[key]
        case "wrap":
            holder[key] = draw.choice(([holder[key]], {"x": holder[key]}, [holder[key], holder[key]]))
        case "graft":
            other, source = draw.choice(places)
            holder[key] = copy.deepcopy(other[source])
        case "rename" if isinstance(holder, dict):
            holder[draw.choice(("", "x", str(key).upper(), f"{key} "))] = holder.pop(key)
        case _:
            holder[key] = copy.deepcopy(draw.choice(EXTREMES))
    return value


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Return every container inside a value with each of its keys."""
    found: list[tuple[Any, Any]] = []
    left = [value]
    while left and len(found) < 1000:
        one = left.pop()
        keys = [*one] if isinstance(one, dict) else [*range(len(one))] if isinstance(one, list) else []
        found += [(one, key) for key in keys]
        left += [one[key] for key in keys]
    return found


def json_text(draw: Random, value: Any) -> str:
    """Return JSON of a value, occasionally in an unusual spelling."""
    text = json.dumps(value, ensure_ascii=draw.random() < 0.5 or _is_broken(value))
    for depth in (300, 600, 900, 970) if "@nested" in text else ():
        text = text.replace(
            f'"@nested {depth}"', draw.choice(("[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth))
        )
    if draw.random() < 0.3:
        text = text.replace("-Infinity", "-1e400").replace("Infinity", "1e400")
    if draw.random() < 0.01:
        text = draw.choice(("[" * 100_000, '{"a":' * 50_000, "9" * 5000, text + text, "", "null"))
    return text


def _is_broken(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False
