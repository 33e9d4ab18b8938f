"""The plan of a data set: shards of consecutive pairs, and the batches of each shard.

A shard is the unit of work of a worker. Its sequences depend only on the data and the seed, whoever scores it: a
sequence belongs to the first shard in which it occurs, where shards of a random sample come first, followed by all
other pairs in order. A shard's batches are planned when its turn comes, from the sequences that are then missing from
the store, and kept until the run is finished: an interrupted run continues with the same batches, so its numbers are
the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from prefscope.pipeline.spool import PairFacts, SpooledPairs
from prefscope.scoring.planning import computed_tokens, cut_shards, draw_sample, plan_batches, trainer_tokens
from prefscope.scoring.sequences import TokenSequence
from prefscope.scoring.store import LogpStore, sequence_key

if TYPE_CHECKING:  # needs torch, but plans are also read without torch
    from prefscope.pipeline.model_pool import ScoredModel

SHARDS = 64
"""A data set is cut into about this many shards, up to twice as many, within the limits below."""
FEWEST_TOKENS = 1 << 13
MOST_TOKENS = 1 << 23
"""Upper limit, as the sequences of a shard are in memory at the same time."""
MOST_PAIRS = 16_384


@dataclass(frozen=True, slots=True)
class Shard:
    """Some pairs, with those of their sequences that are in no earlier shard."""

    number: int
    name: str
    """16 hex digits that identify the sequences."""
    sequences: tuple[TokenSequence, ...]
    digests: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """The pairs and sequences of each shard."""

    order: NDArray[np.int64]
    """Numbers of the pairs, shard by shard, ascending within each shard; shape (pairs,)."""
    starts: NDArray[np.int64]
    """Start of each shard in `order`, followed by the number of pairs; shape (shards + 1,)."""
    owners: NDArray[np.int64]
    """For each sequence, the first one in `order` with the same tokens; 2i is chosen of pair i, 2i + 1 is rejected."""
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def pairs(self, number: int) -> NDArray[np.int64]:
        """Return the numbers of a shard's pairs in the spool, ascending."""
        return self.order[self.starts[number] : self.starts[number + 1]]

    def owned(self, number: int) -> NDArray[np.int64]:
        """Return the numbers of the sequences that are in this shard and in no earlier one."""
        return _owned(self.pairs(number), self.owners)

    def shard(self, spool: SpooledPairs, number: int) -> Shard:
        """Return a shard with its sequences."""
        pairs = self.pairs(number)
        numbers = _sequences(pairs)
        is_owned = (self.owners[numbers] == numbers).tolist()
        sequences = tuple(one for one, mine in zip(spool.sequences_of_pairs(pairs), is_owned, strict=True) if mine)
        return Shard(number, self.names[number], sequences, tuple(one.digest() for one in sequences))

    def shards(self, spool: SpooledPairs) -> Iterator[Shard]:
        """Yield all shards, one in memory at a time."""
        return (self.shard(spool, number) for number in range(len(self)))


