"""Shell completion in bash, zsh and fish."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

BASH = shutil.which("bash") or ""
SHELLS = {
    "bash": lambda line: {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))},
    "zsh": lambda line: {"_TYPER_COMPLETE_ARGS": line},
    "fish": lambda line: {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
}


def complete(shell: str, line: str, environment: dict[str, str], **more: str) -> subprocess.CompletedProcess[str]:
    """Ask for the completions of a line, as the script of a shell does."""
    variables = {"_PREFSCOPE_COMPLETE": f"complete_{shell}", **SHELLS[shell](line), **more}
    command = [sys.executable, "-m", "prefscope"]
    return subprocess.run(command, env=environment | variables, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("prefscope sc", ["score"]),
        ("prefscope parts m", ["merge"]),
        ("prefscope score data.jsonl --simpo", ["--simpo-beta", "--simpo-gamma"]),
        ("prefscope score data.jsonl --engine r", ["ray"]),
        ("prefscope data/train.j", []),
    ],
    ids=["command", "subcommand", "option", "value", "file"],
)
def test_bash_completes_commands_options_and_values(
    environment: dict[str, str], line: str, expected: list[str]
) -> None:
    done = complete("bash", line, environment)
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, expected, "")


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_get_completions_with_their_help(environment: dict[str, str], shell: str) -> None:
    out = complete(shell, "prefscope scor", environment).stdout
    assert "score" in out
    assert "Score a preference data set" in out


def test_fish_is_sent_to_files_where_nothing_completes(environment: dict[str, str]) -> None:
    action = {"_TYPER_COMPLETE_FISH_ACTION": "is-args"}
    codes = [complete("fish", f"prefscope {word}", environment, **action).returncode for word in ("scor", "data/")]
    assert codes == [0, 1]


@pytest.mark.skipif(not BASH, reason="needs bash")
def test_the_installed_script_completes_in_bash(environment: dict[str, str], tmp_path: Path) -> None:
    program = tmp_path / "bin" / "prefscope"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m prefscope "$@"\n')
    program.chmod(0o755)
    own = environment | {"PATH": f"{program.parent}{os.pathsep}{environment['PATH']}", "HOME": str(tmp_path)}
    script = (
        "prefscope --install-completion >&2 && . ~/.bash_completions/prefscope.sh && "
        "COMP_WORDS=(prefscope repo) COMP_CWORD=1 && _prefscope_completion prefscope && echo ${COMPREPLY[@]}"
    )
    done = subprocess.run([BASH, "-c", script], env=own, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "report\n"), done.stderr
    assert "bash completion installed" in done.stderr
    assert "prefscope.sh" in (tmp_path / ".bashrc").read_text()
