"""A full disk ends a command with exit code 3 and one sentence; outputs are whole or absent."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from prefscope.errors import ResourceError, no_space
from prefscope.ledger.table import load_ledger
from prefscope.pipeline.spool import Spool

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")]  # noqa: PTH110 (short)
FULL_TMPDIR = 4096
MAIN = "from prefscope.cli import main; main({!r})"


def on_full_stdout(*arguments: str, environment: dict[str, str]) -> tuple[int, list[str]]:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        done = subprocess.run(
            [sys.executable, "-c", MAIN.format(list(arguments))],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            check=False,
        )
    return done.returncode, done.stderr.splitlines()


@pytest.mark.parametrize(
    "arguments",
    [
        ("report", "LEDGER"),
        ("report", "LEDGER", "--json"),
        ("export", "LEDGER", "-o", "-"),
        ("curate", "LEDGER", "-o", "-"),
        ("compare", "LEDGER", "COPY"),
        ("lint", "PAIRS"),
        ("doctor", "PAIRS", "--pairs", "2"),
        ("parity", "PAIRS", "--json"),
        ("losses",),
        ("losses", "--json"),
        ("cache",),
        ("--help",),
        ("--version",),
    ],
    ids=" ".join,
)
def test_a_full_stdout_ends_with_exit_code_3_and_one_sentence(
    arguments: tuple[str, ...], ledger: Path, samples: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    copy = tmp_path / "copy.parquet"
    copy.write_bytes(ledger.read_bytes())
    files = {"LEDGER": str(ledger), "COPY": str(copy), "PAIRS": str(samples / "pairs.jsonl")}
    code, message = on_full_stdout(*(files.get(one, one) for one in arguments), environment=environment)
    assert code == 3
    assert message[-1].startswith("prefscope: ")
    assert "(No space left on device). Free disk space" in message[-1]
    assert not any("Traceback" in line or "Exception ignored" in line for line in message)


@pytest.mark.parametrize("name", ["out.csv", "out.jsonl.gz", "out.parquet"])
def test_an_export_that_does_not_fit_is_absent(name: str, ledger: Path, environment: dict[str, str]) -> None:
    code, message = limited(2_000, "export", str(ledger), "--texts", "-o", name, environment=environment)
    assert (code, len(message)) == (3, 1)
    assert f"{name}: this file cannot be written" in message[0]
    assert [path.name for path in Path().iterdir()] == []


@pytest.mark.parametrize("size", [0, 3_000, 6_000])
def test_a_ledger_that_does_not_fit_is_absent_and_written_when_there_is_space(
    size: int, environment: dict[str, str]
) -> None:
    sums = {f"{role}_{side}_logps": -1.5 for role in ("policy", "ref") for side in ("chosen", "rejected")}
    rows = [{"prompt": f"p{number}", "chosen": "c", "rejected": "r", **sums} for number in range(20)]
    Path("given.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    arguments = ("score", "given.jsonl", "-o", "out.parquet")
    code, told = limited(size, *arguments, environment=environment)
    assert code == 3
    assert told[-1].startswith("prefscope: out.parquet: the ledger cannot be written (")
    assert "File too large). Free disk space" in told[-1]
    assert [path.name for path in Path().iterdir()] == ["given.jsonl"]
    assert limited(1 << 20, *arguments, environment=environment)[0] == 0
    assert load_ledger("out.parquet").stored["policy_chosen_logps"].tolist() == [-1.5] * 20


def test_a_score_whose_temporary_file_does_not_fit_ends_with_exit_code_3(
    samples: Path, environment: dict[str, str]
) -> None:
    code, message = limited(2_000, "score", str(samples / "pairs.jsonl"), "-o", "out.parquet", environment=environment)
    assert code == 3
    assert message[-1].startswith("prefscope: ")
    assert not Path("out.parquet").exists()


def test_a_pipe_that_does_not_fit_into_the_temporary_folder_ends_with_exit_code_3(
    samples: Path, environment: dict[str, str]
) -> None:
    data = (samples / "pairs.jsonl").read_bytes()
    code, message = limited(FULL_TMPDIR, "lint", "-", environment=environment, data=data)
    assert code == 3
    assert "piped input cannot be written to a temporary file (File too large)" in message[-1]


def limited(size: int, *arguments: str, environment: dict[str, str], data: bytes = b"") -> tuple[int, list[str]]:
    """Run a command that can write no file beyond a size."""
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size})); "
    done = subprocess.run(
        [sys.executable, "-B", "-c", limit + MAIN.format(list(arguments))],
        input=data,
        capture_output=True,
        env=environment,
        check=False,
    )
    return done.returncode, done.stderr.decode().splitlines()


def test_closing_a_spool_whose_data_cannot_be_written_raises_nothing(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    before = os.dup(spool._file.fileno())
    with Path("/dev/full").open("wb") as full:
        os.dup2(full.fileno(), spool._file.fileno())
    spool._file.write(b"x")
    spool.close()
    os.close(before)
    assert spool._file.closed


def test_only_a_full_disk_is_reported_as_one() -> None:
    assert isinstance(no_space(OSError(errno.ENOSPC, "No space left on device")), ResourceError)
    assert no_space(OSError(errno.EACCES, "Permission denied")) is None
