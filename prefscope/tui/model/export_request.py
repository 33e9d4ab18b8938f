"""An export of pairs to a file: validated, shown as a command line, and run in a subprocess."""

from __future__ import annotations

import os
import shlex
import subprocess
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
from prefscope.subprocesses import module_command


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """A request to write pairs of a ledger to a file: as a flat table, or as a data set curated by its marks."""

    ledger: Ledger
    preferences: PreferenceSettings
    output: Path
    where: str = ""
    """Filter expression that selects the pairs; empty: all pairs."""
    curated: bool = False
    texts: bool = False
    weights: bool = False

    @property
    def command(self) -> str:
        """The command line that writes the file."""
        return shlex.join(self._words())

    def _words(self) -> Iterator[str]:
        ledger = str(self.ledger.saved_at)
        yield from ("prefscope", "curate" if self.curated else "export", f"./{ledger}" if ledger[0] == "-" else ledger)
        if self.where:
            yield from ("--where", self.where)
        if self.where or not self.curated:
            yield from self._knobs()
        if not self.curated:
            yield from (option for option, on in (("--texts", self.texts), ("--weights", self.weights)) if on)
        yield from ("-o", str(self.output))

    def _knobs(self) -> Iterator[str]:
        """Yield options for beta and every loss, since settings files and the environment may change the defaults."""
        yield from ("--beta", str(float(self.preferences.beta)))
        for choice in self.ledger.usable_losses(self.preferences):
            values = choice.parameters
            if not find_loss(choice.name).needs_reference:  # its defaults are command-line options
                values = resolve_parameters(choice, self.preferences)
            parameters = ",".join(f"{name}={float(value)}" for name, value in values.items())
            yield from ("--loss", f"{choice.name}:{parameters}" if parameters else choice.name)

    def check(self) -> None:
        """Check that the file can be written.

        Raises:
            UsageError: If the path is not writable, is an input of the export, or has an unknown suffix.
        """
        if not self.output.name:
            raise UsageError("Enter a file name", hint="For example pairs.csv.")
        (curated_suffix if self.curated else export_suffix)(self.output.name)
        try:
            self._check_folder()
        except OSError as error:  # the name is too long, or the folder is not accessible
            raise UsageError(f"This path cannot be used ({error.strerror})", hint="Choose another.") from error

    def _check_folder(self) -> None:
        folder = self.output.parent
        if not folder.is_dir():
            raise UsageError("This folder does not exist", where=str(folder), hint="Create it, or choose another.")
        if self.output.is_dir():
            raise UsageError("This is a folder", where=str(self.output), hint="Add the name of a file in it.")
        if not os.access(folder, os.W_OK):
            raise UsageError("No permission to write to this folder", where=str(folder), hint="Choose another.")
        refuse_sources(self.output, self.ledger)

    def write(self) -> str:
        """Write the file by running the command line; return an error message, empty on success.

        A separate process keeps the screens responsive during long loops, and keeps pandas, which pyarrow imports to
        write Parquet, out of this process.
        """
        program, *arguments = self._words()
        command = [*module_command(program), *arguments]
        environment = os.environ | {"PYTHONIOENCODING": "utf-8"}
        try:
            done = subprocess.run(  # noqa: S603 (no shell, and the program is prefscope itself)
                command, stdin=subprocess.DEVNULL, capture_output=True, env=environment, check=False
            )
        except OSError as error:
            return f"Could not start a process to write {self.output} ({error.strerror})."
        if not done.returncode:
            return ""
        message = f"\n{done.stderr.decode(errors='replace')}".rpartition("\nprefscope: ")[2].strip()
        return message or f"{self.output} was not written: the process exited with code {done.returncode}."
