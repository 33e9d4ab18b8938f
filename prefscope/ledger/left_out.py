"""Describe the parts of messages that a run's chat template did not render, from the ledger's manifest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LEFT_OUT = "left_out"
"""Key of the manifest's tokenization: number of pairs by what was not rendered, such as `response: reasoning`."""


def describe_left_out(tokenization: Mapping[str, Any]) -> str:
    """Describe what was not rendered and in how many pairs, the most frequent first; empty if nothing.

    >>> describe_left_out({"left_out": {"prompt: tools": 1, "response: tool_calls": 20}})
    'tool_calls of the response (20), tools of the prompt (1)'
    """
    counts: Mapping[str, int] = tokenization.get(LEFT_OUT) or {}
    found = sorted(counts.items(), key=lambda item: -item[1])
    words = (name.partition(": ") for name, _ in found)
    return ", ".join(
        f"{what} of the {part} ({count:,})" for (part, _, what), (_, count) in zip(words, found, strict=True)
    )
