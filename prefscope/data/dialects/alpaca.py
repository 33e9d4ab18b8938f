"""LLaMA-Factory's alpaca layout: an instruction, its input, and the turns before it."""

from __future__ import annotations

from dataclasses import dataclass, field

from prefscope.data.dialects.dialect import Fields, NotAPairError, Row, exchange
from prefscope.data.dialects.side_columns import SideColumns
from prefscope.data.dialects.turns import opening_role, read_string, read_turns, write_text
from prefscope.data.records import Json, Message, PreferencePair, Text
from prefscope.errors import DataError

_ROLES = ("user", "assistant")


@dataclass(frozen=True, slots=True)
class Alpaca:
    """`instruction` and `input` with `chosen` and `rejected`, and optionally `system` and `history`."""

    name: str = "alpaca"
    title: str = "alpaca instruction (LLaMA-Factory)"
    instruction: str = "instruction"
    input: str = "input"
    chosen: str = "chosen"
    rejected: str = "rejected"
    side_columns: SideColumns = field(default_factory=SideColumns)

    def matches(self, value: Row) -> bool:
        """Return whether the columns exist and the chosen one does not repeat the whole conversation."""
        there = {self.instruction, self.chosen, self.rejected} <= value.keys()
        return there and opening_role(value[self.chosen]) not in ("system", "user")

    def read(self, value: Row) -> Fields:
        """Return the fields, always as a conversation.

        Raises:
            NotAPairError: If a column is missing or is not text.
        """
        if not isinstance(value.get(self.instruction), str):
            raise NotAPairError(f"`{self.instruction}` is missing or not text")
        turns = (*_history(value), Message("user", self._request(value)))
        prompt = self.side_columns.lead(value, turns)
        chosen, rejected = (read_turns(value, name, "assistant") for name in (self.chosen, self.rejected))
        own = {self.instruction, self.input, "history", self.chosen, self.rejected} & value.keys()
        return Fields(
            prompt, chosen, rejected, *self.side_columns.settings(value), self.side_columns.found(value) | own
        )

    def write(self, pair: PreferencePair, like: Row) -> dict[str, Json]:
        """Return `like` with the pair's texts in it.

        Raises:
            DataError: If the prompt is not an optional system turn, alternating questions and answers, and a request.
        """
        row = dict(like)
        *history, request = _plain_turns(self.side_columns.unlead(row, pair.prompt, None))
        if request != self._request(like):
            row[self.instruction] = request
            if self.input in row:
                row[self.input] = ""
        if tuple(history) != tuple(turn.content for turn in _history(like)):
            row["history"] = [list(pair_of) for pair_of in zip(history[::2], history[1::2], strict=True)]
        row[self.chosen] = write_text(pair.chosen, like[self.chosen], "assistant")
        row[self.rejected] = write_text(pair.rejected, like[self.rejected], "assistant")
        self.side_columns.write_settings(row, pair)
        return row

    def swap(self, value: Row) -> dict[str, Json]:
        """Return the row with the two responses exchanged."""
        return exchange(value, self.chosen, self.rejected)

    def _request(self, value: Row) -> str:
        texts = (read_string(value, self.instruction), read_string(value, self.input))
        return "\n".join(text for text in texts if text)


MS_SWIFT_QUERY = Alpaca(
    "ms_swift_query", "ms-swift query and response", "query", "input", "response", "rejected_response"
)


def _history(value: Row) -> tuple[Message, ...]:
    turns = []
    history = value.get("history") or []
    for item in history if isinstance(history, list) else [history]:
        if not isinstance(item, list) or [type(text) for text in item] != [str, str]:
            raise NotAPairError("`history` is not a list of [question, answer] pairs of text")
        turns += [Message(role, text) for role, text in zip(_ROLES, item, strict=True)]
    return tuple(turns)


def _plain_turns(prompt: Text) -> list[str]:
    turns = [Message("user", prompt)] if isinstance(prompt, str) else list(prompt)
    in_turn = [turn.role for turn in turns] == [_ROLES[place % 2] for place in range(len(turns))]
    if not in_turn or len(turns) % 2 == 0 or not all(turn.is_plain for turn in turns):
        raise DataError("the alpaca layout only supports prompts of alternating questions and answers, then a request")
    return [turn.content or "" for turn in turns]
