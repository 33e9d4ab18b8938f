"""The ledger in memory: numbers as NumPy columns; texts and tokens are read from the file on demand.

Stored columns do not depend on beta or the losses; rewards, margins and losses are computed from them, without a model.
This module does not import torch.
"""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from prefscope.errors import UsageError
from prefscope.flags import NOT_SCORED
from prefscope.ledger.alternatives import COLUMNS, DIVERGENCES, Alternatives, largest_ranks, read_alternatives
from prefscope.ledger.arrays import Columns, Inherited, ReadWhenAsked, as_array, counts_before, indices, numbered
from prefscope.ledger.columns import (
    COLLISION_LOGPS,
    DERIVED,
    DIVERGENCE_SUMS,
    LOGPS,
    NUM_TOKENS,
    RANK_COLUMNS,
    STORED,
    TAIL_LOGPS,
    TOKEN_LOGPS,
)
from prefscope.ledger.file import PARTIAL, has_negative, open_parquet
from prefscope.ledger.names import RENAMED, carried_names
from prefscope.ledger.search import SEARCHED, Needle, TextSearch
from prefscope.ledger.tails import tail_sums
from prefscope.preference.registry import Loss, LossFunction, find_loss, refuse_repeats, resolve_parameters
from prefscope.settings import DEFAULT_LOSSES, LossChoice, PreferenceSettings

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

REWARDS = ("chosen_logratios", "rejected_logratios", "chosen_rewards", "rejected_rewards", "margins")
CHUNK_PAIRS = 65_536
"""Number of pairs to compute at once, so that intermediate results stay in the CPU cache."""
AT_THE_START: Mapping[str, str | None] = {
    **{name: f"ref_{name.removeprefix('policy_')}" for name in (*LOGPS, *TAIL_LOGPS) if name[:6] == "policy"},
    **dict.fromkeys(DIVERGENCE_SUMS),
}
"""The columns that have the values of the policy's before it was trained; None for those that were 0."""
READ_TOGETHER = ((*LOGPS, *NUM_TOKENS), TAIL_LOGPS, COLLISION_LOGPS, DIVERGENCE_SUMS, RANK_COLUMNS)
STORED_NAMES = frozenset((*(column.name for column in STORED), *chain(*READ_TOGETHER)))


