"""The explanation of the pair under the cursor, as lines; prompts are indexed once per ledger.

This module does not use widgets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from prefscope.ledger.table import Ledger
from prefscope.report.explained import ExplainedPair, explain_pair, similar_pairs
from prefscope.report.explanation_words import Line, in_words, sentence_lines
from prefscope.report.nearest import PromptIndex
from prefscope.report.token_steps import LOGRATIO_STEPS
from prefscope.tui.model.response import DIVERGENCE_STEPS, RANK_STEPS, SURPRISE_STEPS, Shown
from prefscope.tui.model.session import Session

FEW = 2_000
"""Up to this many pairs, prompts are indexed at once: the delay is not noticeable."""
RAISES, LOWERS = "$background on $positive", "$background on $negative"


class Explainer:
    """Explains pairs of a session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._explained: ExplainedPair | None = None
        self._index: PromptIndex | None = None
        self._indexed: Ledger | None = None
        """The ledger whose prompts are indexed, or are being indexed."""

    def explain(self) -> None:
        """Explain the pair under the session's cursor."""
        session = self._session
        self._explained = explain_pair(session.view, session.position, session.runs.both[1] or "B")

    def unindexed(self) -> Ledger | None:
        """Return a large ledger whose prompts are to be indexed elsewhere with `keep`, once; index a small one here."""
        ledger = self._session.ledger
        if self._indexed is ledger:
            return None
        self._indexed, self._index = ledger, None
        if ledger.num_pairs > FEW:
            return ledger
        self.keep(ledger, PromptIndex(ledger))
        return None

    def keep(self, ledger: Ledger, index: PromptIndex) -> None:
        """Use an index of a ledger's prompts, unless another ledger is shown by now."""
        if self._indexed is ledger:
            self._index = index

    def lines(self) -> list[Line]:
        """Return the explanation in words, then a line per sentence."""
        if self._explained is None:
            return []
        similar = None
        if self._index is not None and self._indexed is self._session.ledger:
            similar = similar_pairs(self._session.view, self._index, self._session.position)
        explained = replace(self._explained, similar=similar)
        return [*in_words(explained, brief=True), *sentence_lines(explained)]


def legend(values: Shown) -> Sequence[tuple[str, str] | str]:
    """Return what the colours of tokens mean and the bounds between their levels, as pieces of styled text."""
    steps = {"Δ": LOGRATIO_STEPS, "rank": RANK_STEPS[::-1], "KL": DIVERGENCE_STEPS}.get(values, SURPRISE_STEPS)
    name = {"Δ": "|Δ| ≥", "rank": "rank ≤", "KL": "KL ≥"}.get(values, f"−{values} >")
    bounds = f"{name} {' '.join(f'{step:g}' for step in steps)}"
    if values in {"Δ", "rank"}:
        return (" raises ", RAISES), " ", (" lowers ", LOWERS), f" the margin: {bounds}"
    return (" models differ " if values == "KL" else " surprising ", LOWERS), f": {bounds}"
