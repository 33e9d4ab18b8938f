"""The parts of a data set that are planned and scored one after the other: a random sample, then windows.

A part is planned when its turn comes, for what the store lacks by then, and its plan is kept until the run is finished:
an interrupted run goes on with the very same batches, so its numbers are the very same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prefscope.pipeline.residents import ScoredModel
from prefscope.pipeline.spool import Spool
from prefscope.scoring.planning import computed_tokens, draw_sample, in_windows, plan_batches, trainer_tokens
from prefscope.scoring.sequences import TokenSequence
from prefscope.scoring.store import LogpStore, sequence_key

WINDOW_TOKENS = 1 << 23
"""Tokens of the sequences that are in memory at one time, texts aside."""
WINDOW_PAIRS = 16_384
WEIGHT_OF_A_PAIR = WINDOW_TOKENS // WINDOW_PAIRS


@dataclass(frozen=True, slots=True)
class Part:
    """Distinct sequences of some pairs."""

    number: int
    sequences: tuple[TokenSequence, ...]
    digests: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Amount:
    """How much a model has to compute."""

    sequences: int = 0
    missing: int = 0
    tokens: int = 0
    computed: int = 0
    padded: int = 0
    longest: int = 0

    def plus(self, other: Amount) -> Amount:
        """Return both together."""
        return Amount(
            self.sequences + other.sequences,
            self.missing + other.missing,
            self.tokens + other.tokens,
            self.computed + other.computed,
            self.padded + other.padded,
            max(self.longest, other.longest),
        )


def parts_of(spool: Spool, seed: int) -> Iterator[Part]:
    """Yield the random sample of the data set, then its windows, of which the first parts already have some."""
    sample = draw_sample(spool.num_pairs, seed)
    yield _part(0, spool.sequences_of_pairs(sample))
    if len(sample) == spool.num_pairs:
        return
    for number, chunks in enumerate(in_windows(_sizes(spool), WINDOW_TOKENS), start=1):
        yield _part(number, (sequence for chunk in chunks for sequence in spool.sequences(chunk)))


def _sizes(spool: Spool) -> list[int]:
    """Return the tokens of each chunk of the spool, many short pairs counting as some tokens more."""
    return [max(tokens, pairs * WEIGHT_OF_A_PAIR) for tokens, pairs in spool.chunk_sizes]


def _part(number: int, sequences: Iterator[TokenSequence]) -> Part:
    distinct: dict[bytes, TokenSequence] = {}
    for sequence in sequences:
        distinct.setdefault(sequence.digest(), sequence)
    return Part(number, tuple(distinct.values()), tuple(distinct))


def plan_part(store: LogpStore, run_key: bytes, part: Part, model: ScoredModel, batch_tokens: int) -> NDArray[np.int32]:
    """Return the batch of each sequence of a part, -1 for one that needs none; kept in the store until the run ends."""
    keys, missing = _keys(part, model), model.lacking(store, part.digests)
    known = store.find_plan(run_key, model.role, part.number)
    if known is not None and len(known) == len(keys):
        lost = [at < 0 and key in missing for at, key in zip(known.tolist(), keys, strict=True)]
        if not any(lost):  # else its row was damaged or deleted since the part was planned
            return known
    fresh = _plan(part, model, batch_tokens, missing)
    return store.publish_plan(run_key, model.role, part.number, fresh, anew=known is not None)


def _keys(part: Part, model: ScoredModel) -> list[bytes]:
    return [sequence_key(model.scope, digest) for digest in part.digests]


def _plan(part: Part, model: ScoredModel, batch_tokens: int, missing: AbstractSet[bytes]) -> NDArray[np.int32]:
    wanted = [i for i, key in enumerate(_keys(part, model)) if key in missing]
    batches = np.full(len(part.sequences), -1, dtype=np.int32)
    batches[wanted] = plan_batches(
        [part.sequences[i] for i in wanted],
        packed=model.verdict.path == "packed",
        batch_tokens=batch_tokens,
        rope_limit=model.rope_limit,
    )
    return batches


def batches_of(part: Part, plan: NDArray[np.int32]) -> list[list[TokenSequence]]:
    """Return the sequences of each batch of a plan."""
    batches: list[list[TokenSequence]] = [[] for _ in range(int(plan.max(initial=-1)) + 1)]
    for number, sequence in zip(plan.tolist(), part.sequences, strict=True):
        if number >= 0:
            batches[number].append(sequence)
    return batches


def estimate(
    spool: Spool, seed: int, store: LogpStore, models: Sequence[ScoredModel], budgets: Sequence[int]
) -> list[Amount]:
    """Return how much each model has to compute, by planning every part as if the sample had been scored."""
    amounts = [Amount() for _ in models]
    sample: frozenset[bytes] = frozenset()
    for part in parts_of(spool, seed):
        fresh = [digest not in sample for digest in part.digests]
        if part.number == 0:
            sample = frozenset(part.digests)
        for i, (model, batch_tokens) in enumerate(zip(models, budgets, strict=True)):
            amounts[i] = amounts[i].plus(_amount(part, fresh, store, model, batch_tokens))
    return amounts


def _amount(part: Part, fresh: list[bool], store: LogpStore, model: ScoredModel, batch_tokens: int) -> Amount:
    keys = _keys(part, model)
    missing = model.lacking(store, [digest for digest, new in zip(part.digests, fresh, strict=True) if new])
    wanted = [sequence for sequence, key in zip(part.sequences, keys, strict=True) if key in missing]
    packed = model.verdict.path == "packed"
    batches = batches_of(part, _plan(part, model, batch_tokens, missing))
    lengths = [len(sequence.token_ids) for sequence in wanted]
    return Amount(
        sequences=sum(fresh),
        missing=len(wanted),
        tokens=sum(lengths),
        computed=sum(computed_tokens(batch, packed=packed) for batch in batches),
        padded=trainer_tokens(wanted),
        longest=max(lengths, default=0),
    )
