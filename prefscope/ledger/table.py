"""The ledger in memory: numbers as NumPy columns, texts and tokens read from the file when asked for.

Stored columns are as scored; rewards, margins and losses are computed for the knobs given, so moving one needs no
model. This module imports no torch.
"""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from prefscope.errors import UsageError
from prefscope.ledger.arrays import Columns, ReadWhenAsked, as_array, counts_before, indices, numbered
from prefscope.ledger.columns import COLLISION_LOGPS, DERIVED, LOGPS, NUM_TOKENS, STORED, TAIL_LOGPS, TOKEN_LOGPS
from prefscope.ledger.file import has_negative, open_parquet
from prefscope.ledger.names import RENAMED, carried_names
from prefscope.ledger.tails import tail_sums
from prefscope.preference.registry import Loss, LossFunction, find_loss, refuse_repeats, resolve_parameters
from prefscope.settings import DEFAULT_LOSSES, LossChoice, PreferenceSettings

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

REWARDS = ("chosen_logratios", "rejected_logratios", "chosen_rewards", "rejected_rewards", "margins")
CHUNK_PAIRS = 65_536
"""So many pairs are computed at once: what lies between stays in the cache."""
STORED_NAMES = frozenset((*(column.name for column in STORED), *TAIL_LOGPS, *COLLISION_LOGPS))
READ_TOGETHER = ((*LOGPS, *NUM_TOKENS), TAIL_LOGPS, COLLISION_LOGPS)


