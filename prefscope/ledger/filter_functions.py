"""The functions of the filter language that select pairs, and their valid arguments."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from prefscope.flags import FLAGS

MARKS = ("any", "keep", "drop", "swap", "note")
LINT_CHECKS = (
    "duplicate_pairs",
    "contradictions",
    "chosen_and_rejected",
    "duplicate_prompts",
    "near_duplicate_pairs",
    "near_duplicate_prompts",
    "leaked_prompts",
    "telling_phrase",
    "identical_responses",
    "empty_responses",
    "repeated_prompt",
    "templated_text",
    "role_order",
    "encoding_damage",
    "white_space",
    "length_bias",
)
"""The checks of `prefscope lint`, except `bad_rows`. Their modules are only imported when a filter uses one."""
CHOICES: Mapping[str, Collection[str]] = {"flag": FLAGS, "mark": MARKS, "lint": LINT_CHECKS}
"""Valid arguments of the functions that take a word."""
SEARCHES: Mapping[str, bool] = {"has": False, "matches": True}
"""Functions that search the texts, and whether their argument is a pattern."""
FUNCTIONS = ("abs", "flag", "has", "lint", "mark", "matches")
INSTEAD: Mapping[str, str] = {
    "between": "Write 0 < margin < 1.",
    "contains": 'Write prompt ~ "python", or has("python") for all texts.',
    "is": 'Write category == "" for empty texts, score != score for missing numbers.',
    "like": 'Write prompt ~ "python", or matches("pyth.n") for a pattern.',
}
"""What to write instead of operators of other languages."""
