"""Lines about what the models would have said instead of the token under the cursor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from prefscope.ledger.alternatives import Choices
from prefscope.report.token_choices import chance, divergence_text, rank_text
from prefscope.tui.model.numbers import figure
from prefscope.tui.model.token_lines import named

RANK_CELLS, ENTROPY_CELLS, BOUND_CELLS = 11, 5, 9
Text: TypeAlias = tuple[str, str]
"""A text and its style."""
NAMES = {"policy": "policy", "ref": "ref   "}


def alternative_lines(choices: Mapping[str, Choices], token: str) -> list[list[Text]]:
    """Return a line per model: rank of the actual token, entropy H in nats, and its most probable tokens.

    Args:
        choices: By role; without a reference, only of the policy.
        token: Text of the actual token, which is bold among the others.
    """
    bound = divergence_text(choices["policy"], choices["ref"]) if "ref" in choices else ""
    lines = []
    for role, one in choices.items():
        entropy = figure(one.entropy, ".2f")
        start = f"{NAMES[role]} {rank_text(one.rank):<{RANK_CELLS}} H {entropy:<{ENTROPY_CELLS}}"
        start += f" {bound if role == 'policy' else '':<{BOUND_CELLS}}" if bound else ""
        lines.append([(start, ""), *_tokens(one, token)])
    return lines


def _tokens(choices: Choices, token: str) -> list[Text]:
    """Return the most probable tokens with their probabilities, each with its style."""
    return [
        (f" {named(text)} {chance(logp)}", "bold" if text == token else "")
        for text, logp in zip(choices.texts, choices.logps, strict=True)
    ]
