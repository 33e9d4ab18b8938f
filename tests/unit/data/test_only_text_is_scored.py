"""For any JSON value of a prompt or response, the text comes from the row, or the row is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefscope.data.dialects import NotAPairError, normalise
from prefscope.data.records import SourceRow, Text

WORDS = st.text("abé é{}[]'\": ,", max_size=8)
ROLES = st.sampled_from(["system", "user", "assistant", "tool"])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | WORDS
TURNS = st.fixed_dictionaries(
    {}, optional={"role": ROLES | SCALARS, "content": SCALARS, "from": ROLES, "value": SCALARS, "name": WORDS}
)
VALUES = st.recursive(
    SCALARS | TURNS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=2)
)


def spelled(value: Any) -> list[str] | None:
    """Return the texts in a value, read as simply as possible; None if it contains anything else."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        by_speaker = value.get("role") is None
        role, content = (value.get("from"), value.get("value")) if by_speaker else (value["role"], value.get("content"))
        return [content] if isinstance(role, str) and isinstance(content, str) else None
    if not isinstance(value, list) or not value:
        return None
    if all(isinstance(item, str) for item in value):
        return value if len(value) == 1 else None
    turns = [spelled(item) if isinstance(item, dict) else None for item in value]
    return None if None in turns else [text for turn in turns if turn is not None for text in turn]


def contents(text: Text) -> list[str | None]:
    return [text] if isinstance(text, str) else [turn.content for turn in text]


@given(VALUES, st.sampled_from(["prompt", "chosen", "rejected"]))
def test_only_text_of_the_row_is_scored_or_the_row_is_refused(value: Any, column: str) -> None:
    row = {"prompt": "q", "chosen": "a", "rejected": "b", column: value}
    try:
        pair = normalise(SourceRow(0, 1, row), dialect="trl")[0]
    except NotAPairError as error:
        told = error.reason
    else:
        told = f"`{column}`"
        assert contents(getattr(pair, column)) == spelled(value)
    assert f"`{column}`" in told


@pytest.mark.parametrize("turns", [True, False])
def test_a_text_with_nul_is_noted(*, turns: bool) -> None:
    chosen = [{"role": "assistant", "content": "Hel\0lo"}] if turns else "Hel\0lo"
    prompt = [{"role": "user", "content": "Hi"}] if turns else "Hi"
    rejected = [{"role": "assistant", "content": "What"}] if turns else "What"
    pair, _ = normalise(SourceRow(0, 1, {"prompt": prompt, "chosen": chosen, "rejected": rejected}))
    assert pair.remarks == ("a text contains NUL characters, which are scored too",)
