"""Label noise by split: a policy has learnt the flipped labels that it was trained on, so it cannot find them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prefscope.ledger.view import View
from prefscope.preference.diagnostics import DIAGNOSTICS, Flips
from prefscope.report.diagnosis import finding_of

SPLIT = "split"
"""The column of a data set that names splits."""
MOST_SPLITS = 8
OUT_OF_REACH = (
    "Flipped labels that the policy was trained on are out of reach: it has learnt them, and their margins are as "
    "large as those of others"
)


@dataclass(frozen=True, slots=True)
class SplitNoise:
    """The label noise of a split, from a fit to its pairs alone."""

    split: str
    figures: Flips

    @property
    def is_trained(self) -> bool:
        """Whether the split is one to train on, by its name."""
        return self.split.casefold().startswith("train")

    def to_json(self) -> dict[str, Any]:
        """Return the figures as JSON values."""
        return {"split": self.split, "is_trained": self.is_trained} | asdict(self.figures)


def noise_by_split(view: View) -> tuple[SplitNoise, ...]:
    """Return the label noise of every split, by name.

    A split is a value of the data set's column `split`; without that column, it is the split that the run has read.
    There are none if there are more than eight, or no reference.
    """
    splits = _splits(view)
    names = sorted(set(splits.tolist()) - {""})
    if not view.ledger.has_reference or len(names) > MOST_SPLITS:
        return ()
    found = []
    for name in names:
        one = finding_of(view.only(splits == name), DIAGNOSTICS["flips"])
        if one is not None and isinstance(one.figures, Flips):
            found.append(SplitNoise(name, one.figures))
    return tuple(found)


def _splits(view: View) -> NDArray[Any]:
    """Return the split of every pair; empty if unknown. Shape (num_pairs,)."""
    if view.ledger.extra_columns.get(SPLIT) == "text":
        return view.column(SPLIT)
    read = view.ledger.manifest.get("settings", {}).get("data", {}).get("split") or ""
    return np.full(view.ledger.num_pairs, read, dtype=object)
