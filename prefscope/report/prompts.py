"""Differences in how two runs tokenized the same pairs."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any

from prefscope.ledger.source_pairs import source_pairs
from prefscope.ledger.table import Ledger


def prompt_cautions(a: Ledger, b: Ledger) -> list[str]:
    """Return the reasons why tokens of two runs, A and B, differ, as sentences without full stops."""
    first, second = (_tokenization(ledger) for ledger in (a, b))

    def differ(key: str) -> bool:
        return None not in (first.get(key), second.get(key)) and first[key] != second[key]

    dates = [one.get("template_date") for one in (first, second)]
    notes = {
        "the prompts differ: A and B have different tokenizers": differ("tokenizer_hash"),
        f"the prompts differ: A has the profile {first.get('profile')}, B {second.get('profile')}": differ("profile"),
        f"the prompts differ: the chat template wrote the date {dates[0]} in A, {dates[1]} in B": (
            differ("template_date")
        ),
        "the prompts differ: A and B have different chat templates": (
            differ("template_hash") and not differ("template_date") and _converses(a)
        ),
        f"sequences are truncated to {first.get('max_length')} tokens in A, to {second.get('max_length')} in B": (
            differ("max_length") and (_is_cut(a) or _is_cut(b))
        ),
    }
    return [sentence for sentence, holds in notes.items() if holds]


def _tokenization(ledger: Ledger) -> Mapping[str, Any]:
    """Return the tokenization in a run's manifest; empty if no model was run."""
    found: Mapping[str, Any] = ledger.manifest.get("tokenization") or {}
    return found


def _converses(ledger: Ledger) -> bool:
    """Return whether the first pair is a conversation; only conversations are rendered by a chat template."""
    return any(not isinstance(pair.prompt, str) for pair in islice(source_pairs(ledger), 1))


def _is_cut(ledger: Ledger) -> bool:
    return any("truncated" in flags for flags in set(ledger.stored["flags"].tolist()))
