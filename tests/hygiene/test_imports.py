"""Heavy packages are imported only where needed; each claim is tested in a new interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

LEDGER = Path(__file__).with_name("ledger-v1.parquet")
PAIRS = Path(__file__).parents[2] / "sample_data" / "pairs.jsonl"
HEAVY = ("torch", "transformers", "pandas", "pyarrow", "textual")

WITHOUT_TORCH = """
import sys

class Refusing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "transformers"}:
            raise RuntimeError(f"{name} is imported")

sys.meta_path.insert(0, Refusing())
from prefscope.cli.app import run
sys.exit(run(sys.argv[1:], debug=True))
"""

LIGHT_ROOMS = """
import importlib, pkgutil, sys
import prefscope.data, prefscope.ledger, prefscope.preference

names = ["prefscope.settings", "prefscope.events", "prefscope.errors", "prefscope.folders"]
names += ["prefscope.pipeline.ready_made", "prefscope.worker"]
names += [f"prefscope.scoring.{name}" for name in ("packing", "store", "sequences", "checkpoints", "tokenization")]
for room in (prefscope.data, prefscope.ledger, prefscope.preference):
    names += [module.name for module in pkgutil.walk_packages(room.__path__, f"{room.__name__}.")]
for name in names:
    importlib.import_module(name)
print(len(names), *sorted({"torch", "transformers", "pandas", "textual", "rich"} & sys.modules.keys()))
"""


def run(*command: str) -> str:
    """Return the last line printed by a new interpreter."""
    environment = os.environ | {"PYTHONIOENCODING": "utf-8"}
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().rpartition("\n")[2]


def loaded_after(code: str) -> list[str]:
    return run("-c", f"{code}\nimport sys\nprint('loaded', *({set(HEAVY)} & sys.modules.keys()))").split()[1:]


@pytest.mark.parametrize(
    "code",
    [
        "import prefscope",
        "from prefscope.cli.app import run; run(['--help'])",
        "from prefscope.cli.app import run; run(['--version'])",
        "from prefscope.cli.app import run; run(['score', '--help'])",
        "from prefscope.cli.app import run; run(['doctor', '--help'])",
        "from prefscope.cli.app import run; run(['losses'])",
        "from prefscope import dpo_loss, implicit_reward; dpo_loss(-50.0, -60.0, -52.0, -58.0)",
    ],
    ids=["import", "help", "version", "help of score", "help of doctor", "losses", "a formula"],
)
def test_a_quick_command_loads_nothing_heavy(code: str) -> None:
    assert loaded_after(code) == []


def test_packages_without_models_load_neither_torch_nor_textual() -> None:
    count, *heavy = run("-c", LIGHT_ROOMS).split()
    assert int(count) > 25
    assert heavy == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["report", str(LEDGER)],
        ["report", str(LEDGER), "--json"],
        ["export", str(LEDGER), "-o", "-", "--texts"],
        ["export", str(LEDGER), "-o", "{folder}/x.parquet"],
        ["report", str(LEDGER), "-o", "{folder}/r.html"],
        ["curate", str(LEDGER), "-o", "{folder}/c.parquet"],
        ["lint", str(PAIRS), "--tokenizer", str(PAIRS.with_name("tiny-ref")), "--fail-on", "none"],
    ],
    ids=["report", "json", "csv", "parquet", "html", "curated", "lint"],
)
def test_a_ledger_can_be_read_without_torch(arguments: list[str], tmp_path: Path) -> None:
    run("-c", WITHOUT_TORCH, *(argument.format(folder=tmp_path) for argument in arguments))


def test_the_screens_load_neither_torch_nor_pandas_even_when_exporting_parquet(tmp_path: Path) -> None:
    code = """
import asyncio, sys
from pathlib import Path
from prefscope.ledger.table import load_ledger
from prefscope.settings import PreferenceSettings
from prefscope.tui.app import PrefscopeApp
from prefscope.tui.model.session import Session

async def look():
    shown, beside = (load_ledger(Path(path)) for path in sys.argv[1:3])
    async with PrefscopeApp(Session(shown, PreferenceSettings(), [beside])).run_test() as pilot:
        for key in "123456":
            await pilot.press(key)
            await pilot.pause()
        await pilot.press("e", *sys.argv[3], "enter")
        await pilot.app.workers.wait_for_complete()

asyncio.run(look())
print(*sorted({"torch", "transformers", "pandas"} & sys.modules.keys()))
"""
    assert run("-c", code, str(LEDGER), str(LEDGER), str(tmp_path / "x.parquet")) == ""
    assert (tmp_path / "x.parquet").is_file()


def test_existing_log_probs_become_a_ledger_without_torch(tmp_path: Path) -> None:
    names = "policy_chosen_logps,policy_rejected_logps,ref_chosen_logps,ref_rejected_logps"
    (tmp_path / "given.csv").write_text(f"{names}\n-50,-60,-52,-58\n")
    options = ["-o", str(tmp_path / "x.parquet"), "--json", "--loss", "dpo"]
    run("-c", WITHOUT_TORCH, "score", str(tmp_path / "given.csv"), *options)
    assert (tmp_path / "x.parquet").is_file()


def test_a_data_frame_needs_no_torch() -> None:
    code = "import prefscope, sys; prefscope.load_ledger(sys.argv[1]).to_pandas(); print('torch' in sys.modules)"
    assert run("-c", code, str(LEDGER)) == "False"
