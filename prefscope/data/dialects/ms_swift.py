"""ms-swift's layout: a whole conversation that ends with the chosen response, and the rejected response by itself."""

from __future__ import annotations

from dataclasses import dataclass, field

from prefscope.data.dialects.dialect import Fields, NotAPairError, Row
from prefscope.data.dialects.side_columns import SideColumns
from prefscope.data.dialects.turns import as_turns, read_text, read_turns, write_text
from prefscope.data.records import Json, Message, PreferencePair, text_to_json

_ANSWERING = ("assistant", "tool")


@dataclass(frozen=True, slots=True)
class MsSwift:
    """`messages` that end with the chosen response, and `rejected_response`."""

    name: str = "ms_swift"
    title: str = "ms-swift rejected_response"
    side_columns: SideColumns = field(default_factory=SideColumns)

    def matches(self, value: Row) -> bool:
        """Return whether both columns exist."""
        return {"messages", "rejected_response"} <= value.keys()

    def read(self, value: Row) -> Fields:
        """Return the fields. The chosen response is the last turn, or all after the last request to match a list.

        Raises:
            NotAPairError: If a column is missing or is not text, or the conversation does not end with a response.
        """
        prompt, chosen, rejected = self._split(value)
        consumed = self.side_columns.found(value) | {"messages", "rejected_response"}
        return Fields(
            self.side_columns.lead(value, prompt), chosen, rejected, *self.side_columns.settings(value), consumed
        )

    def write(self, pair: PreferencePair, like: Row) -> dict[str, Json]:
        """Return `like` with the pair's texts in it."""
        row = dict(like)
        prompt = as_turns(self.side_columns.unlead(row, pair.prompt, like["messages"]), "user")
        whole = (*prompt, *as_turns(pair.chosen, "assistant"))
        row["messages"] = write_text(whole, like["messages"], "user")
        row["rejected_response"] = write_text(pair.rejected, like["rejected_response"], "assistant")
        self.side_columns.write_settings(row, pair)
        return row

    def swap(self, value: Row) -> dict[str, Json]:
        """Return the row with the end of `messages` and `rejected_response` exchanged."""
        prompt, chosen, rejected = self._split(value)
        messages, response = value["messages"], value["rejected_response"]
        if isinstance(messages, str):
            whole = write_text((*prompt, *rejected), messages, "user")
            return {**value, "messages": whole, "rejected_response": write_text(chosen, response, "assistant")}
        kept, ending = messages[: len(prompt)], messages[len(prompt) :]
        if isinstance(read_text(value, "rejected_response"), tuple):
            ended: list[Json] = response if isinstance(response, list) else text_to_json(rejected)
            return {**value, "messages": [*kept, *ended], "rejected_response": ending}
        content = "value" if "value" in ending[0] else "content"
        last = {**ending[0], content: rejected[0].content}
        response_text = chosen[0].content
        text = [response_text] if isinstance(response, list) else response_text
        return {**value, "messages": [*kept, last], "rejected_response": text}

    def _split(self, value: Row) -> tuple[tuple[Message, ...], tuple[Message, ...], tuple[Message, ...]]:
        whole = read_turns(value, "messages", "user")
        rejected = read_text(value, "rejected_response")
        end = len(whole) - 1
        if not isinstance(rejected, str):
            if any(turn.role not in _ANSWERING for turn in rejected):
                raise NotAPairError("`rejected_response` contains turns that are not the assistant's")
            end = max((place + 1 for place, turn in enumerate(whole) if turn.role not in _ANSWERING), default=0)
        if whole[-1].role != "assistant" or end == 0:
            raise NotAPairError("`messages` is not a request followed by an assistant response")
        return whole[:end], whole[end:], as_turns(rejected, "assistant")
