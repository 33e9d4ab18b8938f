"""What the models would have said instead at each token of a pair, and the largest rank of its tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from prefscope.ledger.arrays import Columns, list_offsets
from prefscope.ledger.columns import ALTERNATIVE_IDS, ALTERNATIVE_TEXTS, ALTERNATIVES, RANK_COLUMNS

if TYPE_CHECKING:
    import pyarrow as pa

    from prefscope.ledger.opened import LedgerFile

COLUMNS = tuple(column.name for column in ALTERNATIVES)
DIVERGENCE = "token_kl_policy_ref"
DIVERGENCES = tuple(f"{side}_{DIVERGENCE}" for side in ("chosen", "rejected"))
_RANKS = {
    name: [f"{name.removeprefix('rank_')}_{side}_token_ranks" for side in ("chosen", "rejected")]
    for name in RANK_COLUMNS
}


@dataclass(frozen=True, slots=True)
class Choices:
    """The most probable tokens of a model at one position."""

    ids: tuple[int, ...]
    texts: tuple[str, ...]
    """Untrusted."""
    logps: tuple[float, ...]
    """In nats, in half precision, in descending order."""
    entropy: float
    """Of the whole distribution, in nats; nan if unknown."""
    rank: int
    """Rank of the actual token: 1 + the number of more probable ones; 0 if unknown."""
    divergence: float | None = None
    """The exact KL(policy‖reference) at the position, in nats; None if it was not measured."""


@dataclass(frozen=True, slots=True, eq=False)
class Alternatives:
    """The most probable tokens of a model at each token of a response."""

    ids: NDArray[np.int32]
    """Shape (tokens, kept); -1 for none."""
    logps: NDArray[np.float64]
    """Shape (tokens, kept)."""
    entropies: NDArray[np.float64]
    ranks: NDArray[np.int32]
    texts: Mapping[int, str]
    """Texts of the ids."""
    divergences: NDArray[np.float64] | None = None
    """KL(policy‖reference) at each token, in nats; None if it was not measured."""

    def at(self, token: int) -> Choices:
        """Return the choices at a token of the response, without ids that stand for none."""
        kept = [place for place, one in enumerate(self.ids[token].tolist()) if one >= 0]
        ids = tuple(self.ids[token, kept].tolist())
        return Choices(
            ids,
            tuple(self.texts.get(one, f"<{one}>") for one in ids),
            tuple(self.logps[token, kept].tolist()),
            float(self.entropies[token]),
            int(self.ranks[token]),
            None if self.divergences is None else float(self.divergences[token]),
        )


def read_alternatives(pair: Mapping[str, Any], count: int) -> dict[tuple[str, str], Alternatives]:
    """Return the alternatives of a pair by role and side; those of a missing reference are left out.

    Args:
        pair: The values of `COLUMNS` of a pair, and of `DIVERGENCES` if they were measured.
        count: The number of tokens kept per position.
    """
    texts = dict(zip(pair[ALTERNATIVE_IDS], pair[ALTERNATIVE_TEXTS], strict=True))
    found = {}
    for role in ("policy", "ref"):
        for side in ("chosen", "rejected"):
            ids, logps, entropies, ranks = (
                pair[f"{role}_{side}_{name}"] for name in ("top_ids", "top_logps", "token_entropies", "token_ranks")
            )
            if ids is not None:
                found[role, side] = Alternatives(
                    np.array(ids, dtype=np.int32).reshape(-1, count),
                    np.array(logps, dtype=np.float64).reshape(-1, count),
                    np.array(entropies, dtype=np.float64),
                    np.array(ranks, dtype=np.int32),
                    texts,
                    None if (kl := pair.get(f"{side}_{DIVERGENCE}")) is None else np.array(kl, dtype=np.float64),
                )
    return found


def largest_ranks(file: LedgerFile) -> Columns:
    """Return the largest rank of a token of each pair, over both responses, for both models.

    It is nan if the rank of a token is unknown, if the pair has no tokens, or without the model.

    Args:
        file: A ledger with alternatives.
    """
    parts: dict[str, list[NDArray[np.float64]]] = {name: [] for name in _RANKS}
    for group in range(file.num_row_groups):
        table = file.read_row_group(group, columns=[one for names in _RANKS.values() for one in names])
        for name, sides in _RANKS.items():
            both = np.stack([_largest(table.column(side).combine_chunks()) for side in sides])
            known = (both > 0).any(0) & ~np.isnan(both).any(0)
            parts[name].append(np.where(known, both.max(0), np.nan))
    return {name: np.concatenate([*found, np.empty(0)]) for name, found in parts.items()}


def _largest(lists: pa.ListArray) -> NDArray[np.float64]:
    """Return the largest rank of each list: nan if the list is null or a rank unknown, 0 if the list is empty."""
    offsets, ranks = list_offsets(lists), np.from_dlpack(lists.flatten()).astype(np.float64)
    ranks[ranks < 1] = np.nan
    largest = np.zeros(len(lists))
    filled = np.flatnonzero(np.diff(offsets))
    if filled.size:
        largest[filled] = np.maximum.reduceat(ranks, offsets[:-1][filled])
    largest[np.from_dlpack(lists.is_null().cast("uint8")).astype(bool)] = np.nan
    return largest
