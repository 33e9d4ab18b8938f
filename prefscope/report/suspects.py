"""Suspicious labels: pairs by the probability that they are flipped, with copies and contradictions."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from prefscope.ledger.view import View
from prefscope.preference.diagnostics.flips import SUSPECT

MOST = 10


@dataclass(frozen=True, slots=True)
class Suspect:
    """A pair whose label may be flipped."""

    position: int
    """Position in the ledger."""
    row: int
    line: int
    margin: float
    posterior: float
    prompt: str
    flags: str
    copies: tuple[int, ...]
    """Rows of other pairs with the same prompt and responses."""
    contradictions: tuple[int, ...]
    """Rows of pairs with the same prompt and exchanged responses."""


def suspects(view: View, most: int = MOST) -> list[Suspect]:
    """Return the pairs that are ranked wrong or likely flipped, the likeliest flip first; none without a reference."""
    if not view.ledger.has_reference:
        return []
    margins, posteriors = view.column("margins"), view.column("flip_posterior")
    wrong = np.flatnonzero((margins < 0) | (posteriors > SUSPECT))
    wrong = wrong[np.lexsort((margins[wrong], -posteriors[wrong]))][:most]
    texts = {int(at): view.ledger.pair(int(at), ["prompt", "chosen", "rejected"]) for at in wrong}
    by_prompt: dict[str, list[int]] = defaultdict(list)
    for at, pair in texts.items():
        by_prompt[pair["prompt"]].append(at)
    copies, contradictions = defaultdict(list), defaultdict(list)
    for group in view.ledger.read(["row", "prompt", "chosen", "rejected"]):
        for index, prompt in enumerate(group["prompt"]):
            for at in by_prompt.get(prompt, ()):
                other, row = (group["chosen"][index], group["rejected"][index]), group["row"][index]
                own = texts[at]["chosen"], texts[at]["rejected"]
                if own == other and row != view.ledger.stored["row"][at]:
                    copies[at].append(row)
                elif own == other[::-1] and own != other:
                    contradictions[at].append(row)
    stored = view.ledger.stored
    return [
        Suspect(
            position=at,
            row=int(stored["row"][at]),
            line=int(stored["line"][at]),
            margin=float(margins[at]),
            posterior=float(posteriors[at]),
            prompt=pair["prompt"],
            flags=str(stored["flags"][at]),
            copies=tuple(copies[at]),
            contradictions=tuple(contradictions[at]),
        )
        for at, pair in texts.items()
    ]
