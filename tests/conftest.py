"""What all tests share: private user folders, no network, one torch thread a worker, the bundled samples."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

from prefscope.cli.app import run
from prefscope.data.dialects import normalise
from prefscope.data.records import PreferencePair, SourceRow
from prefscope.data.sources import open_source
from prefscope.environment import silence_libraries
from prefscope.folders import sample_data

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

os.environ["HF_HUB_OFFLINE"] = "1"
silence_libraries()  # as the program does for itself
os.environ["TEXTUAL_FPS"] = "500"  # screens repaint at the next tick of their clock, and tests wait for it
if "PYTEST_XDIST_WORKER" in os.environ:  # threads of two workers on two cores wait for each other: 20 times slower
    os.environ.setdefault("OMP_NUM_THREADS", "1")

hypothesis.settings.register_profile("prefscope", deadline=None)
hypothesis.settings.load_profile("prefscope")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Count exhaustive tests among the slow ones, so that `-m "not slow"` leaves out both."""
    for item in items:
        if item.get_closest_marker("exhaustive"):
            item.add_marker(pytest.mark.slow)


def pytest_collection_finish() -> None:
    """Spare what exists by now, torch and TRL among it, from the garbage collection that follows every model."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _private_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep every test out of the developer's own cache, ledgers and settings."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("PREFSCOPE_")]:
            patch.delenv(name)
        for name in ("XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME"):
            patch.setenv(name, str(home / name.lower()))
        yield


@pytest.fixture(scope="session")
def samples() -> Path:
    """Return the folder of the bundled pairs and tiny models."""
    return sample_data()


@pytest.fixture(scope="session")
def bundled_pairs(samples: Path) -> list[PreferencePair]:
    """Return the bundled pairs, which are conversations."""
    with closing(open_source(str(samples / "pairs.jsonl"))) as source:
        return [normalise(row)[0] for row in source.rows() if isinstance(row, SourceRow)]


@pytest.fixture(scope="session")
def tiny_tokenizer(samples: Path) -> PreTrainedTokenizerBase:
    """Return the tokenizer of the bundled tiny models: byte-level, with a chat template and no BOS."""
    from transformers import AutoTokenizer, PreTrainedTokenizerBase  # slow to import, and few tests need it

    tokenizer = AutoTokenizer.from_pretrained(samples / "tiny-policy")
    assert isinstance(tokenizer, PreTrainedTokenizerBase)
    return tokenizer


@pytest.fixture
def program(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Return a function that runs a command line and returns its exit code, stdout and stderr."""

    def call(*arguments: str | Path) -> tuple[int, str, str]:
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return call
