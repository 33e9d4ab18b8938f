"""Optional columns besides prompt and responses, the same in every layout."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from prefscope.data.dialects.dialect import NotAPairError, Row
from prefscope.data.dialects.turns import kind, opening_role, read_string
from prefscope.data.records import Json, Message, PreferencePair, Text

_TEMPLATE = "chat_template_kwargs"
_MEDIA = ("images", "image", "videos", "video", "audios", "audio")


@dataclass(frozen=True, slots=True)
class SideColumns:
    """A system prompt, tool definitions and template variables of a row."""

    system: str = "system"
    tools: str = "tools"

    def found(self, value: Row) -> frozenset[str]:
        """Return which of these columns the row has."""
        return frozenset({self.system, self.tools, _TEMPLATE} & value.keys())

    def lead(self, value: Row, prompt: tuple[Message, ...]) -> tuple[Message, ...]:
        """Prepend the row's system prompt to the prompt.

        Raises:
            NotAPairError: If the conversation already has a different system prompt.
        """
        system = read_string(value, self.system)
        if not system:
            return prompt
        turn = Message("system", system)
        if prompt and prompt[0].role == "system":
            if prompt[0].comparable() != turn.comparable():
                raise NotAPairError(f"`{self.system}` and the first turn are two different system prompts")
            return prompt
        return (turn, *prompt)

    def unlead(self, row: dict[str, Json], prompt: Text, like: Json) -> Text:
        """Move the system turn of the prompt into the row's system column, if there is one, and return the rest.

        Args:
            row: The row to write; its `system` column is changed.
            prompt: The prompt to write.
            like: The turns as stored in the row; a system turn among them stays there.
        """
        if self.system not in row or isinstance(prompt, str):
            return prompt
        led = bool(prompt) and prompt[0].role == "system" and prompt[0].is_plain
        repeated = opening_role(like) == "system"
        system = (prompt[0].content or "") if led else ""
        if system != (row[self.system] or "") and (row[self.system] or not repeated):
            row[self.system] = system
        return prompt[1:] if led and not repeated else prompt

    def settings(self, value: Row) -> tuple[list[Json] | None, dict[str, Json] | None]:
        """Return the tool definitions and the template variables; None for absent ones.

        Raises:
            NotAPairError: If a column contains something else.
        """
        tools = _decoded(value, self.tools)
        kwargs = _decoded(value, _TEMPLATE)
        if not isinstance(tools, list | None):
            raise NotAPairError(f"`{self.tools}` is {kind(tools)}, not a list of tools")
        if not isinstance(kwargs, dict | None):
            raise NotAPairError(f"`{_TEMPLATE}` is {kind(kwargs)}, not an object")
        return tools, kwargs

    def write_settings(self, row: dict[str, Json], pair: PreferencePair) -> None:
        """Write the pair's tool definitions and template variables into the row if they changed."""
        tools, kwargs = self.settings(row)
        if (pair.tools or None) != tools:
            row[self.tools] = _encoded(list(pair.tools or []), row.get(self.tools))
        if (pair.chat_template_kwargs or None) != kwargs:
            row[_TEMPLATE] = _encoded(dict(pair.chat_template_kwargs or {}), row.get(_TEMPLATE))


def refuse_media(value: Row) -> None:
    """Refuse a row with images, audio or video.

    Raises:
        NotAPairError: If a media column is not empty.
    """
    for column in _MEDIA:
        found = value.get(column)
        if found and not (isinstance(found, Mapping) and not any(found.values())):
            what = "images are not supported" if column.startswith("image") else "only text is supported"
            raise NotAPairError(f"{what}: `{column}` is not empty")


def _decoded(value: Row, column: str) -> Json:
    found = value.get(column)
    if isinstance(found, str) and found.strip():
        try:
            found = json.loads(found)
        except (ValueError, RecursionError):
            raise NotAPairError(f"`{column}` is text that is not JSON") from None
    return found or None


def _encoded(setting: Json, like: Json) -> Json:
    return json.dumps(setting, ensure_ascii=False) if isinstance(like, str) else setting
