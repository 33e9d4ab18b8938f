"""Tokenization rules of other training stacks, which turn the same row into other tokens and so another reward.

The default, `trl`, is in tokenization.py. A profile defines how prompt and responses become texts, how these are
tokenized, and how they are truncated. The rules were taken from each project's source; none of their code is run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import takewhile
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from prefscope.data.records import PreferencePair, text_to_json
from prefscope.errors import UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Messages = list[Any]


class NotForProfileError(ValueError):
    """A pair that a stack would reject."""


class Render(Protocol):
    """Renders messages with the chat template."""

    def __call__(self, messages: Messages, **options: bool) -> str:
        """Return the text; options are those of transformers' `apply_chat_template`."""


@dataclass(frozen=True, slots=True)
class Texts:
    """A prompt and its two responses, as separate texts."""

    prompt: str
    chosen: str
    rejected: str


@dataclass(frozen=True, slots=True)
class Split:
    """The token ids of a prompt and of one response to it."""

    prompt: list[int]
    response: list[int]
    merges: bool = False
    """Whether the prompt has other tokens by itself than before the response."""


@dataclass(frozen=True, slots=True)
class Profile:
    """The tokenization rules of a training stack."""

    name: str
    stack: str
    rules: str
    """Summary in one line."""
    max_length: int
    """Default maximum length of a sequence."""
    max_prompt_length: int
    write: Callable[[PreferencePair, Render, PreTrainedTokenizerBase], Texts]
    split: Callable[[PreTrainedTokenizerBase, str, str], Split]
    cut: Callable[[tuple[Split, Split], int, int], tuple[Split, Split]]
    """Takes chosen and rejected, the maximum length of a sequence, and the maximum length of a prompt."""


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    found: list[int] = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    return found


def _is_plain(pair: PreferencePair) -> bool:
    return isinstance(pair.prompt, str)


# TRL 0.12 to 0.28: prompt and responses are tokenized separately.


def _write_as_trl_0_24(pair: PreferencePair, render: Render, _: PreTrainedTokenizerBase) -> Texts:
    """Render the prompt, up to where the conversations stop agreeing with it, and the rest of each conversation."""
    if _is_plain(pair):
        return Texts(str(pair.prompt), str(pair.chosen), str(pair.rejected))
    messages = text_to_json(pair.prompt)
    goes_on = bool(messages) and messages[-1]["role"] == "assistant"
    prompt = render(messages, add_generation_prompt=not goes_on, continue_final_message=goes_on)
    wholes = [render(messages + text_to_json(response)) for response in (pair.chosen, pair.rejected)]
    rests = []
    for whole in wholes:  # the prompt as cut for chosen is then compared with rejected
        prompt = "".join(one for one, _ in takewhile(lambda both: both[0] == both[1], zip(prompt, whole, strict=False)))
        rests.append(whole[len(prompt) :])
    return Texts(prompt, *rests)


def _split_apart(tokenizer: PreTrainedTokenizerBase, prompt: str, response: str) -> Split:
    """Tokenize both separately, without special tokens; always append the end-of-sequence token."""
    end = tokenizer.eos_token_id
    return Split(_ids(tokenizer, prompt), _ids(tokenizer, response) + ([end] if end is not None else []))


def _cut_at_the_front(sides: tuple[Split, Split], longest: int, longest_prompt: int) -> tuple[Split, Split]:
    """Keep the last tokens of the prompt, then the last tokens of the whole sequence."""

    def cut(side: Split) -> Split:
        prompt = side.prompt[-longest_prompt:]
        excess = max(len(prompt) + len(side.response) - longest, 0)
        return Split(prompt[excess:], side.response[max(excess - len(prompt), 0) :], side.merges)

    return cut(sides[0]), cut(sides[1])


# SimPO, and TRL up to 0.11: prompt and response are tokenized together, then split.


def _write_as_simpo(pair: PreferencePair, render: Render, tokenizer: PreTrainedTokenizerBase) -> Texts:
    """Render the prompt without a generation prompt, and each response as a separate conversation."""
    if _is_plain(pair):
        return Texts(str(pair.prompt), str(pair.chosen), str(pair.rejected))
    messages = text_to_json(pair.prompt)
    template = str(tokenizer.chat_template or "")
    has_system = bool(messages) and messages[0]["role"] == "system"
    if not has_system and ("system" in template or "<|im_start|>" in template):
        messages = [{"role": "system", "content": ""}, *messages]
    bos = str(tokenizer.bos_token or "")
    responses = (render(text_to_json(response)).removeprefix(bos) for response in (pair.chosen, pair.rejected))
    return Texts(render(messages), *responses)


