"""Fill the disk at many steps of a run: python -m tests.campaigns.full_disk [STEPS].

As root a run has a small disk (tmpfs) of its own, for cache, outputs, stdout and temporary files; otherwise no file of
it may grow beyond a size. Each run ends with exit code 3 and a sentence that names a file or stdout, its outputs are
whole or absent, and with more space the same command gives the bytes of an undisturbed run.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.campaigns.kills import WAYS, command, leftovers, preload, results, start

STEPS = 60
ROOM = 64 << 20
EXIT_RESOURCE = 3
_FULL = re.compile(r"No space left on device|File too large|disk is full|full", re.IGNORECASE)
_BLOCK = 4096


class Disk(Protocol):
    """A folder with a limited number of bytes."""

    def resize(self, size: int) -> None:
        """Change its size."""

    def limit(self) -> None:
        """Limit the process that writes to it."""


@dataclass(slots=True)
class SmallDisk:
    """A separate file system."""

    folder: Path

    def resize(self, size: int) -> None:
        """Remount it with another size."""
        kind = (
            ["-o", f"remount,size={size}"] if self.folder.is_mount() else ["-t", "tmpfs", "-o", f"size={size}", "tmpfs"]
        )
        subprocess.run(["mount", *kind, str(self.folder)], check=True)  # noqa: S607 (root's own)

    def limit(self) -> None:
        """Do nothing: the disk itself is small."""


@dataclass(slots=True)
class SmallFiles:
    """A folder with a limit on the size of files."""

    folder: Path
    size: int = ROOM

    def resize(self, size: int) -> None:
        """Change the limit."""
        self.size = size

    def limit(self) -> None:
        """Make writes beyond the limit fail."""
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, self.size))


def outcome(arguments: list[str], disk: Disk, folder: Path, size: int, expected: tuple[bytes, bytes]) -> str:
    """Return the outcomes of a run on a disk of some bytes, and of its repetition with more."""
    disk.resize(ROOM)
    _empty(folder)
    disk.resize(size)
    told = folder.with_suffix(".stderr")
    code = start(arguments, prepare=lambda: _prepare(disk, folder, told))
    lines = told.read_text(encoding="utf-8").splitlines()
    if problem := _wrong(folder, code, lines, expected):
        return f"BUG: {problem}"
    disk.resize(ROOM)
    again = start(arguments, prepare=lambda: _prepare(disk, folder, told))
    if again != 0 or results(folder) != expected:
        return f"BUG: with space again it ends with {again}, or with something else"
    return "refused, then as undisturbed" if code == EXIT_RESOURCE else "fits"


def _prepare(disk: Disk, folder: Path, told: Path) -> None:
    """Send stdout and temporary files to the disk, and stderr elsewhere."""
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
    with told.open("w", encoding="utf-8") as stream:
        os.dup2(stream.fileno(), 2)
    with contextlib.suppress(OSError), (folder / "stdout").open("w", encoding="utf-8") as out:
        os.dup2(out.fileno(), 1)
    disk.limit()


def _wrong(folder: Path, code: int | None, lines: list[str], expected: tuple[bytes, bytes]) -> str:
    """Return what is wrong with a run on a full disk, empty if nothing is."""
    last = lines[-1] if lines else ""
    if code == 0:
        return "" if results(folder) == expected else "a run that fits gives something else"
    if code != EXIT_RESOURCE or any("Traceback" in line for line in lines):
        return f"it ends with {code}: {last}"
    named = str(folder) in last or "stdout" in last
    if not (last.startswith("prefscope: ") and named and _FULL.search(last)):
        return f"its last line names no file or no full disk: {last}"
    for name, whole in zip(("out.parquet", "out.csv"), expected, strict=True):
        if (folder / name).exists() and (folder / name).read_bytes() != whole:
            return f"{name} is half written"
    return f"{found[0]} is left" if (found := leftovers(folder)) else ""


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


@contextlib.contextmanager
def opened(top: Path) -> Iterator[tuple[Disk, Path]]:
    """Yield a disk and its folder."""
    folder = top / "disk"
    folder.mkdir()
    if os.geteuid() != 0:
        yield SmallFiles(folder), folder
        return
    disk = SmallDisk(folder)
    try:
        disk.resize(ROOM)
        yield disk, folder
    finally:
        subprocess.run(["umount", str(folder)], check=False)  # noqa: S607 (root's own)


def campaign(steps: int, disk: Disk, folder: Path, note: Callable[[str], object]) -> Counter[str]:
    """Return the outcomes of runs on disks of several sizes, evenly spaced up to the size of an undisturbed run."""
    found = Counter[str]()
    for way in WAYS:
        arguments = command(way, folder)
        preload(arguments)
        _empty(folder)
        if start(arguments, prepare=lambda: _prepare(disk, folder, folder.with_suffix(".stderr"))) != 0:
            found[f"{way}: BUG: an undisturbed run fails"] += 1
            continue
        expected = results(folder)
        sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
        taken = max(sizes) if isinstance(disk, SmallFiles) else sum(sizes)
        for number in range(steps // len(WAYS)):
            size = _BLOCK + int(5 * taken * number * len(WAYS) / steps) // _BLOCK * _BLOCK
            name = outcome(arguments, disk, folder, size, expected)
            note(f"{way}, {size:,} bytes: {name}\n")
            found[f"{way}: {name}"] += 1
    return found


def main() -> int:
    """Print the number of each outcome; return 1 if a full disk was not reported or data was lost."""
    with tempfile.TemporaryDirectory() as top, opened(Path(top)) as (disk, folder):
        steps = int(sys.argv[1]) if len(sys.argv) > 1 else STEPS
        found = campaign(steps, disk, folder, sys.stderr.write)
    for name, times in sorted(found.items()):
        sys.stdout.write(f"{name}: {times}\n")
    return int(any("BUG" in name for name in found))


if __name__ == "__main__":
    sys.exit(main())
