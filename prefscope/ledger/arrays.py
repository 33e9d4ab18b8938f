"""Convert columns of a ledger file to NumPy arrays without pandas, which pyarrow's own conversions import."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa

Columns = dict[str, NDArray[Any]]


class ReadWhenAsked(Columns):
    """Columns by name, read on first access: a million pair_ids take 150 MB and are rarely needed."""

    def __init__(self, read: Callable[[str], Columns]) -> None:
        super().__init__()
        self._read = read

    def __missing__(self, name: str) -> NDArray[Any]:
        for other, values in self._read(name).items():
            self.setdefault(other, values)
        return self[name]


class Inherited:
    """Columns of a subset of pairs, taken from those of the whole set when they are first used."""

    def __init__(self, columns: Columns, wanted: NDArray[np.bool_], inherited: Inherited | None) -> None:
        """Keep the known columns of more pairs, which of the pairs are wanted, and what is inherited of more pairs."""
        self._columns, self._inherited = columns, inherited
        self._places = np.flatnonzero(wanted)

    def __contains__(self, name: str) -> bool:
        return name in self._columns or (self._inherited is not None and name in self._inherited)

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name not in self._columns and self._inherited is not None:
            self._columns[name] = self._inherited[name]
        values: NDArray[Any] = self._columns[name][self._places]
        return values


def as_array(column: pa.ChunkedArray) -> NDArray[Any]:
    """Convert a stored column, with null numbers as nan; equal texts share one object.

    pyarrow's `to_numpy` would import pandas.
    """
    values = column.combine_chunks()
    if str(values.type) == "string":
        encoded = values.dictionary_encode()
        texts = np.array(encoded.dictionary.to_pylist(), dtype=object)
        return np.asarray(texts[np.from_dlpack(encoded.indices)])
    return np.from_dlpack(values.fill_null(math.nan) if values.null_count else values)


def list_offsets(lists: pa.ListArray) -> NDArray[np.int64]:
    """Return the offset of each list in the flattened values, followed by the total length."""
    offsets: NDArray[np.int64] = np.from_dlpack(lists.offsets).astype(np.int64)
    begins: NDArray[np.int64] = offsets - offsets[0]
    return begins


def numbered(texts: list[pa.ChunkedArray]) -> list[NDArray[np.int64]]:
    """Encode text columns as integers, equal texts as equal ones; Arrow needs no Python object per text for this."""
    import pyarrow as pa

    joined = pa.chunked_array([chunk for column in texts for chunk in column.chunks], type=pa.string())
    codes = np.from_dlpack(joined.combine_chunks().dictionary_encode().indices).astype(np.int64)
    return np.split(codes, np.cumsum([len(column) for column in texts])[:-1])


def counts_before(ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return, for each id, how many equal ids precede it."""
    order = np.argsort(ids, kind="stable")
    begins = np.append(True, ids[order][1:] != ids[order][:-1])
    places = np.arange(len(ids))
    counts = np.empty(len(ids), dtype=np.int64)
    counts[order] = places - np.maximum.accumulate(np.where(begins, places, 0))
    return counts


def indices(places: NDArray[np.int64]) -> pa.Array:
    """Convert positions for pyarrow's `take`, which imports pandas if it gets a NumPy array or a list."""
    import pyarrow as pa

    return pa.Array.from_buffers(pa.int64(), len(places), [None, pa.py_buffer(places.tobytes())])
