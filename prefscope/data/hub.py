"""Data sets of the Hugging Face hub."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from prefscope.data.arrow_values import from_arrow_row
from prefscope.data.records import BadRow, Json, SourceRow
from prefscope.errors import DataError, MissingExtraError


@dataclass(frozen=True, slots=True)
class HubSource:
    """The rows of one split of a data set on the hub."""

    name: str
    dataset: Json
    """The `datasets.Dataset`."""
    settings: tuple[str | None, ...]

    @property
    def files(self) -> tuple[Path, ...]:
        """No file of the user's."""
        return ()

    @property
    def remarks(self) -> tuple[str, ...]:
        """Nothing."""
        return ()

    def rows(self) -> Iterator[SourceRow | BadRow]:
        """Return the rows from the first one on; a row's line is its number."""
        for row, value in enumerate(self.dataset):
            yield SourceRow(row, row + 1, from_arrow_row(value))

    def content_hash(self) -> str:
        """Return the SHA-256 of id, split, configuration, revision and the data set's fingerprint."""
        # datasets offers its cache key under no public name.
        fingerprint = self.dataset._fingerprint  # noqa: SLF001
        return hashlib.sha256(json.dumps([*self.settings, fingerprint]).encode()).hexdigest()

    def close(self) -> None:
        """Do nothing: `datasets` keeps its own cache."""


def open_hub(hub_id: str, split: str, config: str | None, revision: str | None) -> HubSource:
    """Return the rows of a split.

    Raises:
        DataError: It cannot be loaded.
        MissingExtraError: `datasets` is not installed.
    """
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise MissingExtraError("reading a data set from the hub", "hub") from error
    try:
        dataset = load_dataset(hub_id, config, split=split, revision=revision)
    except Exception as error:  # datasets, huggingface_hub and the network raise without a common base
        reason = str(error).strip().split("\n", 1)[0].rstrip(".") or type(error).__name__
        hint = "Check the id, the configuration, the split and the network; no file of that name is here."
        raise DataError(f"cannot be loaded from the hub: {reason}", where=hub_id, hint=hint) from error
    return HubSource(f"{hub_id} ({split})", dataset, (hub_id, split, config, revision))
