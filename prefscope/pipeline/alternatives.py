"""The columns of alternatives in a ledger: top tokens, entropies and ranks, as they are in the store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from prefscope.ledger.columns import ALTERNATIVE_IDS, ALTERNATIVE_TEXTS, ALTERNATIVES, Column
from prefscope.pipeline.logp_source import ROLES, SIDES, MaybeLogps, StoredLogps, Texts
from prefscope.pipeline.spool import sequences_of
from prefscope.scoring.alternatives import FIXED, NO_TOKEN
from prefscope.scoring.store import alternatives_key


@dataclass(frozen=True, slots=True)
class Alternatives:
    """Alternatives of all sequences of a run, in its store."""

    stored: StoredLogps
    count: int
    """Number of tokens kept per position."""
    texts: Texts

    @property
    def schema(self) -> Sequence[Column]:
        """The columns."""
        return ALTERNATIVES

    def columns(self, batch: pa.RecordBatch) -> dict[str, Any]:
        """Return the columns of a batch of pairs: lists per response, and the texts of the ids that occur in a pair."""
        columns: dict[str, Any] = {}
        seen: list[list[NDArray[np.int32]]] = [[] for _ in range(batch.num_rows)]
        for role in ROLES:
            for side in SIDES:
                kept = self._kept(role, side, batch) if role in self.stored.roles else [None] * batch.num_rows
                for name, values in _columns_of(kept, self.count):
                    columns[f"{role}_{side}_{name}"] = values
                for row, ids in enumerate(columns[f"{role}_{side}_top_ids"]):
                    seen[row] += [] if ids is None else [ids]
        vocabularies = [np.unique(np.concatenate([*ids, [NO_TOKEN]]))[1:].astype(np.int32) for ids in seen]
        columns[ALTERNATIVE_IDS] = vocabularies
        columns[ALTERNATIVE_TEXTS] = [self.texts.texts(ids) for ids in vocabularies]
        return columns

    def _kept(self, role: str, side: str, batch: pa.RecordBatch) -> list[NDArray[np.float32] | None]:
        """Return entropy, rank, ids and log-probs per token of each response, unknown ones for those that crashed."""
        sequences = sequences_of(batch, side)
        found: Sequence[MaybeLogps] = self.stored.find(role, sequences, partial(alternatives_key, count=self.count))
        width = FIXED + 2 * self.count
        return [
            _unknown(sequence.num_scored, self.count) if values is None else values.reshape(-1, width)
            for sequence, values in zip(sequences, found, strict=True)
        ]


def _unknown(tokens: int, count: int) -> NDArray[np.float32]:
    values = np.full((tokens, FIXED + 2 * count), np.nan, dtype=np.float32)
    values[:, 1], values[:, FIXED : FIXED + count] = 0, NO_TOKEN
    return values


def _columns_of(
    kept: Sequence[NDArray[np.float32] | None], count: int
) -> Iterator[tuple[str, list[NDArray[Any] | None]]]:
    """Yield the columns of one response under one model; log-probs of top tokens are rounded to half precision."""
    ids, tops = slice(FIXED, FIXED + count), slice(FIXED + count, None)
    yield "token_entropies", [None if one is None else one[:, 0] for one in kept]
    yield "token_ranks", [None if one is None else one[:, 1].astype(np.int32) for one in kept]
    yield "top_ids", [None if one is None else one[:, ids].astype(np.int32).ravel() for one in kept]
    with np.errstate(over="ignore"):
        yield "top_logps", [None if one is None else one[:, tops].astype(np.float16).ravel() for one in kept]
