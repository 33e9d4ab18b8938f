"""Data sets on the Hugging Face hub."""

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
        """Empty: the rows do not come from files of the user."""
        return ()

    @property
    def remarks(self) -> tuple[str, ...]:
        """Empty: nothing is unusual about rows of the hub."""
        return ()

    def rows(self) -> Iterator[SourceRow | BadRow]:
        """Yield the rows, starting at the first; a row's line is its 1-based number."""
        for row, value in enumerate(self.dataset):
            yield SourceRow(row, row + 1, from_arrow_row(value))

    def content_hash(self) -> str:
        """Return the SHA-256 of id, split, configuration, revision and the data set's fingerprint."""
        # The fingerprint has no public name in datasets.
        fingerprint = self.dataset._fingerprint  # noqa: SLF001
        return hashlib.sha256(json.dumps([*self.settings, fingerprint]).encode()).hexdigest()

    def close(self) -> None:
        """Do nothing: `datasets` manages its own cache."""


def open_hub(hub_id: str, split: str, config: str | None, revision: str | None) -> HubSource:
    """Open a split of a data set on the hub.

    Raises:
        DataError: If it cannot be loaded.
        MissingExtraError: If `datasets` is not installed.
    """
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise MissingExtraError("reading a data set from the hub", "hub") from error
    try:
        dataset = load_dataset(hub_id, config, split=split, revision=revision)
    except Exception as error:  # datasets, huggingface_hub and the network raise without a common base
        reason = str(error).strip().split("\n", 1)[0].rstrip(".") or type(error).__name__
        hint = "Check the id, the configuration, the split and the network; there is no local file of that name."
        raise DataError(f"cannot be loaded from the hub: {reason}", where=hub_id, hint=hint) from error
    return HubSource(f"{hub_id} ({split})", dataset, (hub_id, split, config, revision))