def make_plan(facts: PairFacts, seed: int) -> Plan:
    """Plan a data set: shards of a seeded random sample, then of the other pairs."""
    pairs = len(facts.tokens)
    most_tokens = min(max(_power_of_two(int(facts.tokens.sum()) // SHARDS), FEWEST_TOKENS), MOST_TOKENS)
    sample = draw_sample(pairs, seed)
    others = np.setdiff1d(np.arange(pairs), sample, assume_unique=True)
    starts = [0]
    for members in (sample, others):
        prompts = facts.prompts[members]
        begins = np.ones(len(members), dtype=np.bool_)
        begins[1:] = (prompts[1:] != prompts[:-1]) | (prompts[1:] == 0)
        numbers = cut_shards(facts.tokens[members], begins, most_tokens, MOST_PAIRS)
        starts += (starts[-1] + np.cumsum(np.bincount(numbers))).tolist()
    order = np.concatenate([sample, others])
    owners = np.empty(2 * pairs, dtype=np.int64)
    in_order = _sequences(order)
    digests = facts.digests.ravel()
    _, first, same = np.unique(digests[in_order], return_index=True, return_inverse=True)
    owners[in_order] = in_order[first[same]]
    owned = (_owned(order[start:stop], owners) for start, stop in pairwise(starts))
    return Plan(order, np.array(starts), owners, tuple(_name(digests[members]) for members in owned))


def _sequences(pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the numbers of the sequences of pairs, alternating between chosen and rejected."""
    return np.stack([2 * pairs, 2 * pairs + 1], axis=1).ravel()


def _owned(pairs: NDArray[np.int64], owners: NDArray[np.int64]) -> NDArray[np.int64]:
    sequences = _sequences(pairs)
    owned: NDArray[np.int64] = sequences[owners[sequences] == sequences]
    return owned


def _power_of_two(number: int) -> int:
    return 1 << max(number.bit_length() - 1, 0)


def _name(digests: NDArray[np.uint64]) -> str:
    return hashlib.blake2b(digests.astype("<u8").tobytes(), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class Amount:
    """The amount of work of a model, in sequences and tokens."""

    sequences: int = 0
    missing: int = 0
    tokens: int = 0
    computed: int = 0
    padded: int = 0
    longest: int = 0

    def plus(self, other: Amount) -> Amount:
        """Return the sum of two amounts."""
        return Amount(
            self.sequences + other.sequences,
            self.missing + other.missing,
            self.tokens + other.tokens,
            self.computed + other.computed,
            self.padded + other.padded,
            max(self.longest, other.longest),
        )


def plan_shard(
    store: LogpStore, run_key: bytes, shard: Shard, model: ScoredModel, batch_tokens: int
) -> NDArray[np.int32]:
    """Return the batch of each sequence of a shard, -1 if not needed; the plan is stored until the run ends."""
    keys = keys_of(shard, model)
    missing = model.missing(store, shard.digests)
    known = store.find_plan(run_key, model.role, shard.number)
    if known is not None and len(known) == len(keys):
        lost = [at < 0 and key in missing for at, key in zip(known.tolist(), keys, strict=True)]
        if not any(lost):  # else a row was damaged or deleted after the shard was planned
            return known
    fresh = _plan(shard, model, batch_tokens, missing)
    return store.publish_plan(run_key, model.role, shard.number, fresh, replace=known is not None)


def keys_of(shard: Shard, model: ScoredModel) -> list[bytes]:
    """Return the store keys of a shard's sequences under a model."""
    return [sequence_key(model.scope, digest) for digest in shard.digests]


def _plan(shard: Shard, model: ScoredModel, batch_tokens: int, missing: AbstractSet[bytes]) -> NDArray[np.int32]:
    wanted = [i for i, key in enumerate(keys_of(shard, model)) if key in missing]
    batches = np.full(len(shard.sequences), -1, dtype=np.int32)
    batches[wanted] = plan_batches(
        [shard.sequences[i] for i in wanted],
        packed=model.verdict.path == "packed",
        batch_tokens=batch_tokens,
        rope_limit=model.rope_limit,
    )
    return batches


def batches_of(shard: Shard, plan: NDArray[np.int32]) -> list[list[TokenSequence]]:
    """Return the sequences of each batch of a plan."""
    batches: list[list[TokenSequence]] = [[] for _ in range(int(plan.max(initial=-1)) + 1)]
    for number, sequence in zip(plan.tolist(), shard.sequences, strict=True):
        if number >= 0:
            batches[number].append(sequence)
    return batches


def estimate(
    shards: Iterator[Shard], store: LogpStore, models: Sequence[ScoredModel], budgets: Sequence[int]
) -> list[Amount]:
    """Return the amount of work of each model, by planning every shard."""
    amounts = [Amount() for _ in models]
    for shard in shards:
        for i, (model, batch_tokens) in enumerate(zip(models, budgets, strict=True)):
            amounts[i] = amounts[i].plus(_amount(shard, store, model, batch_tokens))
    return amounts


def _amount(shard: Shard, store: LogpStore, model: ScoredModel, batch_tokens: int) -> Amount:
    keys = keys_of(shard, model)
    missing = model.missing(store, shard.digests)
    wanted = [sequence for sequence, key in zip(shard.sequences, keys, strict=True) if key in missing]
    packed = model.verdict.path == "packed"
    batches = batches_of(shard, _plan(shard, model, batch_tokens, missing))
    lengths = [len(sequence.token_ids) for sequence in wanted]
    return Amount(
        sequences=len(shard.sequences),
        missing=len(wanted),
        tokens=sum(lengths),
        computed=sum(computed_tokens(batch, packed=packed) for batch in batches),
        padded=trainer_tokens(wanted),
        longest=max(lengths, default=0),
    )
