"""The reference of a training: its log-probs are computed once, or taken from a ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefscope.errors import UsageError
from prefscope.integrations.lending import language_model, lent, reference_adapter
from prefscope.integrations.live_scoring import LivePairs, Logps
from prefscope.ledger.table import Ledger, load_ledger
from prefscope.scoring.models import LanguageModel

ITSELF = "the model before its first step"


@dataclass(frozen=True, slots=True)
class Reference:
    """The log-probs that rewards are relative to."""

    logps: Logps
    described: Mapping[str, Any]
    """What ledgers say of it."""

    @property
    def name(self) -> str:
        """What it is, in words."""
        return str(self.described["name"])


def reference_of_ledger(pairs: LivePairs, path: Path) -> Reference:
    """Return the reference of a ledger of the same pairs.

    Raises:
        LedgerError: The ledger cannot be read.
        UsageError: It does not have the reference's log-probs of every token.
    """
    ledger = load_ledger(path)
    found = pairs.known_reference(ledger)
    if found is None:
        raise UsageError(
            "This ledger does not have the reference's token log-probs of all pairs",
            where=str(path),
            hint="Score the same pairs with `prefscope score`, without --no-tokens.",
        )
    return Reference(found, _described(ledger, f"that of {path}"))


def _described(ledger: Ledger, name: str) -> dict[str, Any]:
    """Return what a ledger says of its reference, under another name."""
    return {**ledger.manifest.get("models", {}).get("ref", {}), "name": name}


def _scored(pairs: LivePairs, model: LanguageModel, name: str) -> Reference:
    logps = pairs.score(model)
    return Reference(logps, pairs.describe(model, name, logps))


def reference_of_training(
    pairs: LivePairs, model: LanguageModel, ref_model: Any, earlier: Sequence[Path], *, is_new: bool
) -> Reference:
    """Return the reference of a training, scoring it if needed.

    Args:
        pairs: The pairs.
        model: The model that is trained, lent for scoring.
        ref_model: A model that was given or that the trainer has; None if there is none.
        earlier: The ledgers that the training has written before.
        is_new: Whether the model is as it was before the first step.

    Raises:
        UsageError: The training was resumed, and there is nothing to take its reference from.
    """
    if ref_model is not None:
        reference = language_model(ref_model)
        with lent(reference):
            return _scored(pairs, reference, "the trainer's ref_model")
    if model.peft is not None:
        with reference_adapter(model):
            return _scored(pairs, model, "the model without its adapter")
    if is_new:
        return _scored(pairs, model, ITSELF)
    for path in earlier:
        ledger = load_ledger(path)
        if (found := pairs.known_reference(ledger)) is not None:
            return Reference(found, _described(ledger, ITSELF))
    raise UsageError(
        "The training was resumed, so the model is no longer its own reference, and the run folder has no earlier "
        "ledger of these pairs",
        hint="Pass ref_model=… or ref_ledger=… to the PreferenceCallback.",
    )
