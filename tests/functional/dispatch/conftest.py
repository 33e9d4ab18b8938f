"""A data set of several shards, the results of an undisturbed run, and an object store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from prefscope.pipeline import shard_scorer
from prefscope.settings import ScoreSettings
from tests.functional.dispatch.object_store import Store, running_store
from tests.functional.dispatch.shards import BATCH_TOKENS, OPTIONS, call, cut_by_pairs, cut_by_tokens, distinct_pairs
from tests.functional.runs import Outcome, run, settings_of


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory, write_jsonl: Callable[..., Path]) -> Path:
    """Return a file of short pairs in which no sequence occurs twice."""
    return write_jsonl(tmp_path_factory.mktemp("data") / "pairs.jsonl", distinct_pairs())


@pytest.fixture(scope="module")
def shards_by_tokens() -> Iterator[None]:
    """Limit shards to few tokens, in all tests of a module."""
    with pytest.MonkeyPatch.context() as patch:
        cut_by_tokens(patch)
        yield


@pytest.fixture
def shards_by_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limit shards to few pairs."""
    cut_by_pairs(monkeypatch)


@pytest.fixture(scope="session")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return the table of a run of one process, with shards of few tokens."""
    table = tmp_path_factory.mktemp("whole") / "whole.csv"
    with pytest.MonkeyPatch.context() as patch:
        cut_by_tokens(patch)
        assert call("score", data, *OPTIONS, "--no-cache", "-o", table) == 0
    return table.read_bytes()


@pytest.fixture(scope="session")
def settings(data: Path) -> ScoreSettings:
    """Return the settings of a run over all pairs."""
    return settings_of(data=data, batch_tokens=BATCH_TOKENS)


@pytest.fixture(scope="session")
def policy_alone(data: Path) -> ScoreSettings:
    """Return the settings of a run over all pairs without a reference."""
    return settings_of(ref="none", data=data, batch_tokens=BATCH_TOKENS)


@pytest.fixture(scope="session")
def undisturbed(settings: ScoreSettings, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Return a run over all pairs, with shards of few pairs."""
    with pytest.MonkeyPatch.context() as patch:
        cut_by_pairs(patch)
        patch.chdir(tmp_path_factory.mktemp("undisturbed"))
        return run(settings)


@pytest.fixture
def single_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try work that kills its process only once as a shard, once as a batch and once as a sequence."""
    monkeypatch.setattr(shard_scorer, "TRIES", 1)
    monkeypatch.setattr(shard_scorer, "TRIES_IN_PIECES", 1)


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    """Return an object store."""
    with running_store() as store:
        yield store
