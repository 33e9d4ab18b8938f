"""The file of --chat-template."""

from __future__ import annotations

from pathlib import Path

from prefscope.errors import UsageError

LARGEST_TEMPLATE = 1 << 20


def read_template(path: Path | None) -> str | None:
    """Return the text of a chat template, or None without a file.

    Raises:
        UsageError: The file cannot be read, or is too large.
    """
    if path is None:
        return None
    try:
        with path.open(encoding="utf-8") as stream:
            text = stream.read(LARGEST_TEMPLATE + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"The chat template cannot be read ({error})", where=str(path)) from error
    if len(text) > LARGEST_TEMPLATE:
        raise UsageError(f"The chat template has more than {LARGEST_TEMPLATE:,} characters", where=str(path))
    return text
