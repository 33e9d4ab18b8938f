"""Several sources, read one after the other as one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from prefscope.data.files import FileSource
from prefscope.data.hub import HubSource
from prefscope.data.records import BadRow, SourceRow


@dataclass(frozen=True, slots=True)
class SeveralSources:
    """Rows of several sources: numbered through, each with the file that it is from."""

    name: str
    parts: tuple[FileSource | HubSource | SeveralSources, ...]
    labels: tuple[str, ...]
    """What each is called in messages."""
    own_remarks: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """The files of all."""
        return tuple(file for part in self.parts for file in part.files)

    @property
    def remarks(self) -> tuple[str, ...]:
        """What is unusual, as sentences without a full stop."""
        told = zip(self.labels, self.parts, strict=True)
        return (*self.own_remarks, *(f"{label}: {remark}" for label, part in told for remark in part.remarks))

    def rows(self) -> Iterator[SourceRow | BadRow]:
        """Return the rows of all, in constant memory; lines are those of each file.

        Raises:
            DataError: If what follows cannot be read at all.
        """
        number = 0
        for label, part in zip(self.labels, self.parts, strict=True):
            for found in part.rows():
                yield replace(found, row=number, file=f"{label}/{found.file}" if found.file else label)
                number += 1

    def content_hash(self) -> str:
        """Return the SHA-256 of the parts' own, in their order."""
        return hashlib.sha256(json.dumps([part.content_hash() for part in self.parts]).encode()).hexdigest()

    def close(self) -> None:
        """Close all."""
        for part in self.parts:
            part.close()
