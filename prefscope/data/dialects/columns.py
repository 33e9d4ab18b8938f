"""Layouts with one column each for the prompt, the chosen and the rejected response."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from prefscope.data.dialects.dialect import Fields, NotAPairError, Row, code_names, columns_found, exchange
from prefscope.data.dialects.side_columns import SideColumns
from prefscope.data.dialects.turns import as_turns, opening_role, read_text, write_text
from prefscope.data.records import Json, PreferencePair

PROMPTS = ("prompt", "question", "instruction", "input", "context", "query")
"""Common names of the prompt column."""


@dataclass(frozen=True, slots=True)
class ThreeColumns:
    """Prompt, chosen and rejected, each as text or as messages."""

    name: str
    title: str
    prompts: tuple[str, ...]
    """Possible names of the prompt column."""
    chosen: str = "chosen"
    rejected: str = "rejected"
    side_columns: SideColumns = field(default_factory=SideColumns)

    def matches(self, value: Row) -> bool:
        """Return whether the three columns exist and the chosen one does not repeat the whole conversation."""
        three = self.chosen in value and self.rejected in value and any(name in value for name in self.prompts)
        return three and opening_role(value[self.chosen]) not in ("system", "user")

    def read(self, value: Row) -> Fields:
        """Return the fields; plain texts stay plain unless a `system` column or messages require a conversation.

        Raises:
            NotAPairError: If a column is missing or is not text.
        """
        column = prompt_column(value, self.prompts)
        if opening_role(value.get(self.chosen)) in ("system", "user"):
            hint = f"leave `{column}` out with --map chosen={self.chosen},rejected={self.rejected}"
            raise NotAPairError(f"`{self.chosen}` is a whole conversation, not a response; {hint}")
        prompt, chosen, rejected = (read_text(value, name) for name in (column, self.chosen, self.rejected))
        plain = all(isinstance(text, str) for text in (prompt, chosen, rejected))
        if not plain or self.side_columns.system in value:
            prompt = self.side_columns.lead(value, as_turns(prompt, "user"))
            chosen, rejected = as_turns(chosen, "assistant"), as_turns(rejected, "assistant")
        consumed = self.side_columns.found(value) | {column, self.chosen, self.rejected}
        return Fields(prompt, chosen, rejected, *self.side_columns.settings(value), consumed)

    def write(self, pair: PreferencePair, like: Row) -> dict[str, Json]:
        """Return `like` with the pair's texts in its three columns."""
        row = dict(like)
        column = prompt_column(like, self.prompts)
        prompt = self.side_columns.unlead(row, pair.prompt, like[column])
        row[column] = write_text(prompt, like[column], "user")
        row[self.chosen] = write_text(pair.chosen, like[self.chosen], "assistant")
        row[self.rejected] = write_text(pair.rejected, like[self.rejected], "assistant")
        self.side_columns.write_settings(row, pair)
        return row

    def swap(self, value: Row) -> dict[str, Json]:
        """Return the row with the two responses exchanged."""
        return exchange(value, self.chosen, self.rejected)


@dataclass(frozen=True, slots=True)
class OpenAIColumns:
    """`input.messages` and `input.tools` with `preferred_output` and `non_preferred_output`."""

    name: str = "openai"
    title: str = "OpenAI preference fine-tuning"
    flat: ThreeColumns = field(
        default_factory=lambda: ThreeColumns("", "", ("messages",), "preferred_output", "non_preferred_output")
    )
    """The layout that remains once `input` is unpacked."""

    def matches(self, value: Row) -> bool:
        """Return whether both output columns exist."""
        return {"input", self.flat.chosen, self.flat.rejected} <= value.keys()

    def read(self, value: Row) -> Fields:
        """Return the fields.

        Raises:
            NotAPairError: If a column is missing or is not text.
        """
        parts = self.flat.read(self._unpacked(value))
        return replace(parts, consumed=frozenset({"input", self.flat.chosen, self.flat.rejected}))

    def write(self, pair: PreferencePair, like: Row) -> dict[str, Json]:
        """Return `like` with the pair's texts in it."""
        flat = self.flat.write(pair, self._unpacked(like))
        outputs = {name: flat[name] for name in (self.flat.chosen, self.flat.rejected)}
        inner = {name: found for name, found in flat.items() if name not in outputs}
        return {**like, "input": inner, **outputs}

    def swap(self, value: Row) -> dict[str, Json]:
        """Return the row with the two outputs exchanged."""
        return exchange(value, self.flat.chosen, self.flat.rejected)

    def _unpacked(self, value: Row) -> dict[str, Json]:
        inner = value.get("input")
        if not isinstance(inner, dict):
            raise NotAPairError("`input` is not an object with `messages`")
        return {**inner, **{name: value[name] for name in (self.flat.chosen, self.flat.rejected) if name in value}}


def prompt_column(value: Row, spellings: tuple[str, ...]) -> str:
    """Return the column of the prompt; `prompt` takes precedence over the other names.

    Raises:
        NotAPairError: If there is none, or several are not empty.
    """
    present = [name for name in spellings if name in value]
    if not present:
        raise NotAPairError(f"`{spellings[0]}` is missing; {columns_found(value)}")
    if present[0] == "prompt":
        return "prompt"
    filled = [name for name in present if value[name] not in (None, "")]
    if len(filled) > 1:
        hint = "name them with --map prompt=col,chosen=col,rejected=col"
        raise NotAPairError(f"each of {code_names(filled)} could be the prompt; {hint}")
    return (filled or present)[0]


TRL = ThreeColumns("trl", "TRL explicit prompt", ("prompt",))
SHAREGPT = ThreeColumns("sharegpt", "ShareGPT conversations (LLaMA-Factory)", ("conversations",))
AXOLOTL_CHAT = ThreeColumns("axolotl_chat", "axolotl chat_template", ("messages",))
QUESTION = ThreeColumns("question", "question, input or context with chosen and rejected", PROMPTS)
ARGILLA = ThreeColumns(
    "argilla", "chosen_response and rejected_response", (*PROMPTS, "messages"), "chosen_response", "rejected_response"
)
RESPONSE_JK = ThreeColumns(
    "response_jk", "response_j and response_k (StackExchange)", PROMPTS, "response_j", "response_k"
)
ANSWER_WL = ThreeColumns("answer_wl", "answer_w and answer_l", PROMPTS, "answer_w", "answer_l")
OPENAI = OpenAIColumns()
