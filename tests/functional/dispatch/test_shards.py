"""A data set of several shards: planned and scored one by one, with the numbers of a single shard."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerBase

from prefscope.data.dialects import normalise
from prefscope.data.records import SourceRow
from prefscope.data.sources import open_source
from prefscope.events import BatchScored, Event
from prefscope.pipeline.shards import plan_shard
from prefscope.scoring.engine import start_batch
from prefscope.scoring.planning import draw_sample
from prefscope.scoring.sequences import TokenSequence
from prefscope.scoring.tokenization import PairTokenizer, TokenizedPair
from prefscope.settings import ScoreSettings, TokenizationSettings
from tests.functional.dispatch.shards import (
    BATCH_TOKENS,
    CHUNK,
    LAST_SHARD,
    PAIRS,
    SAMPLE,
    read_rows,
)
from tests.functional.runs import NATS_A_TOKEN, Outcome, largest_difference, run, settings_of

pytestmark = pytest.mark.slow


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[list[bytes]]:
    """Return a list that is filled with the digests of each computed batch."""
    batches: list[list[bytes]] = []

    def watch(model: Any, path: Any, sequences: Sequence[TokenSequence], *more: Any) -> Any:
        batches.append([sequence.digest() for sequence in sequences])
        return start_batch(model, path, sequences, *more)

    monkeypatch.setattr("prefscope.pipeline.dispatch.local.start_batch", watch)
    return batches


def digests_of(data: Path, tokenizer: PreTrainedTokenizerBase) -> list[tuple[bytes, bytes]]:
    """Return the digests of both sequences of each pair."""
    with closing(open_source(str(data))) as source:
        pairs = [normalise(row)[0] for row in source.rows() if isinstance(row, SourceRow)]
    found = PairTokenizer(tokenizer, TokenizationSettings(), 1024, frozenset()).tokenize(pairs)
    return [(item.chosen.digest(), item.rejected.digest()) for item in found if isinstance(item, TokenizedPair)]


@pytest.mark.usefixtures("shards_by_pairs")
def test_the_sample_is_planned_first_then_every_shard_for_both_models(
    settings: ScoreSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned: list[tuple[str, int]] = []

    def watch(store: Any, key: Any, shard: Any, model: Any, budget: Any) -> Any:
        planned.append((model.role, shard.number))
        return plan_shard(store, key, shard, model, budget)

    monkeypatch.setattr("prefscope.pipeline.shard_scorer.plan_shard", watch)
    run(settings)
    assert planned == [(role, number) for number in range(LAST_SHARD + 1) for role in ("policy", "ref")]


def test_shards_give_the_log_probs_of_one_shard(undisturbed: Outcome, settings: ScoreSettings) -> None:
    whole = run(settings)
    assert len(whole.batches) < len(undisturbed.batches)
    for role in ("policy", "ref"):
        assert largest_difference(undisturbed.token_logps(role), whole.token_logps(role)) < NATS_A_TOKEN


def test_the_batches_add_up_to_the_announced_plan(undisturbed: Outcome) -> None:
    for role, plan in undisturbed.plans.items():
        batches = [batch for batch in undisturbed.batches if batch.role == role]
        assert (plan.pairs, plan.sequences, plan.missing) == (PAIRS, 2 * PAIRS, 2 * PAIRS)
        assert sum(batch.sequences for batch in batches) == plan.missing
        assert sum(batch.tokens for batch in batches) == plan.tokens
        assert sum(batch.computed for batch in batches) == plan.computed < plan.tokens < plan.padded


@pytest.mark.usefixtures("shards_by_pairs")
def test_results_stored_by_another_run_are_not_in_the_announced_plan(
    policy_alone: ScoreSettings,
    data: Path,
    write_jsonl: Callable[..., Path],
    scored: list[list[bytes]],
    tiny_tokenizer: PreTrainedTokenizerBase,
) -> None:
    digests = digests_of(data, tiny_tokenizer)
    some = write_jsonl("some.jsonl", read_rows(data)[35:45])
    run(settings_of(ref="none", data=some))
    scored.clear()
    outcome = run(policy_alone)
    plan = outcome.plans["policy"]
    assert (plan.sequences, plan.missing) == (2 * PAIRS, 2 * PAIRS - 20)
    assert sum(batch.computed for batch in outcome.batches) == plan.computed
    computed = {digest for batch in scored for digest in batch}
    assert computed == {digest for pair in digests[:35] + digests[45:] for digest in pair}


@pytest.mark.usefixtures("shards_by_pairs")
def test_the_first_batches_are_the_pairs_of_a_seeded_random_sample(
    policy_alone: ScoreSettings, data: Path, scored: list[list[bytes]], tiny_tokenizer: PreTrainedTokenizerBase
) -> None:
    digests = digests_of(data, tiny_tokenizer)
    run(policy_alone)
    sample = draw_sample(PAIRS, policy_alone.data.seed).tolist()
    assert len(sample) == SAMPLE
    wanted = {digest for pair in sample for digest in digests[pair]}
    first: set[bytes] = set()
    for batch in scored:
        if len(first) == len(wanted):
            break
        first |= set(batch)
    assert first == wanted


@pytest.mark.usefixtures("shards_by_pairs")
def test_a_sequence_of_the_sample_or_of_two_shards_is_scored_once(
    data: Path,
    write_jsonl: Callable[..., Path],
    scored: list[list[bytes]],
    tiny_tokenizer: PreTrainedTokenizerBase,
) -> None:
    rows = read_rows(data)
    again = write_jsonl("again.jsonl", [*rows[:40], *rows[:30], {**rows[5], "rejected": rows[25]["rejected"]}])
    outcome = run(settings_of(ref="none", data=again, batch_tokens=BATCH_TOKENS))
    wanted = {digest for pair in digests_of(again, tiny_tokenizer) for digest in pair}
    computed = [digest for batch in scored for digest in batch]
    assert len(computed) == len(wanted) == 81  # the response to another prompt is a sequence of its own
    assert set(computed) == wanted
    columns = outcome.table.drop_columns(["row", "line"])
    assert columns.slice(0, 30).equals(columns.slice(40, 30))


@pytest.mark.usefixtures("shards_by_pairs")
def test_only_two_shards_of_sequences_are_in_memory_at_a_time(policy_alone: ScoreSettings) -> None:
    alive: list[int] = []

    def count(event: Event) -> None:
        if isinstance(event, BatchScored) and event.batch % 4 == 0:
            alive.append(sum(type(thing) is TokenSequence for thing in gc.get_objects()))

    run(policy_alone, count)
    assert len(alive) > LAST_SHARD
    assert max(alive) <= 2 * 2 * 2 * CHUNK < 2 * PAIRS
