"""Several sources concatenated into one."""

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
    """The rows of several sources, numbered consecutively, each with the name of its file."""

    name: str
    parts: tuple[FileSource | HubSource | SeveralSources, ...]
    labels: tuple[str, ...]
    """The name of each part, for messages."""
    own_remarks: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """The files of all parts."""
        return tuple(file for part in self.parts for file in part.files)

    @property
    def remarks(self) -> tuple[str, ...]:
        """Notes on anything unusual, as sentences without a full stop."""
        labelled = zip(self.labels, self.parts, strict=True)
        return (*self.own_remarks, *(f"{label}: {remark}" for label, part in labelled for remark in part.remarks))

    def rows(self) -> Iterator[SourceRow | BadRow]:
        """Yield the rows of all parts, in constant memory; line numbers are those in each file.

        Raises:
            DataError: If the rest of a part cannot be read.
        """
        number = 0
        for label, part in zip(self.labels, self.parts, strict=True):
            for found in part.rows():
                yield replace(found, row=number, file=f"{label}/{found.file}" if found.file else label)
                number += 1

    def content_hash(self) -> str:
        """Return the SHA-256 of the parts' hashes, in order."""
        return hashlib.sha256(json.dumps([part.content_hash() for part in self.parts]).encode()).hexdigest()

    def close(self) -> None:
        """Close all parts."""
        for part in self.parts:
            part.close()
