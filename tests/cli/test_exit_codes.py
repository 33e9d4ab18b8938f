"""Every mistake ends with its exit code and one sentence, and leaves neither a traceback nor a file."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prefscope.errors import DataError
from prefscope.folders import log_folder

pytestmark = pytest.mark.slow

Program = Callable[..., tuple[int, str, str]]

MISTAKES: dict[str, tuple[str, str]] = {
    "missing file": ("score nowhere.jsonl --policy {policy} --ref {ref}", "nowhere.jsonl: there is no such file."),
    "nearly its name": ("score pair.jsonl --policy {policy} --ref {ref}", "Did you mean pairs.jsonl?"),
    "unknown loss": ("score {data} --loss dop", "There is no loss 'dop'. Did you mean 'dpop' or 'dpo'? Choose from:"),
    "no number": ("score {data} --loss dpo:beta=x", "--loss dpo:beta=x: 'x' is not a number."),
    "unknown parameter": ("score {data} --loss dpo:gamma=1", "Loss dpo has no parameter 'gamma'. It has: beta,"),
    "beta out of range": ("score {data} --beta -1", "Loss dpo: beta = -1 is out of range."),
    "loss twice": ("score {data} --loss dpo --loss dpo:beta=1", "Loss dpo is named twice."),
    "unknown option": ("score {data} --nonsense", "No such option: --nonsense. See prefscope score --help."),
    "mistyped option": ("score {data} --profle trl", "No such option: --profle. Did you mean --profile?"),
    "missing argument": ("score", "Missing argument"),
    "limit out of range": ("score {data} --limit 0", "--limit"),
    "unknown dtype": ("score {data} --dtype int8", "--dtype"),
    "beta no number": ("score {data} --beta much", "--beta"),
    "unknown command": ("xyzzy", "No command or file is named 'xyzzy'. Run prefscope --help for a list of commands."),
    "mistyped command": ("scor {data} --weights", "No command or file is named 'scor'. Did you mean score?"),
    "mistyped file": ("pair.jsonl", "No command or file is named 'pair.jsonl'. Did you mean pairs.jsonl?"),
    "no file": ("open nowhere", "No file is named 'nowhere'. Check the path."),
    "mistyped subcommand": ("parts pln", "No such command 'pln'. Did you mean 'plan'? See prefscope parts --help."),
    "help of no command": ("help parts pln", "No command is named 'pln'. Did you mean plan?"),
    "unknown suffix": ("score {data} -o x.xlsx", "No format has the suffix of 'x.xlsx'. Use one of .csv,"),
    "output twice": ("score {data} -o x.csv -o x.csv", "An output is named twice. Name each -o once."),
    "two ledgers": ("score {data} -o x.parquet -o y.parquet", "There are two ledgers to write: x.parquet, y.parquet."),
    "reference alone": (
        "score {data} --ref {ref}",
        "--ref and --base need a --policy. Pass --policy and --ref, or neither",
    ),
    "base alone": ("score {data} --base {ref}", "--ref and --base need a --policy."),
    "full policy alone": ("score {data} --policy {policy}", "--ref PATH, or --ref none for SimPO alone."),
    "noise without margins": (
        "score {data} --policy {policy} --ref none --noise-floor",
        "--noise-floor needs margins, but there are none with --ref none. Pass a reference with --ref.",
    ),
    "no adapter": ("score {data} --policy {policy} --ref base", "so a reference is required"),
    "no checkpoint": ("score {data} --policy empty --ref {ref}", "empty: this folder is not a checkpoint"),
    "a file": ("score {data} --policy pairs.jsonl --ref {ref}", "pairs.jsonl: this file is not a checkpoint."),
    "no folder": ("score {data} --policy ./nowhere --ref {ref}", "./nowhere: there is no such checkpoint."),
    "no template": ("score {data} --chat-template nowhere.jinja", "nowhere.jinja: the chat template cannot be read"),
    "half a mapping": ("score {data} --map prompt", "prompt"),
    "unknown layout": ("score {data} --format nonsense", "There is no dialect 'nonsense'"),
    "split of a file": ("score {data} --split train", "a split only applies to hub data sets"),
    "unknown device": ("score {data} --device nonsense", "Device 'nonsense' cannot be used"),
    "missing ledger": ("report nowhere.parquet", "nowhere.parquet: there is no such ledger."),
    "no ledger": ("report pairs.jsonl", "pairs.jsonl: this is not a complete Parquet file."),
    "unknown report": ("report {ledger} -o r.txt", "No report has the suffix of 'r.txt'. Use .md, .html or .svg."),
    "no output": ("export {ledger}", "Missing option '-o'"),
    "no place for the curated": ("curate {ledger}", "Missing option '-o'"),
    "unknown data set": ("curate {ledger} -o x.xlsx", "No format has the suffix of 'x.xlsx'. Use one of .jsonl,"),
    "nothing left": ("curate {ledger} -o x.jsonl --where false", "No pair is left to write."),
    "curated over the ledger": ("curate {ledger} -o {ledger}", "this is the ledger itself. Choose another name."),
    "unknown table": ("export {ledger} -o x.xlsx", "No format has the suffix of 'x.xlsx'."),
}


@pytest.fixture
def fill(samples: Path, tmp_path: Path) -> Callable[[str], list[str]]:
    """Return a function that turns a command line with placeholders into arguments."""
    names = {"data": samples / "pairs.jsonl", "policy": samples / "tiny-policy", "ref": samples / "tiny-ref"}
    (tmp_path / "empty").mkdir()
    (tmp_path / "pairs.jsonl").write_text("{}\n")

    def filled(command: str, **more: Path) -> list[str]:
        return [word.format(**names, **more) for word in command.split()]

    return filled


@pytest.mark.parametrize(("command", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_users_mistake_exits_with_2_and_a_sentence(
    program: Program, fill: Callable[..., list[str]], ledger: Path, command: str, message: str
) -> None:
    before = sorted(Path().rglob("*"))
    code, out, err = program(*fill(command, ledger=ledger))
    assert (code, out) == (2, "")
    assert message in err
    assert err.startswith("prefscope: ") or "\nprefscope: " in err
    assert "Traceback" not in err
    assert sorted(Path().rglob("*")) == before


def test_an_unknown_suffix_is_refused_before_anything_is_computed(
    program: Program, fill: Callable[..., list[str]]
) -> None:
    code, _, err = program(*fill("score {data} -o x.xlsx --cache cache"))
    assert code == 2
    assert err.count("\n") == 1
    assert not Path("cache").exists()


def test_a_loss_that_needs_the_missing_reference_is_refused_before_anything_is_computed(
    program: Program, fill: Callable[..., list[str]]
) -> None:
    command = "score {data} --policy {policy} --ref none --loss dpo --limit 1 --no-cache"
    code, _, err = program(*fill(command))
    assert code == 2
    assert "sequences to compute" not in err


@pytest.mark.parametrize(
    "command",
    [
        "score {data} --limit 2 -o file/x.parquet",
        "score {data} --limit 2 -o file/x.csv",
        "score {data} --limit 2 --cache file/cache",
        "export {ledger} -o file/x.csv",
        "export {ledger} -o file/x.parquet",
        "report {ledger} -o file/r.md",
    ],
)
def test_an_output_that_cannot_be_written_exits_with_3(
    program: Program, fill: Callable[..., list[str]], ledger: Path, command: str
) -> None:
    Path("file").write_text("")
    code, _, err = program(*fill(command, ledger=ledger))
    assert code == 3, err
    assert re.search(r"cannot be (written|used) \(", err)
    assert "file" in err


@pytest.mark.parametrize("name", ["own.jsonl", "own.parquet"])
def test_a_data_set_is_not_overwritten_by_its_own_scores(program: Program, samples: Path, name: str) -> None:
    rows = [json.loads(line) for line in (samples / "pairs.jsonl").read_text(encoding="utf-8").splitlines()[:2]]
    if name == "own.jsonl":
        Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        pq.write_table(pa.Table.from_pylist(rows), name)
    before = Path(name).read_bytes()
    assert program("score", name, "-o", name)[0] == 2
    assert Path(name).read_bytes() == before


def test_a_ledger_is_not_overwritten_by_its_own_table(program: Program, ledger: Path) -> None:
    copy = Path(shutil.copy(ledger, "own.parquet"))
    assert program("export", copy, "-o", "./own.parquet")[0] == 2
    assert copy.read_bytes() == ledger.read_bytes()


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_without_write_permission_exits_with_3(program: Program, ledger: Path) -> None:
    Path("locked").mkdir(mode=0o500)
    assert program("export", ledger, "-o", "locked/x.csv")[0] == 3


def test_a_hub_that_cannot_be_reached_exits_with_3(program: Program, fill: Callable[..., list[str]]) -> None:
    code, _, err = program(*fill("score {data} --policy someone/some-model --ref none"))
    assert code == 3
    assert "the hub cannot be reached" in err


def broken(*_: object) -> None:
    raise ZeroDivisionError("one deep inside")


def test_a_bug_exits_with_70_and_names_a_log_with_the_traceback(
    program: Program, ledger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prefscope.report.summary.wilson_interval", broken)
    code, out, err = program("report", ledger)
    log = log_folder() / "error.log"
    assert (code, out) == (70, "")
    assert err == f"prefscope: A bug in prefscope: ZeroDivisionError. Please report it with {log}\n"
    assert "ZeroDivisionError: one deep inside" in log.read_text()


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (RecursionError(), 2, "The input is nested too deeply. Flatten it; --debug shows what was being read."),
        (MemoryError(), 3, "There is not enough memory. Free memory, or read less at a time."),
    ],
    ids=["recursion", "memory"],
)
def test_what_any_input_can_cause_is_no_bug(
    program: Program, ledger: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int, told: str
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("prefscope.report.summary.wilson_interval", fail)
    assert program("report", ledger) == (code, "", f"prefscope: {told}\n")


def test_debug_shows_the_traceback_of_a_mistake(program: Program) -> None:
    from prefscope.cli.app import run
    from prefscope.errors import LedgerError

    with pytest.raises(LedgerError):
        run(["report", "nowhere.parquet"], debug=True)
    assert program("report", "nowhere.parquet")[0] == 2


def test_an_interrupt_exits_with_130_and_says_how_to_continue(
    program: Program, ledger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("prefscope.report.summary.wilson_interval", interrupted)
    code, _, err = program("report", ledger)
    assert code == 130
    assert err == "prefscope: Interrupted. Finished batches are kept: run the same command again to continue.\n"


@pytest.mark.parametrize("error", [RuntimeError("trying to pop from empty mode stack"), DataError("half a row")])
def test_an_error_of_what_an_interrupt_left_behind_is_an_interrupt(
    program: Program, ledger: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def interrupted(*_: object) -> None:
        try:
            raise KeyboardInterrupt
        finally:
            raise error

    monkeypatch.setattr("prefscope.report.summary.wilson_interval", interrupted)
    code, _, err = program("report", ledger)
    assert code == 130
    assert err == "prefscope: Interrupted. Finished batches are kept: run the same command again to continue.\n"
