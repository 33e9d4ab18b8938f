"""Checks of single pairs: empty or identical responses, turns out of order, template markers, damaged text."""

from __future__ import annotations

import re
from itertools import pairwise

from prefscope.data.checks.check import check_of_pair
from prefscope.data.checks.text_index import PairTexts, compared, excerpt
from prefscope.data.records import Message, is_blank_response

SHORTEST_PROMPT = 20
"""Minimum length in characters; an answer may well repeat a shorter prompt."""
LEAD_IN = 32
"""Maximum number of characters before a repeated prompt, such as a role."""

_TEMPLATED = re.compile(
    r"<\|[a-zA-Z][a-zA-Z0-9_ ]*\|>|<｜[^｜>]{1,40}｜>|<</?SYS>>|</?(?:start|end)_of_turn>|<extra_id_\d+>"
    r"|\A\s*<s>|</s>\s*\Z|\A\s*\[INST\]|\[/INST\]\s*\Z|\[/?SYSTEM_PROMPT\]|\A\s*\[gMASK\]"
)
_TRANSCRIPT = re.compile(r"\n\n(?:Human|Assistant): |^### (?:Instruction|Response):", re.MULTILINE)
_ROLES = ("system", "developer")


@check_of_pair(
    "identical_responses",
    "fail",
    "chosen and rejected are the same",
    "Drop the pair: its margin is always 0.",
)
def find_identical(texts: PairTexts) -> str | None:
    """Find a pair whose responses have the same content, tool calls and reasoning, ignoring white space at the ends."""
    pair = texts.pair
    chosen = texts.responses[0]
    return excerpt(chosen) if chosen.strip() and compared(pair.chosen) == compared(pair.rejected) else None


@check_of_pair(
    "empty_responses",
    "fail",
    "a response is empty or white space",
    "Drop the pair, or fix the export that lost the text.",
)
def find_empty(texts: PairTexts) -> str | None:
    """Find a response without text and tool calls."""
    pair = texts.pair
    empty = [name for name, text in (("chosen", pair.chosen), ("rejected", pair.rejected)) if is_blank_response(text)]
    return f"{' and '.join(empty)} to {excerpt(texts.request)}" if empty else None


@check_of_pair(
    "repeated_prompt",
    "fail",
    "a response begins with the whole prompt",
    "Remove the prompt from the responses; otherwise it is scored as part of them.",
    rule=f"prompts of at least {SHORTEST_PROMPT} characters, after at most {LEAD_IN} other characters",
)
def find_repeated_prompt(texts: PairTexts) -> str | None:
    """Find a response that begins with the prompt."""
    request = texts.request.strip()
    if len(request) < SHORTEST_PROMPT:
        return None
    for name, response in zip(("chosen", "rejected"), texts.responses, strict=True):
        if response.find(request, 0, len(request) + LEAD_IN) >= 0 and len(response.strip()) > len(request):
            return f"{name}: {excerpt(response)}"
    return None


@check_of_pair(
    "templated_text",
    "fail",
    "text contains markers of a chat template, such as <|im_start|> or [INST]",
    "Remove the markers; otherwise the template is applied twice, and its markers are trained on as text.",
)
def find_templated(texts: PairTexts) -> str | None:
    """Find markers of chat templates in plain text or in the content of a turn."""
    for content in texts.contents:
        if ("<" in content or "[" in content) and (found := _TEMPLATED.search(content)):
            return excerpt(content, found.start())
    plain = [text for text in (texts.pair.prompt, *texts.responses) if isinstance(text, str)]
    if isinstance(texts.pair.prompt, str) and (found := _TRANSCRIPT.search(plain[0])):
        return excerpt(plain[0], found.start())
    return None


@check_of_pair(
    "role_order",
    "fail",
    "turns are not in the order system, user, assistant, user, assistant",
    "Fix the turns: many chat templates reject such a conversation, or the user's words are scored.",
)
def find_role_order(texts: PairTexts) -> str | None:
    """Find turns in an order that chat templates do not expect, and user turns that would be scored."""
    pair = texts.pair
    if isinstance(pair.prompt, str):
        return None
    for name, response in (("chosen", pair.chosen), ("rejected", pair.rejected)):
        turns = () if isinstance(response, str) else response
        wrong = _wrong_response(turns) or _wrong_order([*pair.prompt, *turns])
        if wrong:
            return f"{name}: {wrong}: {excerpt(texts.request)}"
    return None


def _wrong_response(turns: tuple[Message, ...]) -> str:
    """Describe what is wrong with the turns of a response; empty if nothing is."""
    if not turns:
        return ""
    if any(turn.role == "user" for turn in turns):
        return "a user turn is scored"
    return "" if turns[-1].role == "assistant" else f"it ends with {turns[-1].role}"


def _wrong_order(turns: list[Message]) -> str:
    """Describe what is wrong with the order of a conversation's turns; empty if nothing is."""
    if any(turn.role in _ROLES for turn in turns[1:]):
        return "the system message is not first"
    spoken = [turn for turn in turns if turn.role not in _ROLES]
    if spoken and spoken[0].role == "assistant":
        return "the assistant speaks first"
    for before, turn in pairwise(spoken):
        if before.role == turn.role and turn.role in {"user", "assistant"} and before.is_plain:
            return f"two {turn.role} turns in a row"
    return ""


_DAMAGE = re.compile(
    "\ufffd|锟斤拷|[\x00\x7f-\x84\x86-\x9f\ud800-\udfff]|ï»¿"
    "|Ã[\u00a0-\u00bfŠŽšžŸƒœŒ]|Ã[‚„…†‡ˆ‰‹‘’“”•–—˜™›€](?=[a-z])|Â[\u00a0-\u00bf]|â€[™œ˜¦“”\x9d\x9c]|ðŸ|[ÐÑ][\u0080-\u00bf‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ€]{1}[ÐÑ]"
)


@check_of_pair(
    "encoding_damage",
    "fail",
    "characters were lost or garbled: �, Ã©, control characters",
    "Read the source again as UTF-8; characters that became � are lost.",
)
def find_encoding_damage(texts: PairTexts) -> str | None:
    """Find replacement characters, UTF-8 read as Latin-1, C1 and NUL characters, and lone surrogates."""
    for content in texts.contents:
        plain = content.isascii() and "\0" not in content and "\x7f" not in content
        if not plain and (found := _DAMAGE.search(content)):
            return excerpt(content, found.start())
    return None
