"""Rows that are no preference pair, told by what they are instead."""

from __future__ import annotations

from prefscope.data.dialects.dialect import NotAPairError, Row, columns_found

_LABELS = ("label", "labels", "preference", "better_response_id", "safer_response_id")
_LISTS = ("completions", "answers", "responses")
_NUMBERED = (("output_1", "output_2"), ("response_0", "response_1"), ("response_1", "response_2"))
_PAIRED = (
    ("chosen", "rejected"),
    ("chosen_response", "rejected_response"),
    ("chosen_messages", "rejected_messages"),
    ("chosen_conversations", "rejected_conversations"),
    ("preferred_output", "non_preferred_output"),
    ("response_j", "response_k"),
    ("answer_w", "answer_l"),
)


def refusal(value: Row) -> NotAPairError:
    """Return why a row that no dialect recognises is not a pair, with the columns it has."""
    return NotAPairError(f"{_what_it_is(value)}; {columns_found(value)}{_map_hint(value)}")


def _what_it_is(value: Row) -> str:
    columns = value.keys()
    if any(set(two) <= columns for two in _NUMBERED) and any(label in columns for label in _LABELS):
        return "two answers and a number that says which is better; write them as chosen and rejected"
    if any(isinstance(value.get(name), list) for name in _LISTS):
        return "a list of several answers, not one chosen and one rejected"
    if "label" in columns and ("completion" in columns or "messages" in columns):
        return "unpaired feedback (one answer with a label), not a preference pair"
    for two in _PAIRED:
        missing = [name for name in two if name not in columns]
        if len(missing) == 1:
            return f"`{missing[0]}` is missing"
    return "no known preference layout"


def _map_hint(value: Row) -> str:
    unknown = _what_it_is(value) == "no known preference layout"
    return "; name them with --map prompt=col,chosen=col,rejected=col" if unknown else ""
