"""Errors for users: each message states what happened, where, and what to do next.

Every error that a user can cause or run into is a `PrefscopeError`; the command line exits with its `exit_code`.
This module does not import any other module of the project.
"""

from __future__ import annotations

import errno

UNREADABLE = (ValueError, RecursionError, OverflowError, MemoryError)
"""Exceptions that parsers raise for text that is damaged, too deeply nested, or has too large a number or size."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Error numbers of a full disk, an exceeded quota and a file size limit."""


class PrefscopeError(Exception):
    """An error that is shown to the user as a message, without a traceback."""

    exit_code = 2

    def __init__(self, what: str, *, where: str = "", hint: str = "") -> None:
        """Create an error from the parts of its message.

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
        # Errors of a worker are pickled and shown by the process that started it.
        return _rebuilt, (type(self), self.what, self.where, self.hint)

    def __str__(self) -> str:
        # The first letter is upper case unless a place precedes it.
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
    """A policy and a reference whose tokenizers disagree on a token in use."""


class TemplateError(ModelError):
    """Conversations that cannot be rendered because there is no chat template."""


class LedgerError(PrefscopeError):
    """A ledger file that cannot be opened or written."""


class NewerLedgerError(LedgerError):
    """A ledger written by a newer version."""


class DamagedLedgerError(LedgerError):
    """A ledger whose content has changed since it was written."""


class MissingExtraError(PrefscopeError):
    """An optional package that is not installed."""

    def __init__(self, purpose: str, extra: str) -> None:
        """Create an error that names the purpose of the package and the command that installs it."""
        super().__init__(f"{purpose} needs an optional package", hint=f"Install it: pip install 'prefscope[{extra}]'")


class ResourceError(PrefscopeError):
    """Too little disk space or memory, or no network access."""

    exit_code = 3


def refusal_of(error: Exception) -> PrefscopeError | None:
    """Convert an error that input or the machine can cause to a `PrefscopeError`; return None if it must be a bug."""
    if isinstance(error, PrefscopeError):
        return error
    if isinstance(error, OSError):
        return no_space(error)
    if isinstance(error, MemoryError):
        return ResourceError("There is not enough memory", hint="Free memory, or read less at a time.")
    if isinstance(error, RecursionError):
        return DataError("The input is nested too deeply", hint="Flatten it; --debug shows what was being read.")
    return None


def was_interrupted(error: BaseException) -> bool:
    """Return whether an error is ctrl+C, or arose while ctrl+C was ending what had been started."""
    chain: list[BaseException] = [error]
    for one in chain:  # grows as it is read; causes and contexts may form a ring
        chain += [other for other in (one.__cause__, one.__context__) if other is not None and other not in chain]
    return any(isinstance(one, KeyboardInterrupt) for one in chain)


def no_space(error: OSError) -> ResourceError | None:
    """Convert the error of a full disk; return None for any other error."""
    if error.errno not in FULL:
        return None
    return ResourceError(
        f"The disk is full ({error.strerror or error})",
        where=str(error.filename or ""),
        hint="Free disk space for outputs and temporary files (TMPDIR), and run the same command again.",
    )


def _rebuilt(kind: type[PrefscopeError], what: str, where: str, hint: str) -> PrefscopeError:
    """Recreate a pickled error."""
    error = kind.__new__(kind)
    PrefscopeError.__init__(error, what, where=where, hint=hint)
    return error
