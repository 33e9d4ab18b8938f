"""A hostile input and its outcome: refused with a message, accepted with the right values, or a bug."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import resource
import signal
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Any, TypeAlias

import typer

from prefscope.errors import PrefscopeError

SECONDS = 20
MEMORY_BYTES = 6 << 30
_FORK = multiprocessing.get_context("fork")
REFUSED, ACCEPTED = "refused with a sentence", "accepted"


class WrongValueError(Exception):
    """An accepted input with a value that differs from what it represents."""


class _HangError(BaseException):
    """An input took too long; not an Exception, so that no handler catches it."""


Read: TypeAlias = Callable[[], Any]
"""Reads the input as the commands do, and raises exceptions that they would handle."""
Try: TypeAlias = Callable[[Random], tuple[object, Read]]
"""Draws an input: returns what to print of it if it is a bug, and what reads it."""


@dataclass(frozen=True, slots=True)
class Boundary:
    """A place where untrusted values enter."""

    name: str
    inputs: int
    """Of a whole campaign."""
    prepare: Callable[[Path], Try]
    """Writes what the inputs are made from into an empty folder."""


@dataclass(slots=True)
class Tally:
    """The outcomes of the inputs of a boundary."""

    outcomes: Counter[str] = field(default_factory=Counter)
    bugs: list[str] = field(default_factory=list)


def run_boundary(boundary: Boundary, folder: Path, seed: int, numbers: range) -> Tally:
    """Try some inputs of a boundary; each is drawn from the seed, the boundary's name and its number.

    They run in a process of their own, which an input may kill; the next ones then have another.
    """
    tally, left = Tally(), numbers
    while left:
        receiver, sender = multiprocessing.Pipe(duplex=False)
        with receiver:
            child = _FORK.Process(target=_try_all, args=(boundary, folder, seed, left, sender))
            child.start()
            sender.close()
            with contextlib.suppress(EOFError):
                while left:
                    found, detail = receiver.recv()
                    _count(tally, boundary, seed, left[0], found, detail)
                    left = left[1:]
            child.join()
        if left:
            _count(tally, boundary, seed, left[0], f"BUG: ends the process ({child.exitcode})", "the process ended")
            left = left[1:]
    return tally


def _count(tally: Tally, boundary: Boundary, seed: int, number: int, found: str, detail: str) -> None:
    tally.outcomes[found] += 1
    if detail:
        tally.bugs.append(f"--seed {seed} --only '{boundary.name}' --number {number}: {detail}")


def _try_all(boundary: Boundary, folder: Path, seed: int, numbers: range, sender: Connection) -> None:
    bound_memory()
    os.chdir(folder)
    for found, detail in outcomes(boundary, folder, seed, numbers):
        sender.send((found, detail))


def outcomes(boundary: Boundary, folder: Path, seed: int, numbers: range) -> Iterator[tuple[str, str]]:
    """Yield the outcomes of some inputs in this process, with traceback and input for a bug."""
    attempt = boundary.prepare(folder)
    for number in numbers:
        shown, read = attempt(Random(f"{seed}/{boundary.name}/{number}"))  # noqa: S311 (no secret)
        found, detail = outcome(read)
        yield found, f"{detail}\n{_short(shown)}" if detail else ""


def outcome(read: Read) -> tuple[str, str]:
    """Return the outcome of an input, with the traceback or a description for a bug."""
    try:
        with _limited(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            read()
    except PrefscopeError as error:
        text = str(error)
        return (REFUSED, "") if text.isprintable() or "\n" in text or text.strip() else ("BUG: no sentence", repr(text))
    except (typer.Exit, typer.Abort, typer.TyperException):
        return REFUSED, ""
    except WrongValueError as error:
        return "BUG: a value changed", str(error)
    except _HangError:
        return "BUG: takes too long", traceback.format_exc(limit=-6)
    except BaseException as error:  # noqa: BLE001 (this is what is looked for)
        return f"BUG: {type(error).__name__}", traceback.format_exc(limit=-6)
    return ACCEPTED, ""


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    """Limit the time of a block."""

    def stop(*_: object) -> None:
        raise _HangError

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def bound_memory() -> None:
    """Make allocations of gigabytes fail, as on a small machine."""
    used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES, resource.RLIM_INFINITY))


def _short(shown: object) -> str:
    text = repr(shown) if isinstance(shown, bytes) else str(shown).encode(errors="backslashreplace").decode()
    return text if len(text) <= 2000 else f"{text[:2000]}…"