class Ledger:
    """A scored data set."""

    def __init__(self, path: Path) -> None:
        """Open a ledger file.

        Raises:
            LedgerError: If the file does not exist, is not a ledger, is damaged, or was written by a newer version.
        """
        self.path = path
        self._file, self.manifest = open_parquet(path)
        self.num_pairs: int = self._file.metadata.num_rows
        self._positions = np.arange(self.num_pairs)
        self._whole = self
        self._inherited: Inherited | None = None
        self.scope = ""
        """The expression that selected these pairs from the file; empty if it was not recorded or selects all."""
        self.stored: Columns = ReadWhenAsked(self._read_stored)

    @functools.cached_property
    def extra_columns(self) -> Mapping[str, str]:
        """The kinds of the data set's own columns, by their names in the ledger."""
        kinds: Mapping[str, str] = self.manifest["extra_columns"]
        return {name: kinds[stored] for name, stored in self._own.items()}

    @functools.cached_property
    def _own(self) -> Mapping[str, str]:
        """The names of the data set's own columns in the file, by the names used here.

        They differ if the file was written before a name was reserved.
        """
        return {name: stored for stored, name in carried_names(self.manifest["extra_columns"]).items()}

    @property
    def renamed_columns(self) -> Mapping[str, str]:
        """The new names of the data set's columns that clash with reserved names, by their original names."""
        in_this_file = {stored: name for name, stored in self._own.items() if name != stored}
        return {**self.manifest.get(RENAMED, {}), **in_this_file}

    @property
    def has_reference(self) -> bool:
        """Whether there are reference log-probs."""
        return bool(self.manifest["has_reference"])

    @property
    def has_checksums(self) -> bool:
        """Whether the file has checksums, which old files do not."""
        return self._file.checksums is not None

    @property
    def has_tokens(self) -> bool:
        """Whether there are per-token columns."""
        return "chosen_tokens" in self._file.schema_arrow.names

    @property
    def alternatives(self) -> int:
        """The number of each model's most probable tokens that are kept per position; 0 if none are."""
        return self._file.alternatives

    @property
    def has_divergences(self) -> bool:
        """Whether there are exact KL divergences of policy and reference."""
        return {*DIVERGENCE_SUMS} <= self._names_in_file

    @property
    def numbers(self) -> tuple[str, ...]:
        """The names of the stored numbers that are exported."""
        return (*LOGPS, *NUM_TOKENS, *(DIVERGENCE_SUMS if self.has_divergences else ()))

    @property
    def is_known(self) -> NDArray[np.bool_]:
        """Whether each pair has been scored, even if its log-probs are nan. Shape (num_pairs,)."""
        return self._scored

    @functools.cached_property
    def _scored(self) -> NDArray[np.bool_]:
        if PARTIAL not in self.manifest:
            return np.ones(self.num_pairs, dtype=np.bool_)
        return np.array([NOT_SCORED not in flags for flags in self.stored["flags"]], dtype=np.bool_)

    @property
    def num_unscored(self) -> int:
        """Number of pairs that the run has not scored, because it goes on or was stopped."""
        return int(np.count_nonzero(~self.is_known))

    @property
    def saved_at(self) -> Path:
        """Path of the file that has this ledger's numbers."""
        return self.path

    @property
    def num_pairs_in_file(self) -> int:
        """The number of pairs of the whole file."""
        return self._whole.num_pairs

    def only(self, wanted: NDArray[np.bool_], scope: str = "") -> Ledger:
        """Return a ledger with the pairs selected by a mask.

        Args:
            wanted: Whether to keep each pair. Shape (num_pairs,).
            scope: The expression that the mask comes from, for summaries and reports.
        """
        part = copy.copy(self)
        part.scope = scope
        for cached in ("occurrences", "_scored"):
            part.__dict__.pop(cached, None)
        part._keep(wanted)  # noqa: SLF001 (same class)
        return part

    def _keep(self, wanted: NDArray[np.bool_]) -> None:
        self._inherited = Inherited(self.stored, wanted, self._inherited)
        self._positions = self._positions[wanted]
        self.num_pairs = len(self._positions)
        self.stored = ReadWhenAsked(self._read_stored)

    def _read_stored(self, name: str) -> Columns:
        """Read a stored column, along with related ones: reading all sums and counts together takes half the time."""
        import pyarrow as pa

        if name not in STORED_NAMES:
            raise KeyError(name)
        if self._inherited and name in self._inherited:
            return {name: self._inherited[name]}
        numbers = next((some for some in READ_TOGETHER if name in some), (name,))
        found: Columns = {}
        if numbers == TAIL_LOGPS:
            found = tail_sums(self._file)
        elif numbers == RANK_COLUMNS:
            found = largest_ranks(self._file)
        else:
            table = self._file.read(columns=[*numbers])
            for column in table.column_names:
                found[column] = as_array(table.column(column))
                table = table.drop_columns([column])  # frees its memory before the next one is copied
        pa.default_memory_pool().release_unused()
        whole = self.num_pairs == self._file.metadata.num_rows
        return found if whole else {name: values[self._positions] for name, values in found.items()}

    @functools.cached_property
    def _ids(self) -> pa.ChunkedArray:
        """The pair_ids of the whole file as an Arrow array, which takes an eighth of the memory of Python objects."""
        return self._file.read(columns=["pair_id"]).column("pair_id")

    @functools.cached_property
    def occurrences(self) -> NDArray[np.int64]:
        """For each pair, how many earlier pairs in the file have the same pair_id. Shape (num_pairs,)."""
        (ids,) = numbered([self._ids])
        return counts_before(ids)[self._positions]

    def number_pairs(self, other: Ledger) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return a number for each pair of this and another ledger, equal if pair_id and occurrence are equal."""
        if self._ids.equals(other._ids):  # two runs on the same data set
            return self._positions, other._positions
        ids = numbered([self._ids, other._ids])
        counts = [counts_before(one) for one in ids]
        most = max(int(one.max(initial=0)) for one in counts) + 1
        ours, theirs = (one * most + count for one, count in zip(ids, counts, strict=True))
        return ours[self._positions], theirs[other._positions]

    def find(self, pair_ids: Collection[str]) -> NDArray[np.int64]:
        """Return the positions of the pairs with one of these pair_ids, ascending."""
        import pyarrow as pa
        import pyarrow.compute as pc

        found = pc.is_in(self._ids, value_set=pa.array(pair_ids, type=pa.string())).combine_chunks()
        return np.flatnonzero(np.from_dlpack(found.cast("uint8"))[self._positions])

    def ids_at(self, positions: NDArray[np.int64]) -> list[tuple[str, int]]:
        """Return the pair_id and the occurrence of the pairs at some positions."""
        ids = self._ids.take(indices(self._positions[positions])).to_pylist()
        return [*zip(ids, self.occurrences[positions].tolist(), strict=True)]

    @functools.cached_property
    def text_search(self) -> TextSearch:
        """The search of this file's texts."""
        read = functools.partial(self._file.read_row_group, columns=[*SEARCHED])
        return TextSearch(read, self._file.num_row_groups) if self._whole is self else self._whole.text_search

    def search(self, needle: Needle) -> NDArray[np.bool_]:
        """Return which pairs contain a needle in their prompt, chosen or rejected response. Shape (num_pairs,)."""
        return self.text_search.find(needle)[self._positions]

    def read(self, columns: list[str], most: int | None = None) -> Iterator[dict[str, list[Any]]]:
        """Yield stored columns as Python values, one row group at a time, in row order; yields at least once.

        Args:
            columns: Names of the columns.
            most: Approximate number of pairs to read, from row groups spread evenly over the file; None: all pairs.
        """
        groups = np.arange(self._file.num_row_groups)
        if most is not None and self.num_pairs > most:
            groups = groups[:: -(-self.num_pairs // most)]
        for group in groups.tolist():
            start, stop = self._starts[group : group + 2]
            first, last = np.searchsorted(self._positions, (start, stop))
            if first < last or group == 0:
                wanted = indices(self._positions[first:last] - start)
                stored = [self._own.get(name, name) for name in columns]
                found = self._file.read_row_group(group, columns=stored).take(wanted).to_pydict()
                yield {name: found[one] for name, one in zip(columns, stored, strict=True)}

    @functools.cached_property
    def _starts(self) -> NDArray[np.int64]:
        """Position of the first pair of each row group, followed by the number of pairs. Shape (groups + 1,)."""
        metadata = self._file.metadata
        sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        return np.cumsum([0, *sizes], dtype=np.int64)

    def _group_of(self, position: int) -> int:
        """Return the row group of the pair at a position.

        Raises:
            IndexError: If the ledger has no such position.
        """
        if not 0 <= position < self.num_pairs:
            raise IndexError(position)
        return int(np.searchsorted(self._starts, self._positions[position], side="right")) - 1

    def pair(self, position: int, columns: list[str] | None = None) -> dict[str, Any]:
        """Return the stored values of the pair at a position: some columns, or all but alternatives.

        Raises:
            IndexError: If the ledger has no such position.
        """
        group = self._group_of(position)
        offset = int(self._positions[position] - self._starts[group])
        stored = None if columns is None else [self._own.get(name, name) for name in columns]
        if columns is None and self.alternatives:
            stored = [name for name in self._file.schema_arrow.names if name not in COLUMNS]
        (row,) = self._file.read_row_group(group, columns=stored).slice(offset, 1).to_pylist()
        carried = {one: name for name, one in self._own.items()}
        return {carried.get(name, name): value for name, value in row.items()}

    def alternatives_of(self, position: int) -> dict[tuple[str, str], Alternatives]:
        """Return the alternatives of the pair at a position by role and side; empty if the ledger has none.

        Raises:
            IndexError: If the ledger has no such position.
        """
        if not self.alternatives:
            return {}
        divergences = [name for name in DIVERGENCES if name in self._names_in_file]
        return read_alternatives(self.pair(position, [*COLUMNS, *divergences]), self.alternatives)

    def beginnings(self, position: int, column: str, length: int) -> tuple[int, list[str]]:
        """Return the first characters of a text column for the row group of a position, and the group's first position.

        Raises:
            IndexError: If the ledger has no such position.
        """
        import pyarrow.compute as pc

        group = self._group_of(position)
        start, stop = self._starts[group : group + 2]
        first, last = np.searchsorted(self._positions, (start, stop))
        kept = indices(self._positions[first:last] - start)
        texts = self._file.read_row_group(group, columns=[column]).column(column).take(kept)
        return int(first), [text or "" for text in pc.utf8_slice_codeunits(texts, 0, length).to_pylist()]

    def derived(self, preferences: PreferenceSettings) -> Columns:
        """Return the derived columns, in the ledger's order: log-ratios to outcome, losses, weights.

        Rewards, margins and outcome are missing without a reference.

        Raises:
            UsageError: If a loss is unknown or repeated, needs a missing reference, or has an invalid parameter.
        """
        exported = [column.name for column in DERIVED.values() if column.exported]
        columns = self.derive(exported, preferences.beta) if self.has_reference else {}
        losses, weights = {}, {}
        for choice in self.usable_losses(preferences):
            name = find_loss(choice.name).name
            losses[f"{name}_loss"] = self.loss(choice, preferences)
            if preferences.weights:
                weights[f"{name}_weight"] = self.loss_weight(choice, preferences)
        return {**columns, **losses, **weights}

    def loss(self, choice: LossChoice, preferences: PreferenceSettings) -> NDArray[Any]:
        """Compute a loss for every pair. Shape (num_pairs,)."""
        loss = find_loss(choice.name)
        return self._compute(loss, loss.compute, resolve_parameters(choice, preferences))

    def loss_weight(self, choice: LossChoice, preferences: PreferenceSettings) -> NDArray[Any]:
        """Compute the gradient weight of every pair under a loss. Shape (num_pairs,)."""
        loss = find_loss(choice.name)
        return self._compute(loss, loss.weight, resolve_parameters(choice, preferences))

    def first_loss_weight(self, choice: LossChoice, preferences: PreferenceSettings) -> NDArray[Any]:
        """Compute the gradient weight of every pair for a policy that equals the reference. Shape (num_pairs,)."""
        loss = find_loss(choice.name)
        return self._compute(loss, loss.weight, resolve_parameters(choice, preferences), AT_THE_START)

    def _compute(
        self,
        loss: Loss,
        function: LossFunction,
        parameters: Mapping[str, float],
        instead: Mapping[str, str | None] = MappingProxyType({}),
    ) -> NDArray[Any]:
        """Compute a loss or its weight, with other columns instead of some; population terms are of the whole file."""
        source = self._whole if loss.population else self
        names = [instead.get(name, name) for name in loss.inputs]
        inputs = [np.zeros(source.num_pairs) if name is None else source.stored[name] for name in names]
        if loss.population:
            values = _computed(function, inputs, parameters)
            return values if source is self else values[self._positions]
        values = np.empty(self.num_pairs)
        for start in range(0, self.num_pairs, CHUNK_PAIRS):
            part = slice(start, start + CHUNK_PAIRS)
            values[part] = _computed(function, [one[part] for one in inputs], parameters)
        return values

    def column(self, name: str) -> NDArray[Any]:
        """Return a stored column, with one value per pair; unknown token counts are nan.

        Raises:
            KeyError: If there is no such column.
        """
        values = self.stored[name]
        return np.where(values < 0, np.nan, values) if name in NUM_TOKENS else values

    def derive(self, names: Iterable[str], beta: float) -> Columns:
        """Compute derived columns by name, each of shape (num_pairs,).

        Raises:
            KeyError: If there is no such column.
        """
        found: Columns = {}

        def of(name: str) -> NDArray[Any]:
            if name not in DERIVED:
                return self.column(name)
            if name not in found:
                column = DERIVED[name]
                if column.over_all_pairs and self._whole is not self:
                    found[name] = self._whole.derive([name], beta)[name][self._positions]
                elif column.compute is not None:
                    found[name] = column.compute(of, beta)
            return found[name]

        with np.errstate(invalid="ignore"):
            return {name: of(name) for name in names}

    def rewards(self, beta: float) -> Columns:
        """Compute log-ratios, rewards and margins of every pair, each of shape (num_pairs,)."""
        return self.derive(REWARDS, beta)

    def usable_losses(self, preferences: PreferenceSettings) -> tuple[LossChoice, ...]:
        """Return the losses to show: the requested ones, or those defaults that this ledger can provide.

        Raises:
            UsageError: If a loss is repeated, or a requested loss needs data that the ledger does not have.
        """
        refuse_repeats(preferences.losses)
        missing = {choice.name: needed for choice in preferences.losses if (needed := self.missing_input(choice.name))}
        if missing and preferences.explicit:
            name, needed = next(iter(missing.items()))
            raise UsageError(f"Loss {name} needs {needed}, which this ledger does not have", where=str(self.path))
        return tuple(choice for choice in preferences.losses if choice.name not in missing)

    def missing_input(self, name: str) -> str:
        """Return what a loss needs that this ledger does not have; empty if nothing."""
        loss = find_loss(name)
        if loss.needs_reference and not self.has_reference:
            return "a reference"
        if {*loss.inputs} & {*TAIL_LOGPS} and not {*TOKEN_LOGPS} <= self._names_in_file:
            return "token log-probs"
        if {*loss.inputs} & {*COLLISION_LOGPS} and not {*COLLISION_LOGPS} <= self._names_in_file:
            return "log Σ π² of each token (score with --loss wpo)"
        if {*loss.inputs} & {*DIVERGENCE_SUMS} and not self.has_divergences:
            return "KL divergences (score with --kl)"
        return "token counts" if self._uncounted & {*loss.inputs} else ""

    @functools.cached_property
    def _names_in_file(self) -> frozenset[str]:
        """Of prefscope's columns; those of the data set could have their names before these were reserved."""
        return frozenset(self._file.schema_arrow.names) - self._file.own

    @functools.cached_property
    def _uncounted(self) -> frozenset[str]:
        """The columns of token counts with unknown values."""
        return frozenset(column for column in NUM_TOKENS if has_negative(self._file, column))

    def to_pandas(
        self, *, beta: float = 0.1, losses: tuple[LossChoice, ...] | None = None, texts: bool = False
    ) -> pd.DataFrame:
        """Return the flat table as a DataFrame: ids, the data set's columns, log-probs, rewards and losses.

        Args:
            beta: Scale of the rewards, and default beta of the losses with a reference.
            losses: The losses to include; None for the default ones.
            texts: Whether to include prompt, chosen and rejected.
        """
        import pandas as pd

        preferences = PreferenceSettings(beta, losses or DEFAULT_LOSSES, explicit=losses is not None)
        wanted = [*self.extra_columns, *(("prompt", "chosen", "rejected") if texts else ())]
        parts = [pd.DataFrame(group) for group in self.read(wanted)] if wanted else []
        carried = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(index=range(self.num_pairs))
        columns: dict[str, Any] = {name: self.stored[name] for name in ("row", "pair_id")}
        columns |= {name: carried[name].to_numpy() for name in self.extra_columns}
        columns |= {name: self.stored[name] for name in self.numbers}
        columns |= {**self.derived(preferences), "flags": self.stored["flags"]}
        columns |= {name: carried[name].to_numpy() for name in wanted if name not in self.extra_columns}
        return pd.DataFrame(columns)

    def describe(self) -> str:
        """Return the manifest as indented JSON."""
        return json.dumps(self.manifest, indent=2, ensure_ascii=False)


def _computed(function: LossFunction, inputs: list[NDArray[Any]], parameters: Mapping[str, float]) -> NDArray[Any]:
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return np.asarray(function(*inputs, **parameters))


def load_ledger(path: str | Path) -> Ledger:
    """Load a ledger from a file.

    Raises:
        LedgerError: If the file does not exist, is not a ledger, is damaged, or was written by a newer version.
    """
    return Ledger(Path(path))