def _split_merged(tokenizer: PreTrainedTokenizerBase, prompt: str, response: str) -> Split:
    """Tokenize both together, and split after the tokens of the prompt alone, or one earlier if they merge."""
    alone, whole = _ids(tokenizer, prompt), _ids(tokenizer, prompt + response)
    merges = alone != whole[: len(alone)]
    start = max(len(alone) - merges, 0)
    return Split(whole[:start], whole[start:], merges)


def _split_for_simpo(tokenizer: PreTrainedTokenizerBase, prompt: str, response: str) -> Split:
    """Add beginning-of-sequence and end-of-sequence tokens where they are missing."""
    found = _split_merged(tokenizer, prompt, response)
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    first = [bos] if bos is not None and found.prompt[:1] != [bos] else []
    last = [eos] if eos is not None and found.response[-1:] != [eos] else []
    return Split(first + found.prompt, found.response + last, found.merges)


def _cut_prompt_then_response(sides: tuple[Split, Split], longest: int, longest_prompt: int) -> tuple[Split, Split]:
    """Fit both sides to the longer response: keep the end of the prompt; if that is not enough, truncate responses."""
    longer = max(len(side.response) for side in sides)

    def cut(side: Split) -> Split:
        prompt, response = side.prompt, side.response
        if len(prompt) + longer > longest:
            prompt = prompt[-longest_prompt:]
        if len(prompt) + longer > longest:
            response = response[: longest - longest_prompt]
        return Split(prompt, response, side.merges)

    return cut(sides[0]), cut(sides[1])


# RewardBench, its DPO path.


def _write_as_rewardbench(pair: PreferencePair, render: Render, _: PreTrainedTokenizerBase) -> Texts:
    """Render the prompt without a generation prompt, and remove it from each rendered conversation.

    A plain prompt becomes a user's turn; turns of a conversation alternate between user and assistant.

    Raises:
        NotForProfileError: If a turn has no content, or the last would be the assistant's (after a system message).
    """
    turns = [turn for text in (pair.prompt, pair.chosen, pair.rejected) if not isinstance(text, str) for turn in text]
    if any(turn.content is None for turn in turns):
        raise NotForProfileError("RewardBench scores only content, and a turn has none")
    given = [{"content": str(pair.prompt)}] if _is_plain(pair) else text_to_json(pair.prompt)
    messages = [
        {"role": "assistant" if number % 2 else "user", "content": one["content"]} for number, one in enumerate(given)
    ]
    if len(messages) % 2 == 0:
        raise NotForProfileError("RewardBench alternates user and assistant turns, and the last is not the user's")
    prompt = render(messages)
    wholes = []
    for response in (pair.chosen, pair.rejected):
        text = response if isinstance(response, str) else response[-1].content or "" if response else ""
        wholes.append(render([*messages, {"role": "assistant", "content": text}]))
    chosen, rejected = (whole.replace(prompt, "") if prompt else whole for whole in wholes)
    return Texts(prompt, chosen, rejected)


def _split_for_rewardbench(tokenizer: PreTrainedTokenizerBase, prompt: str, response: str) -> Split:
    """Add beginning-of-sequence and end-of-sequence tokens, even if they are present already."""
    found = _split_merged(tokenizer, prompt, response)
    eos = [tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else []
    bos = [tokenizer.bos_token_id] if tokenizer.bos_token_id is not None else eos
    return Split(bos + found.prompt, found.response + eos, found.merges)


TRL = "trl"
"""The default profile, whose rules are in tokenization.py."""
PROFILES: Mapping[str, Profile] = MappingProxyType(
    {
        one.name: one
        for one in (
            Profile(
                "trl-0.24",
                "TRL 0.12 to 0.28",
                "prompt and responses tokenized separately, no BOS, always EOS; last 512 tokens of the prompt, last "
                "1024 in total",
                1024,
                512,
                _write_as_trl_0_24,
                _split_apart,
                _cut_at_the_front,
            ),
            Profile(
                "simpo",
                "SimPO's repository, TRL up to 0.11",
                "no generation prompt: responses are rendered alone and their header is scored; 2048 tokens, prompt "
                "1800",
                2048,
                1800,
                _write_as_simpo,
                _split_for_simpo,
                _cut_prompt_then_response,
            ),
            Profile(
                "rewardbench",
                "RewardBench's DPO path",
                "no generation prompt: the header is scored; always BOS and EOS, even twice; 2048 tokens, prompt 128",
                2048,
                128,
                _write_as_rewardbench,
                _split_for_rewardbench,
                _cut_prompt_then_response,
            ),
        )
    }
)
"""All profiles except the default, by name."""


def find_profile(name: str) -> Profile | None:
    """Return a profile by name, or None for the default.

    Raises:
        UsageError: If there is no such profile.
    """
    if name == TRL:
        return None
    if name not in PROFILES:
        raise UsageError(f"There is no profile {name!r}", hint=f"Use one of {', '.join((TRL, *PROFILES))}.")
    return PROFILES[name]
