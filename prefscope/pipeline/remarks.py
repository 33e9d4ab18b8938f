"""Collects remarks on doubtful rows, to report each kind once, with a count."""

from __future__ import annotations

from collections import Counter

from prefscope.data.dialects import DIALECTS
from prefscope.data.records import PreferencePair
from prefscope.data.sources import Source
from prefscope.events import Noted
from prefscope.pipeline.bad_rows import counted

MOST_REMARKS = 10


class Remarks:
    """Remarks on rows, with the first place of each, and the dialects of each file."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._first: dict[str, str] = {}
        self._layouts: dict[str, dict[str, None]] = {}

    def add(self, pair: PreferencePair, dialect: str) -> None:
        """Add the remarks on a pair."""
        for remark in pair.remarks:
            self._counts[remark] += 1
            self._first.setdefault(remark, pair.place)
        if pair.file:
            self._layouts.setdefault(dialect, {}).setdefault(pair.file)

    def notes(self, source: Source) -> list[Noted]:
        """Return the notes on a source and its rows."""
        texts = [f"{source.name}: {remark}" for remark in source.remarks]
        if len(self._layouts) > 1:
            layouts = "; ".join(map(self._layout, self._layouts))
            texts.append(f"{source.name}: its files have different layouts: {layouts}")
        for remark, number in self._counts.most_common(MOST_REMARKS):
            texts.append(f"{source.name}: {remark} ({counted(number, 'row')}, first in {self._first[remark]})")
        if len(self._counts) > MOST_REMARKS:
            texts.append(f"{source.name}: {len(self._counts) - MOST_REMARKS} more remarks of this kind")
        return list(map(Noted, texts))

    def _layout(self, dialect: str) -> str:
        files = list(self._layouts[dialect])
        more = f" and {len(files) - 1} more" if len(files) > 1 else ""
        return f"{DIALECTS[dialect].title if dialect in DIALECTS else dialect} in {files[0]}{more}"
