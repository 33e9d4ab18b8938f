"""The ledger of a run in progress: sums of log-probs are received with `take` and filled in by `catch_up`.

Everything else is in a file. Pairs that are not scored yet are nan, like those that cannot be scored; `is_known` and
the flag `not_scored` distinguish them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from prefscope.flags import NOT_SCORED, LogpEvidence, join_flags, split_flags, with_logp_flags
from prefscope.ledger.columns import DIGESTS, LOGPS, TOKENS
from prefscope.ledger.partial import partial_path
from prefscope.ledger.table import Ledger
from prefscope.settings import LossChoice, PreferenceSettings

_WORD = np.dtype(">u8")

TokenLogps = Callable[[str, bytes], NDArray[np.float32] | None]
"""Returns the token log-probs of a sequence by role and digest, if they are known."""


class LiveLedger(Ledger):
    """The ledger of a run in progress."""

    def __init__(self, preview: Path, ledger: Path, token_logps: TokenLogps) -> None:
        """Open the preview that a run writes before it begins to score.

        Args:
            preview: The preview file.
            ledger: Path of the future ledger, used as the name and as the place of marks.
            token_logps: Looks up the token log-probs of a sequence.

        Raises:
            LedgerError: If the file does not exist or is not a ledger.
        """
        super().__init__(preview)
        self.preview, self.path = preview, ledger
        self._saved_at = partial_path(ledger)
        self._token_logps = token_logps
        self.stored |= {name: np.full(self.num_pairs, np.nan) for name in LOGPS}
        self._pending: list[tuple[str, bytes, float]] = []
        self._unflagged = np.zeros(self.num_pairs, dtype=np.bool_)
        roles = ("policy", "ref") if self.has_reference else ("policy",)
        self._known = {name: np.zeros(self.num_pairs, dtype=np.bool_) for name in LOGPS if name.startswith(roles)}
        self._rows = {
            name.removesuffix("_digest"): _Places(self._file.read(columns=[name]).column(name).to_pylist())
            for name in DIGESTS
        }

    @property
    def is_known(self) -> NDArray[np.bool_]:
        """Whether all sums of each pair have been filled in. Shape (num_pairs,)."""
        known: NDArray[np.bool_] = np.all([*self._known.values()], axis=0)
        return known

    @property
    def saved_at(self) -> Path:
        """Path of the partial ledger: the ledger's own, unless a complete ledger is there."""
        return self._saved_at

    @property
    def has_sums(self) -> bool:
        """Whether the sum of any sequence is known."""
        return bool(self._pending) or any(known.any() for known in self._known.values())

    def snapshot(self) -> Self:
        """Return a copy with all that is known now, the queued sums included, for another thread."""
        taken = copy.copy(self)
        taken._detach()  # noqa: SLF001 (same class)
        taken.catch_up()
        return taken

    def _detach(self) -> None:
        """Copy what changes while the run goes on."""
        self.stored = {name: self.stored[name].copy() for name in (*LOGPS, "flags")}
        self._known = {name: known.copy() for name, known in self._known.items()}
        self._unflagged, self._pending = self._unflagged.copy(), [*self._pending]

    def _keep(self, wanted: NDArray[np.bool_]) -> None:
        super()._keep(wanted)
        self.stored |= {name: self.stored[name] for name in (*LOGPS, "flags")}  # copies: the run goes on
        self._unflagged = self._unflagged[wanted]
        self._known = {name: known[wanted] for name, known in self._known.items()}

    def usable_losses(self, preferences: PreferenceSettings) -> tuple[LossChoice, ...]:
        """Return the losses that can be computed from sums; the others are available in the finished ledger."""
        return super().usable_losses(replace(preferences, explicit=False))

    def take(self, role: str, sums: Iterable[tuple[bytes, float]]) -> None:
        """Queue the sums of sequences, identified by their digests, for a role until `catch_up`."""
        self._pending += [(role, digest, value) for digest, value in sums]

    def catch_up(self) -> None:
        """Fill in the queued sums. Columns that a view has already computed are outdated afterwards."""
        for role, digest, value in self._pending:
            for side, places in self._rows.items():
                name, rows = f"{role}_{side}_logps", places.of(digest)
                self.stored[name][rows] = value
                self._known[name][rows] = True
                if not np.isfinite(value):
                    self._flag(rows)
        self._pending.clear()
        self._unflag(np.flatnonzero(self.is_known & ~self._unflagged))

    def _flag(self, rows: NDArray[np.int64]) -> None:
        flags = self.stored["flags"]
        for row in rows.tolist():
            flags[row] = join_flags(with_logp_flags(split_flags(flags[row]), LogpEvidence(is_finite=False)))

    def _unflag(self, rows: NDArray[np.int64]) -> None:
        """Remove the flag of pairs that are not scored yet."""
        flags = self.stored["flags"]
        kept = {one: join_flags(flag for flag in split_flags(one) if flag != NOT_SCORED) for one in set(flags[rows])}
        flags[rows] = [kept[one] for one in flags[rows]]
        self._unflagged[rows] = True

    def pair(self, position: int, columns: list[str] | None = None) -> dict[str, Any]:
        """Return the known values of the pair at a position: some columns, or all, including texts and tokens.

        Raises:
            IndexError: If the ledger has no such position.
        """
        names = {column.name for column in TOKENS if column.kind == "logps"}
        wanted = names if columns is None else names & {*columns}
        read = None if columns is None else [*columns, *DIGESTS]
        found = super().pair(position, read)
        digests = {name.removesuffix("_digest"): found.pop(name) for name in DIGESTS}
        found |= {name: float(self.stored[name][position]) for name in LOGPS if name in found}
        if "flags" in found:
            found["flags"] = self.stored["flags"][position]
        for name in wanted if self.has_tokens else ():
            role, side = name.split("_")[:2]
            is_known = self._known[f"{role}_{side}_logps"][position]
            found[name] = self._token_logps(role, digests[side]) if is_known else None
        return found


class _Places:
    """An index of a column of digests, with 24 bytes per pair."""

    def __init__(self, digests: list[bytes]) -> None:
        words = np.frombuffer(b"".join(digests), dtype=_WORD).reshape(-1, 2)
        self._order: NDArray[np.int64] = np.lexsort((words[:, 1], words[:, 0]))
        self._first, self._second = words[self._order].astype(np.uint64).T

    def of(self, digest: bytes) -> NDArray[np.int64]:
        """Return the positions of a digest, ascending."""
        first, second = np.frombuffer(digest, dtype=_WORD).astype(np.uint64)
        start, stop = (int(np.searchsorted(self._first, first, side)) for side in ("left", "right"))
        places: NDArray[np.int64] = self._order[start:stop][self._second[start:stop] == second]
        return places