class Ledger:
    """A scored data set."""

    def __init__(self, path: Path) -> None:
        """Open a ledger file.

        Raises:
            LedgerError: The file is not there, is no ledger, is damaged, or was written by a newer version.
        """
        self.path = path
        self._file, self.manifest = open_parquet(path)
        self.num_pairs: int = self._file.metadata.num_rows
        self._positions = np.arange(self.num_pairs)
        self._whole = self
        self.stored: Columns = ReadWhenAsked(self._read_stored)

    @functools.cached_property
    def extra_columns(self) -> Mapping[str, str]:
        """The data set's own columns by the name they are carried under, with their kind."""
        kinds: Mapping[str, str] = self.manifest["extra_columns"]
        return {name: kinds[stored] for name, stored in self._own.items()}

    @functools.cached_property
    def _own(self) -> Mapping[str, str]:
        """The names of the data set's own columns in the file, by those under which they are carried.

        They differ in a file from before a name was one of ours.
        """
        return {name: stored for stored, name in carried_names(self.manifest["extra_columns"]).items()}

    @property
    def renamed_columns(self) -> Mapping[str, str]:
        """The carried names of the data set's columns, by their own names, where these clash with ours."""
        in_this_file = {stored: name for name, stored in self._own.items() if name != stored}
        return {**self.manifest.get(RENAMED, {}), **in_this_file}

    @property
    def has_reference(self) -> bool:
        """Whether reference log-probs are there."""
        return bool(self.manifest["has_reference"])

    @property
    def has_checksums(self) -> bool:
        """Whether the file shows by itself that it is as it was written; those from before checksums do not."""
        return self._file.checksums is not None

    @property
    def has_tokens(self) -> bool:
        """Whether per-token columns are there."""
        return "chosen_tokens" in self._file.schema_arrow.names

    @property
    def is_known(self) -> NDArray[np.bool_]:
        """Whether each pair was scored, be it with a number or not; shape (num_pairs,)."""
        return np.ones(self.num_pairs, dtype=np.bool_)

    def only(self, wanted: NDArray[np.bool_]) -> Ledger:
        """Return the ledger of some of the pairs, which are given by a flag a pair."""
        part = copy.copy(self)
        part.__dict__.pop("occurrences", None)
        part._keep(wanted)  # noqa: SLF001 (a ledger, too)
        return part

    def _keep(self, wanted: NDArray[np.bool_]) -> None:
        known = {name: values[wanted] for name, values in self.stored.items()}
        self._positions = self._positions[wanted]
        self.num_pairs = len(self._positions)
        self.stored = ReadWhenAsked(self._read_stored)
        self.stored |= known

    def _read_stored(self, name: str) -> Columns:
        """Return a stored column, and those that go with it: all sums and counts at once take half the time."""
        import pyarrow as pa

        if name not in STORED_NAMES:
            raise KeyError(name)
        numbers = next((some for some in READ_TOGETHER if name in some), (name,))
        found: Columns = {}
        if numbers == TAIL_LOGPS:
            found = tail_sums(self._file)
        else:
            table = self._file.read(columns=[*numbers])
            for column in table.column_names:
                found[column] = as_array(table.column(column))
                table = table.drop_columns([column])  # gives its memory back before the next one is copied
        pa.default_memory_pool().release_unused()
        whole = self.num_pairs == self._file.metadata.num_rows
        return found if whole else {name: values[self._positions] for name, values in found.items()}

    @functools.cached_property
    def _ids(self) -> pa.ChunkedArray:
        """The pair_ids of the whole file as Arrow keeps them, in an eighth of the memory that objects take."""
        return self._file.read(columns=["pair_id"]).column("pair_id")

    @functools.cached_property
    def occurrences(self) -> NDArray[np.int64]:
        """How many pairs before each in the file have its pair_id. Shape (num_pairs,)."""
        (ids,) = numbered([self._ids])
        return counts_before(ids)[self._positions]

    def number_pairs(self, other: Ledger) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return a number for each pair of this ledger and of another one: equal where pair_id and occurrence are."""
        if self._ids.equals(other._ids):  # two runs on one data set
            return self._positions, other._positions
        ids = numbered([self._ids, other._ids])
        counts = [counts_before(one) for one in ids]
        most = max(int(one.max(initial=0)) for one in counts) + 1
        ours, theirs = (one * most + count for one, count in zip(ids, counts, strict=True))
        return ours[self._positions], theirs[other._positions]

    def read(self, columns: list[str], most: int | None = None) -> Iterator[dict[str, list[Any]]]:
        """Yield the stored columns as Python values, a row group at a time, in row order; at least one, if empty.

        Args:
            columns: Their names.
            most: Read about so many pairs, from row groups spread evenly over the file; None: all of them.
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
        """Where each row group begins in the file, and at last where the file ends. Shape (groups + 1,)."""
        metadata = self._file.metadata
        sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        return np.cumsum([0, *sizes], dtype=np.int64)

    def _group_of(self, position: int) -> int:
        """Return the row group of the pair at a position.

        Raises:
            IndexError: The ledger has no such position.
        """
        if not 0 <= position < self.num_pairs:
            raise IndexError(position)
        return int(np.searchsorted(self._starts, self._positions[position], side="right")) - 1

    def pair(self, position: int, columns: list[str] | None = None) -> dict[str, Any]:
        """Return what is stored of the pair at a position: some columns, or all, texts and tokens included.

        Raises:
            IndexError: The ledger has no such position.
        """
        group = self._group_of(position)
        offset = int(self._positions[position] - self._starts[group])
        stored = None if columns is None else [self._own.get(name, name) for name in columns]
        (row,) = self._file.read_row_group(group, columns=stored).slice(offset, 1).to_pylist()
        carried = {one: name for name, one in self._own.items()}
        return {carried.get(name, name): value for name, value in row.items()}

    def beginnings(self, position: int, column: str, length: int) -> tuple[int, list[str]]:
        """Return a text's first characters of every pair in the row group of a position, and the first one's position.

        Raises:
            IndexError: The ledger has no such position.
        """
        import pyarrow.compute as pc

        group = self._group_of(position)
        start, stop = self._starts[group : group + 2]
        first, last = np.searchsorted(self._positions, (start, stop))
        kept = indices(self._positions[first:last] - start)
        texts = self._file.read_row_group(group, columns=[column]).column(column).take(kept)
        return int(first), [text or "" for text in pc.utf8_slice_codeunits(texts, 0, length).to_pylist()]

    def derived(self, preferences: PreferenceSettings) -> Columns:
        """Return the columns that depend on a knob, in the ledger's order: log-ratios to outcome, losses, weights.

        Rewards, margins and outcome are not there without a reference.

        Raises:
            UsageError: A loss is unknown, given twice, needs a reference that the ledger lacks, or has a bad parameter.
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
        """Return a loss of every pair. Shape (num_pairs,)."""
        loss = find_loss(choice.name)
        return self._compute(loss, loss.compute, resolve_parameters(choice, preferences))

    def loss_weight(self, choice: LossChoice, preferences: PreferenceSettings) -> NDArray[Any]:
        """Return the gradient weight of every pair under a loss. Shape (num_pairs,)."""
        loss = find_loss(choice.name)
        return self._compute(loss, loss.weight, resolve_parameters(choice, preferences))

    def _compute(self, loss: Loss, function: LossFunction, parameters: Mapping[str, float]) -> NDArray[Any]:
        """Return a loss or its weight; what is taken over all pairs is taken over all of the file."""
        source = self._whole if loss.population else self
        inputs = [source.stored[name] for name in loss.inputs]
        if loss.population:
            values = _computed(function, inputs, parameters)
            return values if source is self else values[self._positions]
        values = np.empty(self.num_pairs)
        for start in range(0, self.num_pairs, CHUNK_PAIRS):
            part = slice(start, start + CHUNK_PAIRS)
            values[part] = _computed(function, [one[part] for one in inputs], parameters)
        return values

    def column(self, name: str) -> NDArray[Any]:
        """Return a stored column, a value a pair; a token count that is not known is nan.

        Raises:
            KeyError: There is no such column.
        """
        values = self.stored[name]
        return np.where(values < 0, np.nan, values) if name in NUM_TOKENS else values

    def derive(self, names: Iterable[str], beta: float) -> Columns:
        """Return derived columns by their names, each of shape (num_pairs,).

        Raises:
            KeyError: There is no such column.
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
        """Return log-ratios, rewards and margins of every pair, each of shape (num_pairs,)."""
        return self.derive(REWARDS, beta)

    def usable_losses(self, preferences: PreferenceSettings) -> tuple[LossChoice, ...]:
        """Return the losses to show: those asked for, or the default ones that this ledger can give.

        Raises:
            UsageError: A loss is given twice, or was asked for and needs what the ledger lacks.
        """
        refuse_repeats(preferences.losses)
        lacking = {choice.name: lack for choice in preferences.losses if (lack := self.lack(choice.name))}
        if lacking and preferences.explicit:
            name, lack = next(iter(lacking.items()))
            raise UsageError(f"Loss {name} needs {lack}, and this ledger has none", where=str(self.path))
        return tuple(choice for choice in preferences.losses if choice.name not in lacking)

    def lack(self, name: str) -> str:
        """Return what the ledger lacks for a loss, empty for nothing."""
        loss = find_loss(name)
        if loss.needs_reference and not self.has_reference:
            return "a reference"
        schema = self._file.schema_arrow.names
        if {*loss.inputs} & {*TAIL_LOGPS} and not {*TOKEN_LOGPS} <= {*schema}:
            return "the log-probs of tokens"
        if {*loss.inputs} & {*COLLISION_LOGPS} and not {*COLLISION_LOGPS} <= {*schema}:
            return "how sure the policy was (score --loss wpo)"
        return "token counts" if self._uncounted & {*loss.inputs} else ""

    @functools.cached_property
    def _uncounted(self) -> frozenset[str]:
        """The columns of token counts that are not known of every pair."""
        return frozenset(column for column in NUM_TOKENS if has_negative(self._file, column))

    def to_pandas(
        self, *, beta: float = 0.1, losses: tuple[LossChoice, ...] | None = None, texts: bool = False
    ) -> pd.DataFrame:
        """Return the flat table as a data frame: ids, the data set's columns, log-probs, rewards and losses.

        Args:
            beta: Scale of the rewards and default beta of the losses with a reference.
            losses: Which losses; None for the default ones.
            texts: Whether prompt, chosen and rejected are columns too.
        """
        import pandas as pd

        preferences = PreferenceSettings(beta, losses or DEFAULT_LOSSES, explicit=losses is not None)
        wanted = [*self.extra_columns, *(("prompt", "chosen", "rejected") if texts else ())]
        parts = [pd.DataFrame(group) for group in self.read(wanted)] if wanted else []
        carried = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(index=range(self.num_pairs))
        columns: dict[str, Any] = {name: self.stored[name] for name in ("row", "pair_id")}
        columns |= {name: carried[name].to_numpy() for name in self.extra_columns}
        columns |= {column.name: self.stored[column.name] for column in STORED if column.name in {*LOGPS, *NUM_TOKENS}}
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
    """Return the ledger in a file.

    Raises:
        LedgerError: The file is not there, is no ledger, is damaged, or was written by a newer version.
    """
    return Ledger(Path(path))
