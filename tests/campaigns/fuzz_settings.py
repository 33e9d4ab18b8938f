"""Hostile settings files, and hostile folders of parts: plans, manifests, run records and the parts themselves."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import typer

from prefscope.cli.app import EXIT_BUG, run
from prefscope.folders import log_folder, sample_data
from prefscope.ledger.table import load_ledger
from prefscope.pipeline.parts.folder import PartsFolder, sealed_json
from prefscope.pipeline.parts.merge import damaged_parts, merge, status_of
from prefscope.pipeline.parts.places import LocalFolder
from prefscope.pipeline.run import plan_parts, score
from prefscope.settings import ComputeSettings, DataSettings, DispatchSettings, ModelSettings, ScoreSettings
from tests.campaigns.fuzz_data import GIVEN
from tests.campaigns.fuzz_ledgers import content
from tests.campaigns.mutations import EXTREMES, damaged_bytes, damaged_json, json_text
from tests.campaigns.trials import Boundary, Read, Try, WrongValueError

_KEYS = (
    *("beta", "simpo-beta", "simpo-gamma", "loss", "weights", "diagnosis", "by", "where", "json", "fail-on", "keys"),
    *("format", "limit", "sample", "seed", "pairs", "skip-bad-rows", "texts", "no-tokens", "noise-floor", "dtype"),
    *("max-length", "truncation", "profile", "batch-tokens", "threads", "attn", "device", "theme", "map", "tp"),
    *("output", "policy", "cache", "parts", "workers", "gpus-per-worker", "template-date", "csv-safe", "split", "x"),
)
_TABLES = ("", "", "[score]\n", "[report]\n", "[lint]\n", "[parts]\n", "[keys]\n", "[score.seed]\n", "[[score]]\n")
_VALUES = (
    *("0", "1", "-1", "7", "0.5", "1e3", "inf", "-inf", "nan", "1e400", "9" * 30, "9" * 5000, "0x10", "1_000", "true"),
    *("false", '""', '"x"', '"5"', '"inf"', '"\u0663"', '"1_000"', '"dpo"', '"auto"', '"2026-01-31"', '"\\u0000"'),
    *("2026-01-31", "2026-01-31T00:00:00Z", "07:32:00", "[]", "[1]", '["dpo", "ipo"]', "[[1]]", "{}", "{a = 1}"),
    *("[" * 100_000, "{a=" * 50_000, '"\ud800"', "'''x'''", "+1", "[inf]", '["dpo:beta=nan"]', '"dpo:beta=1e400"'),
)


def settings_file(folder: Path) -> Try:
    """Write settings of all types under all names, in the working folder or the user's own, and run commands."""
    own = Path(folder / "config")
    ledger, rows = folder / "ledger.parquet", folder / "given.jsonl"
    rows.write_text("".join(json.dumps(GIVEN | {"prompt": str(number)}) + "\n" for number in range(4)))
    _run("score", str(rows), "-o", str(ledger))
    commands = [["losses"], ["losses", "--json"], ["report", str(ledger), "--json"], ["lint", str(rows)]]
    commands += [["score", str(rows), "-o", str(folder / "out.parquet")], ["export", str(ledger), "-o", "-"]]
    commands += [["parts", "status", str(folder)], ["report", str(ledger)]]

    def attempt(draw: Random) -> tuple[object, Read]:
        lines = [f"{draw.choice(_KEYS)} = {draw.choice(_VALUES)}" for _ in range(draw.choice((1, 1, 2)))]
        text = draw.choice(_TABLES) + "\n".join(lines) + "\n"
        if draw.random() < 0.1:
            text = damaged_bytes(draw, text.encode(errors="replace")).decode(errors="surrogateescape")
        for path in (Path("prefscope.toml"), own / "prefscope" / "prefscope.toml"):
            path.unlink(missing_ok=True)
        path = draw.choice((Path("prefscope.toml"), own / "prefscope" / "prefscope.toml"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", errors="surrogateescape" if "\udc80" in text else "replace")
        command = draw.choice(commands)
        return (command, str(path), text[:300]), lambda: _check_beta(text, *command)

    def prepared(draw: Random) -> tuple[object, Read]:
        shown, read = attempt(draw)

        def with_own() -> None:
            with _environment("XDG_CONFIG_HOME", str(own)):
                read()

        return shown, with_own

    return prepared


@contextlib.contextmanager
def _environment(name: str, value: str) -> Any:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before


def _check_beta(text: str, *command: str) -> None:
    """Run a command; if it accepts a beta, the summary must show it."""
    out = _run(*command)
    first = text.split("\n", 1)[0]
    if command[0] == "report" and "--json" in command and first in _BETAS:
        found = json.loads(out)["beta"]
        if found != _BETAS[first]:
            raise WrongValueError(f"{first} was read as {found}")


_BETAS = {"beta = 0.5": 0.5, "beta = 1e3": 1000.0, "beta = 7": 7.0, "beta = 1_000": 1000.0, "beta = 0x10": 16.0}


def _run(*command: str) -> str:
    """Run the program in this process and return its output.

    Raises:
        RuntimeError: It ends as a bug.
        typer.Exit: It refuses the command.
    """
    with contextlib.redirect_stdout(io.StringIO()) as out:
        code = run(command)
    if code == EXIT_BUG:
        raise RuntimeError((log_folder() / "error.log").read_text(encoding="utf-8")[-2000:])
    if code:
        raise typer.Exit(code)
    return out.getvalue()


def _planned(folder: Path) -> tuple[Path, str]:
    """Return a folder with all parts of the first bundled pairs, and the contents of their ledger."""
    data, top = folder / "pairs.jsonl", folder / "whole"
    lines = (sample_data() / "pairs.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    data.write_text("".join(lines[:5]), encoding="utf-8")
    settings = ScoreSettings(
        DataSettings(str(data)),
        ModelSettings(""),
        compute=ComputeSettings(str(folder / "cache")),
        dispatch=DispatchSettings(parts=str(top)),
    )
    plan_parts(str(top), settings, lambda _: None)
    path = score(settings, lambda _: folder / "ledger.parquet", lambda _: None)
    return top, content(load_ledger(path))


def folder_of_parts(folder: Path) -> Try:
    """Damage the files of a folder of parts; if they still merge, the numbers must be the same.

    Some of the damage is to values, under digests that are right for them: a merge may then be of other numbers.
    """
    whole, expected = _planned(folder)
    names = sorted(path.relative_to(whole).as_posix() for path in whole.rglob("*") if path.is_file())
    top = folder / "damaged"

    def attempt(draw: Random) -> tuple[object, Read]:
        shutil.rmtree(top, ignore_errors=True)
        shutil.copytree(whole, top)
        name = draw.choice(names)
        sealed = draw.random() < 0.6
        shown = _damage_sealed(draw, top, name) if sealed else _damage_bytes(draw, top / name)

        def read() -> None:
            parts = PartsFolder(LocalFolder(top))
            step = draw.randrange(4)
            if step == 0:
                status_of(parts).to_json()
            elif step == 1:
                list(damaged_parts(parts, lambda _: None))
            else:
                path = merge(parts, None, lambda *_: folder / "merged.parquet", lambda _: None)
                if not sealed and content(load_ledger(path)) != expected:
                    raise WrongValueError(f"{name}: the merged ledger has other values")

        return (name, shown), read

    return attempt


def _damage_bytes(draw: Random, path: Path) -> str:
    raw = damaged_bytes(draw, path.read_bytes())
    path.write_bytes(raw)
    return f"{len(raw)} bytes"


def _damage_sealed(draw: Random, top: Path, name: str) -> str:
    """Damage a file and fix its digests, like an attacker."""
    path = top / name
    if path.suffix == ".parquet":
        return _damage_part(draw, path)
    if path.suffix == ".json" and path.name != "tokens.json":
        value = json.loads(path.read_bytes())
        value.pop("digest", None)
        changed = damaged_json(draw, value)
        sealable = isinstance(changed, dict)
        try:
            path.write_bytes(sealed_json(changed) if sealable else json_text(draw, changed).encode())
        except UnicodeEncodeError:
            path.write_bytes(json.dumps(changed).encode())
        return str(changed)[:1500]
    raw = damaged_bytes(draw, path.read_bytes())
    if path.name == "tokens.json":
        raw = json_text(draw, damaged_json(draw, json.loads(path.read_bytes()))).encode(errors="replace")
    path.write_bytes(raw)
    plan = json.loads((top / "plan" / "plan.json").read_bytes())
    plan.pop("digest")
    plan["digests"][path.name] = hashlib.blake2b(raw, digest_size=16).hexdigest()
    (top / "plan" / "plan.json").write_bytes(sealed_json(plan))
    return f"{len(raw)} bytes"


def _damage_part(draw: Random, path: Path) -> str:
    """Write a part with odd values, digests or metadata."""
    table = pq.read_table(path)
    rows = table.to_pylist()
    match draw.choice(("drop", "value", "metadata", "double", "column")):
        case "drop":
            rows.pop(draw.randrange(len(rows)))
        case "double":
            rows.append(rows[0])
        case "value":
            rows[0]["logps"] = draw.choice((None, [], [None], [float("nan")], [3.0] * 4, [-1.0] * 10_000))
        case "metadata":
            text = json_text(draw, draw.choice((EXTREMES, {"scope": "x"}, [1]))).encode(errors="replace")
            table = table.replace_schema_metadata({b"prefscope_part": text})
        case "column":
            pq.write_table(table.rename_columns(["digest", "other"]), path)
            return "another column"
    content_ = json.loads(table.schema.metadata[b"prefscope_part"] or b"{}") if draw.random() < 0.7 else {}
    if isinstance(content_, dict) and "sequences" in content_:
        table = table.replace_schema_metadata({b"prefscope_part": json.dumps(content_ | {"sequences": len(rows)})})
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)
    return str(rows)[:500]


_NAMED: dict[str, tuple[int, Callable[[Path], Try]]] = {
    "settings file": (1500, settings_file),
    "folder of parts": (1200, folder_of_parts),
}
BOUNDARIES = [Boundary(name, inputs, prepare) for name, (inputs, prepare) in _NAMED.items()]
