"""Paths of the files and folders that prefscope uses on this machine."""

from __future__ import annotations

import filecmp
import shutil
from pathlib import Path

import platformdirs

from prefscope.private import make_file, make_folder

SAMPLE_FOLDER = "sample_data"
DEMO = ("demo.parquet", "demo-early.parquet")
"""Two checkpoints of one training run."""
_NO_PATTERN = str.maketrans("*?[]", "____")


def cache_folder(asked: str | None) -> Path:
    """Return the folder of the log-prob store."""
    return Path(asked).expanduser() if asked else platformdirs.user_cache_path("prefscope")


def store_path(asked: str | None) -> Path:
    """Return the file of the log-prob store."""
    return cache_folder(asked) / "logps.sqlite"


def unnamed_ledger(source: str, run_name: str) -> Path:
    """Return the default path of a run's ledger, named after the data set and the run."""
    name = Path(source).name or Path(source).resolve().name
    stem = "stdin" if source == "-" else name.split(".")[0].translate(_NO_PATTERN) or "data"
    return platformdirs.user_data_path("prefscope") / "ledgers" / f"{stem}-{run_name}.parquet"


def unnamed_run_folder(checkpoints: str, name: str) -> Path:
    """Return the default run folder of a training, named after its folder of checkpoints and what is scored how."""
    stem = checkpoints.translate(_NO_PATTERN) or "checkpoints"
    return platformdirs.user_data_path("prefscope") / "runs" / f"{stem}-{name}"


def log_folder() -> Path:
    """Return the folder of logs of internal errors."""
    return platformdirs.user_log_path("prefscope")


def worker_log(process: int | str) -> Path:
    """Return the log of the worker with that process id."""
    return log_folder() / f"worker-{process}.log"


def sample_data() -> Path:
    """Return the folder of the bundled pairs, tiny models and demo ledgers.

    In a wheel, it is inside the package; in a checkout, beside it.

    Raises:
        FileNotFoundError: If the installation is incomplete.
    """
    package = Path(__file__).resolve().parent
    for folder in (package / SAMPLE_FOLDER, package.parent / SAMPLE_FOLDER):
        if (folder / "pairs.jsonl").is_file():
            return folder
    raise FileNotFoundError(f"{SAMPLE_FOLDER} is neither in nor beside {package}")


def demo_ledgers() -> list[Path]:
    """Return copies of the bundled ledgers in the user's data folder, so that marks are not written to the package.

    Raises:
        OSError: If they cannot be copied.
        FileNotFoundError: If the installation is incomplete.
    """
    folder = platformdirs.user_data_path("prefscope") / "demo"
    make_folder(folder)
    copies = [folder / name for name in DEMO]
    for copy in copies:
        bundled = sample_data() / copy.name
        if not copy.is_file() or not filecmp.cmp(bundled, copy, shallow=False):
            part = copy.with_suffix(".part")
            make_file(part)
            shutil.copyfile(bundled, part)
            part.replace(copy)
    return copies
