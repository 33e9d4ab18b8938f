"""The last step of a run: combine the texts in the spool and the log-probs in the store into the ledger file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from prefscope.events import Event, PairFlagged, Progressed
from prefscope.flags import LogpEvidence, join_flags, split_flags, with_logp_flags
from prefscope.ledger.columns import COLLISION_LOGPS, DIGESTS, Column
from prefscope.ledger.file import build_schema, write_ledger
from prefscope.ledger.names import carried_names, renamed
from prefscope.pipeline.logp_source import ROLES, SIDES, LogpSource, MaybeLogps, Texts
from prefscope.pipeline.spool import SpooledPairs, extras_of, sequences_of
from prefscope.scoring.sequences import DIGEST_BYTES, TokenSequence

COPIED = ("row", "line", "pair_id", "prompt", "chosen", "rejected", "source_json")


class MoreColumns(Protocol):
    """Provides columns that a ledger has only on request."""

    @property
    def schema(self) -> Sequence[Column]:
        """The columns."""

    def columns(self, batch: pa.RecordBatch) -> dict[str, Any]:
        """Return their values for a batch of pairs."""


def assemble(
    path: Path,
    spool: SpooledPairs,
    source: LogpSource | None,
    manifest: Mapping[str, Any],
    token_texts: Texts | None,
    emit: Callable[[Event], None],
    *,
    collisions: bool = False,
    more: Iterable[MoreColumns] = (),
) -> None:
    """Write the ledger of a finished run; without a source it has digests of the sequences instead of log-probs.

    Args:
        path: Path of the ledger.
        spool: The tokenized pairs.
        source: Provides the log-probs of all sequences; None to write a preview without log-probs.
        manifest: Stored in the file.
        token_texts: Provides token texts for the per-token columns; None leaves these columns out.
        emit: Called with progress, and with every pair whose log-probs are not finite.
        collisions: Whether to write log Σ π² of the policy, which the source must then have.
        more: Provide more columns, such as those of alternatives.

    Raises:
        ResourceError: If the file cannot be written.
    """
    kinds, more = spool.extra_kinds, tuple(more)
    names = carried_names(kinds)
    schema = build_schema(
        {names[column]: kind for column, kind in kinds.items()},
        {**manifest, **renamed(names)},
        tokens=token_texts is not None,
        more=[column for one in more for column in one.schema],
    )
    for name in COLLISION_LOGPS if collisions else ():
        schema = schema.append(pa.field(name, pa.float64()))
    for name in () if source else DIGESTS:
        schema = schema.append(pa.field(name, pa.binary(DIGEST_BYTES)))

    def groups() -> Iterator[dict[str, Any]]:
        done = 0
        for batch in spool.batches():
            group = _group(batch, done, source, token_texts)
            group |= _collisions(batch, done, source) if source and collisions else {}
            for one in more:
                group |= one.columns(batch)
            for row, flags in zip(group["row"].to_pylist(), group["flags"], strict=True):
                if "non_finite" in flags:
                    emit(PairFlagged(row, tuple(split_flags(flags))))
            yield group | {names[column]: values for column, values in extras_of(batch, kinds).items()}
            done += batch.num_rows
            emit(Progressed("writing the ledger" if source else "writing the preview", done, spool.num_pairs))

    write_ledger(path, schema, groups())


def _group(batch: pa.RecordBatch, start: int, source: LogpSource | None, token_texts: Texts | None) -> dict[str, Any]:
    """Return the stored columns of one batch of pairs; `start` is the number of its first pair."""
    group: dict[str, Any] = {name: batch.column(name) for name in COPIED}
    finite, crashed = np.ones(batch.num_rows, dtype=bool), np.zeros(batch.num_rows, dtype=bool)
    for side in SIDES:
        sequences = sequences_of(batch, side)
        if source is None:
            group[f"{side}_digest"] = [sequence.digest() for sequence in sequences]
        group[f"{side}_num_tokens"] = np.array([sequence.num_scored for sequence in sequences])
        if token_texts is not None:
            group[f"{side}_tokens"] = [token_texts.texts(sequence.scored_ids) for sequence in sequences]
        for role in ROLES:
            found = source.logps(role, side, start, sequences) if source and role in source.roles else None
            crashed |= False if found is None else [vector is None for vector in found]
            logps = None if found is None else _known(found, sequences)
            sums = None if logps is None else np.array([vector.sum(dtype=np.float64) for vector in logps])
            finite &= True if sums is None else np.isfinite(sums)
            group[f"{role}_{side}_logps"] = pa.nulls(batch.num_rows, pa.float64()) if sums is None else sums
            if token_texts is not None:
                group[f"{role}_{side}_token_logps"] = logps or [None] * batch.num_rows
    group["flags"] = [
        join_flags(with_logp_flags(split_flags(flags), LogpEvidence(bool(good), bool(lost), source is not None)))
        for flags, good, lost in zip(batch.column("flags").to_pylist(), finite, crashed, strict=True)
    ]
    return group


def _collisions(batch: pa.RecordBatch, start: int, source: LogpSource) -> dict[str, NDArray[np.float64]]:
    """Return Σ log Σ π² for the responses of a batch of pairs."""
    sums = []
    for side in SIDES:
        sequences = sequences_of(batch, side)
        found = _known(source.collisions("policy", side, start, sequences), sequences)
        sums.append(np.array([vector.sum(dtype=np.float64) for vector in found]))
    return dict(zip(COLLISION_LOGPS, sums, strict=True))


def _known(found: Sequence[MaybeLogps], sequences: Sequence[TokenSequence]) -> list[NDArray[np.float32]]:
    """Return the log-probs, with NaN for sequences that have none."""
    return [
        np.full(sequence.num_scored, np.nan, dtype=np.float32) if vector is None else vector
        for vector, sequence in zip(found, sequences, strict=True)
    ]
