"""What is to be written where: checked, told as a command line, and written by running it."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from prefscope.errors import UsageError
from prefscope.ledger.table import Ledger
from prefscope.preference.registry import find_loss, resolve_parameters
from prefscope.report.curate import curated_suffix
from prefscope.report.export import export_suffix
from prefscope.report.files import refuse_sources
from prefscope.settings import PreferenceSettings


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """Some pairs of a ledger for a file: the flat table, or the data set as it is marked."""

    ledger: Ledger
    preferences: PreferenceSettings
    output: Path
    where: str = ""
    """The expression that picks the pairs; empty for all of them."""
    curated: bool = False
    texts: bool = False
    weights: bool = False

    @property
    def command(self) -> str:
        """The command line that writes the file."""
        return shlex.join(self._words())

    def _words(self) -> Iterator[str]:
        ledger = str(self.ledger.path)
        yield from ("prefscope", "curate" if self.curated else "export", f"./{ledger}" if ledger[0] == "-" else ledger)
        if self.where:
            yield from ("--where", self.where)
        if self.where or not self.curated:
            yield from self._knobs()
        if not self.curated:
            yield from (option for option, on in (("--texts", self.texts), ("--weights", self.weights)) if on)
        yield from ("-o", str(self.output))

    def _knobs(self) -> Iterator[str]:
        """Yield beta and the losses, all of them: settings and environment may have other defaults."""
        yield from ("--beta", str(float(self.preferences.beta)))
        for choice in self.ledger.usable_losses(self.preferences):
            given = choice.parameters
            if not find_loss(choice.name).needs_reference:  # options of the command line are its defaults
                given = resolve_parameters(choice, self.preferences)
            parameters = ",".join(f"{name}={float(value)}" for name, value in given.items())
            yield from ("--loss", f"{choice.name}:{parameters}" if parameters else choice.name)

    def check(self) -> None:
        """Refuse what could not be written.

        Raises:
            UsageError: The file cannot be written there, is one that is read, or has no format's suffix.
        """
        if not self.output.name:
            raise UsageError("A file has to be named", hint="For example pairs.csv.")
        (curated_suffix if self.curated else export_suffix)(self.output.name)
        try:
            self._check_place()
        except OSError as error:  # a name too long, a folder that may not be looked into
            raise UsageError(f"This path cannot be used ({error.strerror})", hint="Name another.") from error

    def _check_place(self) -> None:
        folder = self.output.parent
        if not folder.is_dir():
            raise UsageError("There is no such folder", where=str(folder), hint="Make it, or name another.")
        if self.output.is_dir():
            raise UsageError("This is a folder", where=str(self.output), hint="Name a file in it.")
        if not os.access(folder, os.W_OK):
            raise UsageError("You may not write into this folder", where=str(folder), hint="Name another.")
        refuse_sources(self.output, self.ledger)

    def write(self) -> str:
        """Write the file by running the command line, and return what went wrong as sentences; nothing did if empty.

        A process of its own leaves the screens all of theirs: long loops do not hold them up, and pyarrow, which
        imports pandas to write Parquet, does so elsewhere.
        """
        command = [sys.executable, "-P", "-m", *self._words()]  # -P: no module is taken from the working folder
        environment = os.environ | {"PYTHONIOENCODING": "utf-8"}
        try:
            done = subprocess.run(  # noqa: S603 (no shell, and the program is our own)
                command, stdin=subprocess.DEVNULL, capture_output=True, env=environment, check=False
            )
        except OSError as error:
            return f"No process could be started to write {self.output} ({error.strerror})."
        if not done.returncode:
            return ""
        told = f"\n{done.stderr.decode(errors='replace')}".rpartition("\nprefscope: ")[2].strip()
        return told or f"{self.output} was not written: the process ended with {done.returncode}."
