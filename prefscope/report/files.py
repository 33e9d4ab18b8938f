"""Output files: never written over their sources, and visible only once they are complete."""

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
from prefscope.ledger.scopes import scopes_path
from prefscope.ledger.table import Ledger
from prefscope.private import make_folder, remove_leftovers


def known_suffix(name: str, suffixes: Sequence[str]) -> str:
    """Return which of the suffixes a file name ends with.

    Raises:
        UsageError: It ends with none of them.
    """
    for suffix in suffixes:
        if name.endswith(suffix):
            return suffix
    raise UsageError(f"No format has the suffix of {name!r}", hint=f"Use one of {', '.join(suffixes)}.")


def refuse_sources(path: Path, ledger: Ledger) -> None:
    """Check that an output is neither the ledger nor one of its sources.

    Raises:
        UsageError: The path is that of the ledger, its marks, or the data set that was scored.
    """
    data = ledger.manifest.get("data", {})
    sources = [
        ("the ledger itself", ledger.path),
        ("the file of the ledger's marks", marks_path(ledger.path)),
        ("the file of the ledger's scopes", scopes_path(ledger.path)),
        *(("the data set that was scored", Path(name)) for name in (data.get("source", "-"), *data.get("files", ()))),
    ]
    for what, source in sources:
        if path.exists() and source.exists() and path.samefile(source):
            raise UsageError(f"This is {what}", where=str(path), hint="Choose another name.")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path; on success, the file written there replaces `path`.

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
    """Open a file for UTF-8 text, without changing line ends; compressed with gzip if `packed`."""
    with path.open("wb") as raw, _packed(raw, packed=packed) as binary:
        stream = io.TextIOWrapper(binary, encoding="utf-8", newline="", errors="surrogatepass")
        yield stream
        stream.flush()
        stream.detach()


def _packed(raw: Any, *, packed: bool) -> Any:
    """Return the stream to write to; gzip has neither time stamp nor name, so equal texts give equal bytes."""
    return gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) if packed else raw


@dataclass(frozen=True, slots=True)
class UnixLines:
    r"""A stream for `csv.writer` that ends rows with \n; before Python 3.13, lineterminator="\n" left \r unquoted."""

    stream: TextIO

    def write(self, row: str) -> int:
        """Write a row and return how many characters were written."""
        return self.stream.write(row.removesuffix("\r\n") + "\n")
