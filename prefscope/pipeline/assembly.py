"""The last leg of a run: the spool's texts and the store's log-probs become the ledger file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from prefscope.errors import ResourceError
from prefscope.events import Event, PairFlagged, Progressed
from prefscope.ledger.columns import COLLISION_LOGPS, carried_names
from prefscope.ledger.file import build_schema, write_ledger
from prefscope.ledger.live import DIGESTS
from prefscope.pipeline.spool import Spool, extras_of, sequences_of
from prefscope.scoring.sequences import DIGEST_BYTES, TokenSequence
from prefscope.scoring.store import LogpStore, collision_key, sequence_key
from prefscope.scoring.tokenization import TokenTexts

COPIED = ("row", "line", "pair_id", "prompt", "chosen", "rejected", "source_json")
SIDES = ("chosen", "rejected")
ROLES = ("policy", "ref")


def assemble(
    path: Path,
    spool: Spool,
    store: LogpStore,
    scopes: Mapping[str, bytes],
    manifest: Mapping[str, Any],
    token_texts: TokenTexts | None,
    emit: Callable[[Event], None],
    *,
    collisions: bool = False,
) -> None:
    """Write the ledger of a finished run; one without scopes has no log-probs, but names the sequences by digests.

    Args:
        path: Where the ledger goes.
        spool: The tokenized pairs.
        store: Holds the log-probs of every sequence by now, where there are scopes.
        scopes: The first part of the store keys, by role.
        manifest: Goes into the file.
        token_texts: Gives the per-token columns; None leaves them out.
        emit: Called with progress, and with every pair whose log-probs are not finite.
        collisions: Whether the store has log Σ π² of the policy, which goes into the ledger.

    Raises:
        ResourceError: The file cannot be written.
    """
    kinds = spool.extra_kinds
    names = carried_names(kinds)
    schema = build_schema(
        {names[column]: kind for column, kind in kinds.items()}, manifest, tokens=token_texts is not None
    )
    for name in COLLISION_LOGPS if collisions else ():
        schema = schema.append(pa.field(name, pa.float64()))
    for name in () if scopes else DIGESTS:
        schema = schema.append(pa.field(name, pa.binary(DIGEST_BYTES)))

    def groups() -> Iterator[dict[str, Any]]:
        done = 0
        for batch in spool.batches():
            group = _group(batch, store, scopes, token_texts)
            group |= _collisions(batch, store, scopes["policy"]) if collisions else {}
            for row, flags in zip(group["row"].to_pylist(), group["flags"], strict=True):
                if "non_finite" in flags:
                    emit(PairFlagged(row, tuple(flags.split(";"))))
            yield group | {names[column]: values for column, values in extras_of(batch, kinds).items()}
            done += batch.num_rows
            emit(Progressed("writing the ledger" if scopes else "writing the preview", done, spool.num_pairs))

    write_ledger(path, schema, groups())


def _group(
    batch: pa.RecordBatch, store: LogpStore, scopes: Mapping[str, bytes], token_texts: TokenTexts | None
) -> dict[str, Any]:
    """Return the stored columns of one batch of pairs."""
    group: dict[str, Any] = {name: batch.column(name) for name in COPIED}
    finite = np.ones(batch.num_rows, dtype=bool)
    for side in SIDES:
        sequences = sequences_of(batch, side)
        if not scopes:
            group[f"{side}_digest"] = [sequence.digest() for sequence in sequences]
        group[f"{side}_num_tokens"] = np.array([sequence.num_scored for sequence in sequences])
        if token_texts is not None:
            group[f"{side}_tokens"] = [token_texts.texts(sequence.scored_ids) for sequence in sequences]
        for role in ROLES:
            logps = stored_logps(store, scopes[role], sequences) if role in scopes else None
            sums = None if logps is None else np.array([vector.sum(dtype=np.float64) for vector in logps])
            finite &= True if sums is None else np.isfinite(sums)
            group[f"{role}_{side}_logps"] = pa.nulls(batch.num_rows, pa.float64()) if sums is None else sums
            if token_texts is not None:
                group[f"{role}_{side}_token_logps"] = logps or [None] * batch.num_rows
    group["flags"] = [
        flags if good else ";".join(filter(None, (flags, "non_finite")))
        for flags, good in zip(batch.column("flags").to_pylist(), finite, strict=True)
    ]
    return group


def _collisions(batch: pa.RecordBatch, store: LogpStore, scope: bytes) -> dict[str, NDArray[np.float64]]:
    """Return Σ log Σ π² of the responses of a batch of pairs."""
    found = (stored_logps(store, scope, sequences_of(batch, side), collision_key) for side in SIDES)
    sums = (np.array([vector.sum(dtype=np.float64) for vector in vectors]) for vectors in found)
    return dict(zip(COLLISION_LOGPS, sums, strict=True))


def stored_logps(
    store: LogpStore,
    scope: bytes,
    sequences: list[TokenSequence],
    name: Callable[[bytes, bytes], bytes] = sequence_key,
) -> list[NDArray[np.float32]]:
    """Return each sequence's per-token log-probs from the store, in nats, or what else is kept under their names.

    Raises:
        ResourceError: The store lacks one.
    """
    keys = [name(scope, sequence.digest()) for sequence in sequences]
    found = store.lookup(keys)
    if any(key not in found for key in keys):
        raise ResourceError(
            "Log-probs that were just computed are not in the store any more: it was cleared or damaged",
            where=str(store.path),
            hint="Run the same command again; what is left is not computed anew.",
        )
    return [found[key] for key in keys]
