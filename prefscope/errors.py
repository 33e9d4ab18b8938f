"""What can go wrong, as sentences: what happened, where, and what to do next.

Every error that a user can cause or meet is a `PrefscopeError`; its `exit_code` is what the command line returns.
This module imports nothing of the project.
"""

from __future__ import annotations

import errno

UNREADABLE = (ValueError, RecursionError, OverflowError, MemoryError)
"""What parsers raise for text that is damaged, nested too deeply, or holds a number or a size that is too large."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Numbers of the errors of a disk that takes no more."""


class PrefscopeError(Exception):
    """An error that is told as a sentence and never as a traceback."""

    exit_code = 2

    def __init__(self, what: str, *, where: str = "", hint: str = "") -> None:
        """Keep the parts of the sentence.

        Args:
            what: What happened, as a sentence without a full stop.
            where: The place: a file, `file:line`, or a pair.
            hint: What to do next, as a sentence.
        """
        self.what = what
        self.where = where
        self.hint = hint
        super().__init__(str(self))

    def __reduce__(self) -> tuple[object, ...]:
        # A worker's error is told by the process that started it.
        return _rebuilt, (type(self), self.what, self.where, self.hint)

    def __str__(self) -> str:
        # After a place the sentence goes on; without one it begins.
        first = self.what[:1].lower() if self.where else self.what[:1].upper()
        place = f"{self.where}: " if self.where else ""
        advice = f" {self.hint}" if self.hint else ""
        return f"{place}{first}{self.what[1:]}.{advice}"


class UsageError(PrefscopeError):
    """Options or arguments that do not fit together."""


class DataError(PrefscopeError):
    """A data set that cannot be read, or rows that are not preference pairs."""


class ModelError(PrefscopeError):
    """A checkpoint that cannot be loaded, or a policy and a reference that do not fit together."""


class VocabularyError(ModelError):
    """A policy and a reference of which a token in use differs in meaning."""


class TemplateError(ModelError):
    """Conversations, and no chat template to write them with."""


class LedgerError(PrefscopeError):
    """A ledger file that cannot be opened or written."""


class NewerLedgerError(LedgerError):
    """A ledger that a newer version has written."""


class DamagedLedgerError(LedgerError):
    """A ledger that is not as it was written."""


class MissingExtraError(PrefscopeError):
    """An optional package that is not installed."""

    def __init__(self, purpose: str, extra: str) -> None:
        """Name what needs the package and the command that installs it."""
        super().__init__(f"{purpose} needs an optional package", hint=f"Install it: pip install 'prefscope[{extra}]'")


class ResourceError(PrefscopeError):
    """The machine stopped the work: disk, memory or network."""

    exit_code = 3


def refusal_of(error: Exception) -> PrefscopeError | None:
    """Return the sentence for an error that an input or the machine can cause anywhere, None for what must be a bug."""
    if isinstance(error, PrefscopeError):
        return error
    if isinstance(error, OSError):
        return no_space(error)
    if isinstance(error, MemoryError):
        return ResourceError("There is not enough memory", hint="Free memory, or read less at a time.")
    if isinstance(error, RecursionError):
        return DataError("The input is nested too deeply", hint="Make it flatter; --debug shows what was being read.")
    return None


def no_space(error: OSError) -> ResourceError | None:
    """Return the sentence for a disk that is full, None for another error."""
    if error.errno not in FULL:
        return None
    return ResourceError(
        f"The disk is full ({error.strerror or error})",
        where=str(error.filename or ""),
        hint="Free disk space where outputs and temporary files (TMPDIR) go, and run the same command again.",
    )


def _rebuilt(kind: type[PrefscopeError], what: str, where: str, hint: str) -> PrefscopeError:
    """Return an error that came from another process."""
    error = kind.__new__(kind)
    PrefscopeError.__init__(error, what, where=where, hint=hint)
    return error
