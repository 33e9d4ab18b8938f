"""Tests that need a process: terminals, closed pipes and interrupts."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import sqlite3
import struct
import subprocess
import sys
import termios
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest
from rich.cells import cell_len

from prefscope.settings import DataSettings, ModelSettings, ScoreSettings, TokenizationSettings

pytestmark = pytest.mark.slow

LEDGER = Path(__file__).parent.parent / "hygiene" / "ledger-v1.parquet"  # its names are short, so its headline is too
ANSI = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
COLOUR = re.compile(r"\x1b\[(?:[0-9;]*;)?[39][0-8][0-9;]*m")
# A background job of a shell ignores interrupts, and its children inherit that.
INTERRUPTIBLE = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from prefscope.cli import main; main(sys.argv[1:])"
)


def on_terminal(arguments: list[str], environment: dict[str, str], columns: int) -> str:
    """Return the output of a command line on a terminal that is `columns` wide."""
    main, other = os.openpty()
    fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    command = [sys.executable, "-m", "prefscope", *arguments]
    terminal = environment | {"TERM": "xterm-256color"}
    with subprocess.Popen(command, stdin=other, stdout=other, stderr=other, env=terminal) as process:
        os.close(other)
        shown = b""
        with suppress(OSError):  # Linux ends a terminal that nobody holds with an error
            while part := os.read(main, 1 << 16):
                shown += part
    os.close(main)
    assert process.returncode == 0
    return shown.decode()


@pytest.mark.parametrize("columns", [80, 120])
def test_on_a_terminal_every_line_of_a_report_fits_its_width(environment: dict[str, str], columns: int) -> None:
    lines = ANSI.sub("", on_terminal(["report", str(LEDGER)], environment, columns)).splitlines()
    assert len(lines) > 30
    assert [line for line in lines if cell_len(line) > columns] == []


def test_on_a_terminal_a_report_has_colours_and_off_it_nothing_but_text(environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "prefscope", "report", str(LEDGER)]
    piped = subprocess.run(command, env=environment, capture_output=True, check=True).stdout
    assert COLOUR.search(on_terminal(["report", str(LEDGER)], environment, 120))
    assert b"\x1b" not in piped


def test_a_wish_for_no_colours_is_honoured(environment: dict[str, str]) -> None:
    assert not COLOUR.search(on_terminal(["report", str(LEDGER)], environment | {"NO_COLOR": "1"}, 120))


@pytest.mark.parametrize(
    "arguments",
    [["report", str(LEDGER)], ["export", str(LEDGER), "-o", "-", "--texts"], ["losses"], ["--help"]],
    ids=["report", "export", "losses", "help"],
)
def test_a_closed_pipe_is_not_an_error(environment: dict[str, str], arguments: list[str]) -> None:
    """Do what `| head -1` does once it has its line."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "prefscope", *arguments]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, env=environment, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")


def num_committed(store: Path) -> int:
    """Return how many sequences a store holds by now, 0 before it is there."""
    with suppress(sqlite3.OperationalError), closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as db:
        return int(db.execute("SELECT COUNT(*) FROM sequences").fetchone()[0])
    return 0


def test_an_interrupted_run_exits_with_130_and_can_be_continued(environment: dict[str, str], samples: Path) -> None:
    options = ["--batch-tokens", "64", "--threads", "1", "--cache", "cache", "-o", "out.parquet"]
    command = [sys.executable, "-c", INTERRUPTIBLE, "score", str(samples / "pairs.jsonl"), *options]
    store = Path("cache/logps.sqlite")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True) as run:
        while num_committed(store) == 0 and run.poll() is None:
            time.sleep(0.05)
        run.send_signal(signal.SIGINT)
        out, err = run.communicate(timeout=60)
    assert run.returncode == 130, err
    assert out == ""
    assert err.endswith("prefscope: Interrupted. Finished batches are kept: run the same command again to continue.\n")
    assert "Traceback" not in err
    assert 0 < num_committed(store) < 600
    assert not Path("out.parquet").exists()


def test_the_module_runs_as_the_program_does(environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "prefscope", "report", "nowhere.parquet"]
    done = subprocess.run(command, capture_output=True, env=environment, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "prefscope: nowhere.parquet: there is no such ledger. Create one with prefscope score.\n"


ENDLESS = "{% for _ in range(100000) %}" * 3 + "{% endfor %}" * 3
SIGNALLED_WHILE_RENDERING = """
import os, signal, sys
from transformers import PreTrainedTokenizerBase
from prefscope.scoring import template_limits
signal.signal(signal.SIGINT, signal.default_int_handler)
template_limits.SECONDS = 1e9
render, signals = PreTrainedTokenizerBase.apply_chat_template, [getattr(signal, sys.argv.pop(1))]
def render_with_signal(*args, **kwargs):
    while signals:
        os.kill(os.getpid(), signals.pop())
    return render(*args, **kwargs)
PreTrainedTokenizerBase.apply_chat_template = render_with_signal
"""


def test_an_interrupt_is_heard_while_a_chat_template_does_not_end(environment: dict[str, str], samples: Path) -> None:
    Path("endless.jinja").write_text(ENDLESS)
    program = SIGNALLED_WHILE_RENDERING + "from prefscope.cli import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", program, "SIGINT", "score", str(samples / "pairs.jsonl")]
    done = subprocess.run(
        [*command, "--chat-template", "endless.jinja"], capture_output=True, env=environment, timeout=60, check=False
    )
    assert done.returncode == 130, done.stderr
    assert b"Traceback" not in done.stderr


def test_a_worker_ends_at_once_while_a_chat_template_does_not_end(environment: dict[str, str], samples: Path) -> None:
    tokenization = TokenizationSettings(chat_template=ENDLESS)
    settings = ScoreSettings(DataSettings(str(samples / "pairs.jsonl")), ModelSettings(""), tokenization)
    request = json.dumps({"settings": settings.to_json(), "ledger": None}) + "\n"
    program = SIGNALLED_WHILE_RENDERING + "from prefscope.worker import main; sys.exit(main())"
    command = [sys.executable, "-c", program, "SIGTERM"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment) as worker:
        assert worker.stdin is not None
        worker.stdin.write(request.encode())
        worker.stdin.flush()
        assert worker.wait(timeout=60) == -signal.SIGTERM
