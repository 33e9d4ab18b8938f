"""Layouts in which chosen and rejected are whole conversations, prompt included."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from prefscope.data.dialects import transcripts
from prefscope.data.dialects.columns import PROMPTS, prompt_column
from prefscope.data.dialects.dialect import Fields, NotAPairError, Row, code_names, columns_found, exchange
from prefscope.data.dialects.side_columns import SideColumns
from prefscope.data.dialects.splits import split_text, split_turns
from prefscope.data.dialects.turns import as_turns, kind, opening_role, read_text, read_turns, write_text
from prefscope.data.records import Json, Message, PreferencePair, Text

_MAP_HINT = "name the prompt's column with --map prompt=col,chosen=col,rejected=col"


def _write_turns(text: Text, like: Json) -> Json:
    return write_text(text, like, "assistant")


@dataclass(frozen=True, slots=True)
class TwoWholes:
    """Chosen and rejected as whole texts or conversations; the prompt is their common beginning."""

    name: str
    title: str
    chosen: str = "chosen"
    rejected: str = "rejected"
    prompts: tuple[str, ...] = ()
    """Possible names of a column that repeats the prompt."""
    accepts: Callable[[Row], bool] | None = None
    """A further condition on the row, besides having the two columns."""
    read_whole: Callable[[Row, str], Text] = read_text
    write_whole: Callable[[Text, Json], Json] = _write_turns
    side_columns: SideColumns = field(default_factory=SideColumns)

    def matches(self, value: Row) -> bool:
        """Return whether both columns exist and their values fit this layout."""
        there = self.chosen in value and self.rejected in value
        return there and (self.accepts is None or self.accepts(value))

    def read(self, value: Row) -> Fields:
        """Return the fields, split where the two columns begin to differ.

        Raises:
            NotAPairError: If a column is missing or is not text, or the two have no common prompt.
        """
        prompt, chosen, rejected = self._split(value)
        if not prompt:
            unit = "text" if isinstance(prompt, str) else "turn"
            differing = _differing_keys(chosen, rejected)
            reason = f"`{self.chosen}` and `{self.rejected}` begin with no {unit} in common{differing}"
            reason += ", so there is no prompt"
            raise NotAPairError(f"{reason}; {columns_found(value)}; {_MAP_HINT}")
        consumed = self.side_columns.found(value) | {self.chosen, self.rejected}
        if self.prompts:
            consumed |= {self._repeated(value, prompt)}
        if not isinstance(prompt, str):
            prompt = self.side_columns.lead(value, prompt)
        elif value.get(self.side_columns.system):
            raise NotAPairError(
                f"`{self.side_columns.system}` cannot be combined with texts without turns; {_MAP_HINT}"
            )
        return Fields(prompt, chosen, rejected, *self.side_columns.settings(value), consumed)

    def write(self, pair: PreferencePair, like: Row) -> dict[str, Json]:
        """Return `like` with the prompt and a response joined in each of the two columns."""
        row = dict(like)
        prompt = self.side_columns.unlead(row, pair.prompt, like[self.chosen])
        row[self.chosen] = self.write_whole(_joined(prompt, pair.chosen), like[self.chosen])
        row[self.rejected] = self.write_whole(_joined(prompt, pair.rejected), like[self.rejected])
        if self.prompts and prompt != self._split(like)[0]:
            column = prompt_column(like, self.prompts)
            row[column] = _repeat(as_turns(prompt, "user"), like[column])
        self.side_columns.write_settings(row, pair)
        return row

    def swap(self, value: Row) -> dict[str, Json]:
        """Return the row with the two columns exchanged."""
        return exchange(value, self.chosen, self.rejected)

    def _split(self, value: Row) -> tuple[Text, Text, Text]:
        chosen, rejected = self.read_whole(value, self.chosen), self.read_whole(value, self.rejected)
        if isinstance(chosen, str) and isinstance(rejected, str):
            return split_text(chosen, rejected)
        if isinstance(chosen, str) or isinstance(rejected, str):
            both = " and ".join(f"`{name}` is {kind(value[name])}" for name in (self.chosen, self.rejected))
            raise NotAPairError(f"{both}; they must be of the same kind")
        return split_turns(chosen, rejected)

    def _repeated(self, value: Row, prompt: Text) -> str:
        column = prompt_column(value, self.prompts)
        shared = [_stripped(turn) for turn in as_turns(prompt, "user")]
        if any(_stripped(turn) not in shared for turn in read_turns(value, column, "user")):
            hint = f"leave it out with --map chosen={self.chosen},rejected={self.rejected}"
            raise NotAPairError(f"`{column}` is not what `{self.chosen}` and `{self.rejected}` begin with; {hint}")
        return column


def _stripped(turn: Message) -> tuple[str, str]:
    return turn.role, (turn.content or "").strip()


def _differing_keys(chosen: Text, rejected: Text) -> str:
    """Describe the keys in which two first turns of equal content differ; "" if that is not the case."""
    if isinstance(chosen, str) or isinstance(rejected, str) or _stripped(chosen[0]) != _stripped(rejected[0]):
        return ""
    one, other = chosen[0].comparable(), rejected[0].comparable()
    keys = [key for key in {**one, **other} if key != "content" and one.get(key) != other.get(key)]
    return f" (the first turns differ in {code_names(keys)})" if keys else ""


def _joined(prompt: Text, response: Text) -> Text:
    if isinstance(prompt, str) and isinstance(response, str):
        return prompt + response
    return (*as_turns(prompt, "user"), *as_turns(response, "assistant"))


def _repeat(prompt: tuple[Message, ...], like: Json) -> Json:
    """Return the prompt for the column that repeats it: as turns, or its first request as text."""
    if opening_role(like) is not None:
        return write_text(prompt, like, "user")
    return next((turn.content or "" for turn in prompt if turn.role == "user"), "")


def _repeats_prompt(value: Row) -> bool:
    return any(name in value for name in PROMPTS) and opening_role(value["chosen"]) in ("system", "user")


def _are_transcripts(value: Row) -> bool:
    return transcripts.is_transcript(value["chosen"]) and transcripts.is_transcript(value["rejected"])


LLAMAFACTORY_V1 = TwoWholes("llamafactory_v1", "LLaMA-Factory v1 messages", "chosen_messages", "rejected_messages")
TORCHTUNE = TwoWholes("torchtune", "torchtune conversations", "chosen_conversations", "rejected_conversations")
MS_SWIFT_MESSAGES = TwoWholes("ms_swift_messages", "ms-swift messages", "messages", "rejected_messages")
ULTRAFEEDBACK = TwoWholes(
    "ultrafeedback", "UltraFeedback (prompt and whole conversations)", prompts=PROMPTS, accepts=_repeats_prompt
)
HH = TwoWholes(
    "hh",
    "Human/Assistant transcripts",
    accepts=_are_transcripts,
    read_whole=transcripts.read_transcript,
    write_whole=transcripts.write_transcript,
)
TRL_IMPLICIT = TwoWholes("trl_implicit", "TRL implicit prompt")
