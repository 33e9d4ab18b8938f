"""The index that the checks use: a few numbers per pair, so that the texts need not stay in memory."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from prefscope.data.checks.sketch import BINS, Sketch, sketch, text_hashes
from prefscope.data.checks.words import WordSample
from prefscope.data.records import PreferencePair, Text, readable

EXCERPT_CHARACTERS = 60
Keys = NDArray[np.uint64]


@dataclass(frozen=True)
class PairTexts:
    """The texts of one pair, in the forms that the checks need."""

    pair: PreferencePair

    @functools.cached_property
    def prompt(self) -> str:
        """The whole prompt."""
        return readable(self.pair.prompt)

    @functools.cached_property
    def request(self) -> str:
        """The last request: the last user turn, or the prompt if it is plain text."""
        prompt = self.pair.prompt
        if isinstance(prompt, str):
            return prompt
        return next((turn.content or "" for turn in reversed(prompt) if turn.role == "user"), "")

    @functools.cached_property
    def conversation(self) -> str:
        """The prompt without the system message, which many prompts share."""
        prompt = self.pair.prompt
        return prompt if isinstance(prompt, str) else "\n\n".join(t.readable() for t in prompt if t.role != "system")

    @functools.cached_property
    def responses(self) -> tuple[str, str]:
        """The chosen and the rejected response."""
        return readable(self.pair.chosen), readable(self.pair.rejected)

    @property
    def contents(self) -> tuple[str, ...]:
        """All plain texts and the contents of all turns."""
        return tuple(
            content
            for text in (self.pair.prompt, self.pair.chosen, self.pair.rejected)
            for content in ((text,) if isinstance(text, str) else [turn.content or "" for turn in text])
        )


def excerpt(text: str, start: int = 0) -> str:
    """Return a short excerpt of a text from a position on, with an ellipsis where it was cut."""
    begin = max(start - EXCERPT_CHARACTERS // 3, 0)
    cut = text[begin : begin + EXCERPT_CHARACTERS].strip()
    return f"{'…' if begin else ''}{cut}{'…' if begin + EXCERPT_CHARACTERS < len(text) else ''}"


@dataclass(frozen=True, slots=True)
class TextIndex:
    """The index of a data set; all arrays have one row per pair."""

    rows: NDArray[np.int64]
    lines: NDArray[np.int64]
    beginnings: tuple[str, ...]
    """Excerpts of the last requests."""
    prompt_keys: Keys
    """Hashes of the prompts, ignoring white space at the ends."""
    chosen_keys: Keys
    rejected_keys: Keys
    lengths: NDArray[np.int64]
    """Lengths of chosen and rejected, in `unit`. Shape (pairs, 2)."""
    unit: str
    """`characters` or `tokens`."""
    spaced: NDArray[np.bool_]
    """Whether chosen and rejected start with white space, and whether they end with it. Shape (pairs, 2, 2)."""
    prompt_sketches: NDArray[np.uint32]
    """Shape (pairs, bins)."""
    pair_sketches: NDArray[np.uint32]
    words: WordSample
    files: tuple[str, ...]
    """The file of each pair; "" if the data set has only one."""

    def place(self, i: int) -> str:
        """Return the position of a pair, for display."""
        return f"{self.files[i]}:{self.lines[i]}" if self.files[i] else f"line {self.lines[i]}"


@dataclass
class TextIndexBuilder:
    """Builds the index of a data set, pair by pair."""

    count_tokens: Callable[[str], int] | None = None
    places: list[tuple[int, int]] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    beginnings: list[str] = field(default_factory=list)
    keys: list[tuple[int, int, int]] = field(default_factory=list)
    lengths: list[tuple[int, int]] = field(default_factory=list)
    spaced: list[tuple[tuple[bool, bool], tuple[bool, bool]]] = field(default_factory=list)
    sketches: list[tuple[Sketch, Sketch]] = field(default_factory=list)
    words: WordSample = field(default_factory=WordSample)

    def add(self, texts: PairTexts) -> None:
        """Add a pair."""
        pair, responses = texts.pair, texts.responses
        measure = self.count_tokens or len
        self.places.append((pair.row, pair.line))
        self.files.append(pair.file)
        self.beginnings.append(excerpt(texts.request))
        self.keys.append((_key(pair.prompt), _key(pair.chosen), _key(pair.rejected)))
        self.lengths.append((measure(responses[0]), measure(responses[1])))
        self.spaced.append(
            (
                (responses[0][:1].isspace(), responses[0][-1:].isspace()),
                (responses[1][:1].isspace(), responses[1][-1:].isspace()),
            )
        )
        parts = [text_hashes(text) for text in (texts.conversation, *responses)]
        self.sketches.append((sketch(parts[:1]), sketch(parts)))
        self.words.add(pair.row, *responses)

    def build(self) -> TextIndex:
        """Return the index."""
        rows, lines = np.array(self.places, dtype=np.int64).reshape(-1, 2).T
        sketches = np.array(self.sketches, dtype=np.uint32).reshape(-1, 2, BINS)
        keys = np.array(self.keys, dtype=np.uint64).reshape(-1, 3).T
        return TextIndex(
            rows,
            lines,
            tuple(self.beginnings),
            keys[0],
            keys[1],
            keys[2],
            np.array(self.lengths, dtype=np.int64).reshape(-1, 2),
            "characters" if self.count_tokens is None else "tokens",
            np.array(self.spaced, dtype=np.bool_).reshape(-1, 2, 2),
            sketches[:, 0],
            sketches[:, 1],
            self.words,
            tuple(self.files),
        )


def compared(text: Text) -> str:
    """Return a text in a form that is equal for equal texts, ignoring white space at the ends of each turn.

    A single plain assistant turn equals its text.
    """
    if isinstance(text, str):
        return text.strip()
    if len(text) == 1 and text[0].role == "assistant" and len(text[0].comparable()) == len(("role", "content")):
        return (text[0].content or "").strip()
    turns = [turn.comparable() | {"content": (turn.content or "").strip()} for turn in text]
    return json.dumps(turns, sort_keys=True, ensure_ascii=False)


def _key(text: Text) -> int:
    """Return a 64-bit hash of a text."""
    content = compared(text).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")
