"""Files that people ask for: refused before they could harm, and there only when they are whole."""

from __future__ import annotations

import gzip
import io
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from prefscope.errors import ResourceError, UsageError
from prefscope.ledger.marks import marks_path
from prefscope.ledger.table import Ledger
from prefscope.private import make_folder, remove_leftovers


def known_suffix(name: str, suffixes: Sequence[str]) -> str:
    """Return the one of some suffixes that a file name ends with.

    Raises:
        UsageError: It ends with none of them.
    """
    for suffix in suffixes:
        if name.endswith(suffix):
            return suffix
    raise UsageError(f"No format has the suffix of {name!r}", hint=f"Use one of {', '.join(suffixes)}.")


def refuse_sources(path: Path, ledger: Ledger) -> None:
    """Refuse to write over what a ledger was made from, or is.

    Raises:
        UsageError: The path is that of the ledger, its marks, or the data set that was scored.
    """
    data = ledger.manifest.get("data", {})
    sources = [
        ("the ledger itself", ledger.path),
        ("the file of the ledger's marks", marks_path(ledger.path)),
        *(("the data set that was scored", Path(name)) for name in (data.get("source", "-"), *data.get("files", ()))),
    ]
    for what, source in sources:
        if path.exists() and source.exists() and path.samefile(source):
            raise UsageError(f"This is {what}", where=str(path), hint="Choose another name.")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a place to write to; what was written there takes the path's place when all went well.

    Raises:
        ResourceError: The file cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        make_folder(path.parent)
        remove_leftovers(path)
        try:
            yield part
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ResourceError(
            f"This file cannot be written ({reason})", where=str(path), hint="Choose another place."
        ) from error


@contextmanager
def text_file(path: Path, *, packed: bool) -> Iterator[TextIO]:
    """Open a file for text, UTF-8 with line ends as they are written; packed, it is gzip."""
    with path.open("wb") as raw, _packed(raw, packed=packed) as binary:
        stream = io.TextIOWrapper(binary, encoding="utf-8", newline="", errors="surrogatepass")
        yield stream
        stream.flush()
        stream.detach()


def _packed(raw: Any, *, packed: bool) -> Any:
    """Return the stream to write into; gzip without time stamp and name, so equal texts give equal bytes."""
    return gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) if packed else raw


@dataclass(frozen=True, slots=True)
class UnixLines:
    r"""Ends rows of a `csv.writer` with \n; before Python 3.13 one told to do so itself would not quote a lone \r."""

    stream: TextIO

    def write(self, row: str) -> int:
        """Write a row and return how many characters were written."""
        return self.stream.write(row.removesuffix("\r\n") + "\n")
