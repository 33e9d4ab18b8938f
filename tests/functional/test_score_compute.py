"""What is computed, stored and returned: the store, the tokens, and the Python API."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import prefscope
from prefscope.errors import DataError, UsageError
from prefscope.events import BatchScored, Event, Finished, Planned
from prefscope.ledger.columns import LOGPS
from prefscope.ledger.table import Ledger, load_ledger
from prefscope.settings import ComputeSettings, DataSettings

pytestmark = pytest.mark.slow

Program = Callable[..., tuple[int, str, str]]


def test_a_second_run_computes_nothing_and_gives_an_identical_ledger(
    program: Program, pairs: Path, models: list[str]
) -> None:
    arguments = ("score", pairs, *models, "--cache", "cache", "-o")
    _, _, first = program(*arguments, "first.parquet")
    _, _, second = program(*arguments, "second.parquet")
    assert "policy: 10 of 10 sequences to compute" in first
    assert "policy: all 10 sequences are in the store, nothing to compute" in second
    assert "ref: all 10 sequences are in the store, nothing to compute" in second
    one, other = (load_ledger(f"{name}.parquet") for name in ("first", "second"))
    assert [one.pair(i) for i in range(6)] == [other.pair(i) for i in range(6)]
    assert one.manifest | {"created": ""} == other.manifest | {"created": ""}


def test_a_grown_data_set_computes_only_the_new_sequences(
    program: Program, rows: list[dict[str, Any]], models: list[str], write_jsonl: Callable[..., Path]
) -> None:
    for count in (3, 4):
        data = write_jsonl("pairs.jsonl", rows[:count])
        _, _, told = program("score", data, *models, "--cache", "cache")
    new = {str(rows[3]["prompt"] + rows[3][side]) for side in ("chosen", "rejected")}
    old = {str(row["prompt"] + row[side]) for row in rows[:3] for side in ("chosen", "rejected")}
    assert f"policy: {len(new - old)} of {len(new | old)} sequences to compute" in told


def test_another_policy_reuses_the_scored_reference(
    program: Program, pairs: Path, samples: Path, models: list[str]
) -> None:
    program("score", pairs, *models, "--cache", "cache")
    _, _, told = program(
        "score", pairs, "--policy", samples / "tiny-base", "--ref", samples / "tiny-ref", "--cache", "cache"
    )
    assert "policy: 10 of 10 sequences to compute" in told
    assert "ref: all 10 sequences are in the store" in told


def test_nothing_is_stored_without_a_cache(program: Program, pairs: Path, models: list[str]) -> None:
    for _ in range(2):
        _, _, told = program("score", pairs, *models, "--no-cache", "--cache", "cache", "-o", "out.parquet")
        assert "policy: 10 of 10 sequences to compute" in told
    assert not Path("cache").exists()


def test_a_sum_equals_the_sum_over_its_tokens(scored: Ledger) -> None:
    for i in range(scored.num_pairs):
        pair = scored.pair(i)
        for name in LOGPS:
            tokens = np.array(pair[name.replace("_logps", "_token_logps")], dtype=np.float32)
            assert pair[name] == tokens.sum(dtype=np.float64)
            assert len(tokens) == pair[f"{name.split('_')[1]}_num_tokens"]


def test_the_tokens_spell_the_response(scored: Ledger, rows: list[dict[str, Any]]) -> None:
    for i, row in enumerate(rows):
        written = b"".join(
            text.encode().decode("unicode_escape").encode("latin-1") if "\\x" in text else text.encode()
            for text in scored.pair(i)["chosen_tokens"]
        )
        assert written.decode() == row["chosen"][0]["content"] + "<|end|>"


def test_sums_are_kept_if_tokens_are_left_out(program: Program, pairs: Path, models: list[str], scored: Ledger) -> None:
    assert program("score", pairs, *models, "--no-tokens", "-o", "out.parquet")[0] == 0
    ledger = load_ledger("out.parquet")
    assert not ledger.has_tokens
    assert "chosen_tokens" not in ledger.pair(0)
    assert ledger.stored["policy_chosen_logps"].tolist() == scored.stored["policy_chosen_logps"].tolist()


def test_an_unnamed_ledger_is_written_to_the_users_data_folder(
    program: Program, pairs: Path, models: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    code, _, told = program("score", pairs, *models)
    (path,) = (tmp_path / "data" / "prefscope" / "ledgers").iterdir()
    assert code == 0
    assert path.name.startswith("pairs-")
    assert told.endswith(f"\nledger: {path}\nopen it: prefscope view {path}\n")


def test_a_run_emits_events_for_its_plan_its_batches_and_its_end(pairs: Path, samples: Path, tmp_path: Path) -> None:
    events: list[Event] = []
    prefscope.score(
        pairs,
        samples / "tiny-policy",
        samples / "tiny-ref",
        compute=ComputeSettings(cache_dir=str(tmp_path / "cache"), batch_tokens=128),
        output=tmp_path / "out.parquet",
        emit=events.append,
    )
    planned = [event for event in events if isinstance(event, Planned)]
    batches = [event for event in events if isinstance(event, BatchScored)]
    assert [(event.role, event.pairs, event.missing, event.resumed) for event in planned] == [
        ("policy", 6, 10, False),
        ("ref", 6, 10, False),
    ]
    for plan in planned:
        done = [event for event in batches if event.role == plan.role]
        assert [event.batch for event in done] == list(range(len(done)))
        assert sum(event.sequences for event in done) == plan.missing
        assert sum(event.tokens for event in done) == plan.tokens
        assert sum(event.computed for event in done) == plan.computed < plan.tokens < plan.padded
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert (finished.ledger, finished.pairs) == (str(tmp_path / "out.parquet"), 6)
    assert finished.scoring_seconds == pytest.approx(sum(event.seconds for event in batches))


def test_the_python_function_gives_the_same_ledger_as_the_command(
    program: Program, pairs: Path, models: list[str], scored: Ledger
) -> None:
    program("score", pairs, *models, "-o", "out.parquet")
    assert isinstance(scored, prefscope.Ledger)
    assert [load_ledger("out.parquet").pair(i) for i in range(6)] == [scored.pair(i) for i in range(6)]


def test_the_data_frame_has_the_cells_of_the_csv(program: Program, pairs: Path, models: list[str]) -> None:
    program("score", pairs, *models, "-o", "out.parquet", "-o", "out.csv", "--texts", "--beta", "0.3")
    frame = prefscope.load_ledger("out.parquet").to_pandas(beta=0.3, texts=True)
    with Path("out.csv").open(newline="", encoding="utf-8") as stream:
        cells = list(csv.DictReader(stream))
    assert list(frame.columns) == list(cells[0])
    assert [[str(value) for value in row] for row in frame.to_numpy(dtype=object)] == [list(r.values()) for r in cells]


def test_the_python_function_accepts_data_settings(pairs: Path, samples: Path, tmp_path: Path) -> None:
    ledger = prefscope.score(
        str(pairs),
        str(samples / "tiny-policy"),
        "none",
        data_settings=DataSettings("ignored", limit=2),
        output=tmp_path / "out.parquet",
    )
    assert ledger.num_pairs == 2
    assert not ledger.has_reference


def test_the_python_function_raises_the_messages_of_the_command(pairs: Path, samples: Path) -> None:
    with pytest.raises(UsageError, match="so a reference is required"):
        prefscope.score(pairs, samples / "tiny-policy")
    with pytest.raises(DataError, match="there is no such file"):
        prefscope.score("nowhere.jsonl", samples / "tiny-policy", "none")
