"""Messages for rows that are not preference pairs: what they seem to be instead."""

from __future__ import annotations

import re
from collections.abc import Iterator

from prefscope.data.dialects.columns import PROMPTS
from prefscope.data.dialects.dialect import NotAPairError, Row, code_names, columns_found
from prefscope.data.records import Json

_LABELS = frozenset(
    {
        *("label", "labels", "winner", "winner_model", "choice", "preference", "preferred", "preference_strength"),
        *("overall_preference", "human_preference", "preference_score", "preferred_response", "better", "best"),
        *("better_response", "better_response_id", "safer_response_id", "chosen_index", "vote", "verdict", "judgment"),
        *("judgement", "selected", "selection", "annotation", "annotator_preference", "result", "decision"),
    }
)
_LISTS = ("completions", "answers", "responses", "summaries", "candidates", "generations", "outputs", "choices")
_SIDES = (("a", "b"), ("A", "B"), ("0", "1"), ("1", "2"), ("left", "right"), ("first", "second"), ("x", "y"))
_NO_ANSWER = re.compile(r"model|name|id\b|label|score|rating|rank|source|author|quotes|tokens|prompt|question|reward")
_PAIRED = (
    ("chosen", "rejected"),
    ("chosen_response", "rejected_response"),
    ("chosen_messages", "rejected_messages"),
    ("chosen_conversations", "rejected_conversations"),
    ("preferred_output", "non_preferred_output"),
    ("response_j", "response_k"),
    ("answer_w", "answer_l"),
)
_UNKNOWN = "no known preference layout"


def refusal(value: Row) -> NotAPairError:
    """Explain why a row that matches no dialect is not a pair, and list its columns."""
    what = _what_it_is(value)
    hint = f"; {_map_hint(value)}" if what == _UNKNOWN else ""
    return NotAPairError(f"{what}; {columns_found(value)}{hint}")


def labels_of(value: Row) -> tuple[str, ...]:
    """Return the columns that may say which of two answers is better: a label, or two scores."""
    found = [name for name in value if name in _LABELS]
    scores = [pair for pair in _numbered(value) if all(_is_number(value[name]) for name in pair)]
    return tuple(found) or (scores[0] if scores else ())


def _what_it_is(value: Row) -> str:
    columns = value.keys()
    labels = labels_of(value)
    answers = next(_answers(value), None)
    if answers is not None:
        return _two_answers(code_names(answers), answers, labels)
    listed = next((name for name in _LISTS if isinstance(value.get(name), list)), None)
    if listed is not None and labels:
        return _two_answers(f"in `{listed}`", (f"{listed}[0]", f"{listed}[1]"), labels)
    if listed is not None:
        return "a list of several answers, not one chosen and one rejected"
    if "label" in columns and ("completion" in columns or "messages" in columns):
        return "unpaired feedback (one answer with a label), not a preference pair"
    for two in _PAIRED:
        missing = [name for name in two if name not in columns]
        if len(missing) == 1:
            return f"`{missing[0]}` is missing"
    return _UNKNOWN


def _two_answers(where: str, answers: tuple[str, str], labels: tuple[str, ...]) -> str:
    if not labels:
        return f"two answers ({where}) without a known column that says which is better"
    a, b = answers
    rule = f"chosen, rejected = ({a}, {b}) if {labels[0]} == … else ({b}, {a})"
    return (
        f"two answers ({where}) and a label ({code_names(labels)}) that says in each row which is better; convert the "
        f"rows by their label and leave ties out: {rule}"
    )


def _answers(value: Row) -> Iterator[tuple[str, str]]:
    """Yield pairs of columns that contain two answers."""
    for one, other in _numbered(value):
        texts = all(isinstance(value[name], str | list | dict) for name in (one, other))
        if texts and not _NO_ANSWER.search(one.lower()):
            yield one, other


def _numbered(value: Row) -> Iterator[tuple[str, str]]:
    """Yield pairs of columns whose names differ only in a number or a letter: `answer_0` and `answer_1`."""
    for name in value:
        for first, second in _SIDES:
            other = re.sub(rf"(^|[_\-. ]|(?<=[a-z])){first}(?=$|[_\-. ])", rf"\g<1>{second}", name)
            if other != name and other in value:
                yield name, other


def _is_number(found: Json) -> bool:
    return isinstance(found, int | float)


def _map_hint(value: Row) -> str:
    """Return a hint for `--map`, with column names filled in if they can be guessed."""
    pairs = [
        (name, other) for name in value if (other := name.replace("chosen", "rejected")) != name and other in value
    ]
    if len(pairs) != 1:
        return "name them with --map prompt=col,chosen=col,rejected=col"
    chosen, rejected = pairs[0]
    prompts = [name for spelling in PROMPTS if (name := chosen.replace("chosen", spelling)) in value]
    return f"name them with --map prompt={prompts[0] if prompts else 'col'},chosen={chosen},rejected={rejected}"
