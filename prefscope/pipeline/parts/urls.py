"""Folders and URLs of parts: parsing and display."""

from __future__ import annotations

import re
import urllib.parse
from pathlib import Path

from prefscope.errors import UsageError
from prefscope.pipeline.parts.places import LocalFolder, Place, without_secrets

STORES = ("s3", "gs")
_SCHEME = re.compile(r"(s3|gs|file|[a-z][a-z0-9+.-]*(?=://)):", re.IGNORECASE)


def place_of(text: str) -> Place:
    """Return the place of a folder or URL.

    Raises:
        UsageError: If the URL is invalid or its scheme is not supported.
        ResourceError: If the object store cannot be reached, or the bucket does not exist.
    """
    scheme = scheme_of(text)
    if scheme is None:
        return LocalFolder(Path(text))
    if scheme == "file":
        return LocalFolder(Path(_local_path(text)))
    if scheme not in STORES:
        raise UsageError(
            f"Parts cannot be stored at {scheme}://",
            where=without_secrets(text),
            hint="Pass a folder, s3://BUCKET/FOLDER or gs://BUCKET/FOLDER.",
        )
    from prefscope.pipeline.parts.object_store import open_store  # loads pyarrow's file systems

    return open_store(text)


def address(text: str) -> str:
    """Return a folder as an absolute path, and a URL unchanged, for use in other processes."""
    return text if scheme_of(text) in STORES else str(Path(_local_path(text)).resolve())


def shown_place(text: str) -> str:
    """Return the display name of a folder or URL, without credentials."""
    return without_secrets(text) if scheme_of(text) in STORES else str(Path(_local_path(text)))


def scheme_of(text: str) -> str | None:
    """Return the scheme of a URL in lower case, or None for a folder.

    >>> scheme_of("S3://bucket/run"), scheme_of("/shared/run"), scheme_of("s3/run")
    ('s3', None, None)
    """
    found = _SCHEME.match(text)
    return found[1].lower() if found else None


def _local_path(text: str) -> str:
    """Return the path of a folder or a file URL."""
    if scheme_of(text) != "file":
        return text
    parts = urllib.parse.urlsplit(text)
    if parts.netloc not in ("", "localhost") or parts.query or parts.fragment or not parts.path.strip("/"):
        raise UsageError(
            "This URL is not a folder on this machine", where=without_secrets(text), hint="Write file:///…."
        )
    return urllib.parse.unquote(parts.path)
