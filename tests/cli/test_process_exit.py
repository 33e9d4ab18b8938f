"""A process ends with its own exit code even if native threads are running; exit functions run before."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SOURCE = Path(__file__).with_name("delayed_gil.c")
ENDING = "from prefscope.process_exit import run_and_exit\n"
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def python(environment: dict[str, str]) -> Run:
    """Return a function that runs a script, with more of an environment."""

    def start(script: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, env=environment | more, check=False
        )

    return start


@pytest.fixture
def delayed(tmp_path: Path) -> dict[str, str]:
    """Return the environment that delays threads where they take the GIL."""
    compiler = shutil.which("cc")
    if sys.platform != "linux" or compiler is None or not sysconfig.get_config_var("Py_ENABLE_SHARED"):
        pytest.skip("it takes a C compiler, Linux and a shared libpython")
    library = tmp_path / "delayed_gil.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, SOURCE, "-ldl"], check=True)
    return {"LD_PRELOAD": str(library)}


def test_a_refused_data_set_ends_with_exit_code_2_however_late_threads_take_the_gil(
    python: Run, delayed: dict[str, str], samples: Path
) -> None:
    rows = (samples / "pairs.jsonl").read_text(encoding="utf-8").splitlines()[:4]
    Path("data.jsonl").write_text("\n".join([*rows, '{"no": "pair"}']) + "\n", encoding="utf-8")
    done = python("from prefscope.cli import main; main(['score', 'data.jsonl', '-o', 'x.parquet'])", **delayed)
    assert (done.returncode, "terminate called" in done.stderr) == (2, False)


def test_a_thread_that_waits_for_the_gil_does_not_abort_the_process(python: Run, delayed: dict[str, str]) -> None:
    script = f"""{ENDING}
import io, pyarrow.parquet as pq, pyarrow as pa, threading
sink = io.BytesIO()
pq.write_table(pa.table({{"a": list(range(1000))}}), sink)

def main():
    file = pa.PythonFile(sink)
    threading.Thread(target=lambda: pq.read_table(sink), daemon=True).start()
    return 7

run_and_exit(main)
"""
    done = python(script, **delayed)
    assert (done.returncode, done.stderr) == (7, "")


def test_the_exit_functions_run_and_the_streams_are_flushed(python: Run) -> None:
    script = f"""{ENDING}
import atexit, sys, threading, time
atexit.register(print, "exit function")
threading.Thread(target=lambda: print("thread")).start()

def main():
    print("main")
    sys.stderr.write("told")
    return 5

run_and_exit(main)
"""
    done = python(script)
    assert (done.returncode, sorted(done.stdout.split("\n")), done.stderr) == (
        5,
        ["", "exit function", "main", "thread"],
        "told",
    )


def test_an_error_that_nobody_caught_ends_with_a_traceback_and_exit_code_1(python: Run) -> None:
    done = python(f"{ENDING}run_and_exit(lambda: [][0])")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "IndexError: list index out of range"


def test_an_output_that_cannot_be_flushed_at_exit_is_a_failure(python: Run) -> None:
    script = f"{ENDING}import sys; sys.stdout = open('/dev/full', 'w'); sys.stdout.write('x'); run_and_exit(lambda: 0)"
    assert python(script).returncode == 3
