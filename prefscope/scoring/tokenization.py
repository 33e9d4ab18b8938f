"""Tokenizes pairs by the rules of TRL 1.16 or of another profile, and flags anything unusual.

A conversation is rendered by the chat template, the prompt with its generation prompt; plain text gets the tokenizer's
own special tokens and an end-of-sequence token. The completion starts after the leading tokens that
ids(prompt) shares with both ids(prompt + chosen) and ids(prompt + rejected).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2.exceptions import TemplateSyntaxError
from numpy.typing import NDArray

from prefscope.data.records import BadRow, PreferencePair, text_to_json
from prefscope.errors import ModelError, TemplateError
from prefscope.flags import TokenEvidence, token_flags
from prefscope.scoring.bounded_templates import bounded
from prefscope.scoring.profiles import NotForProfileError, Profile, Render, Split, find_profile
from prefscope.scoring.rendering import Rendered, left_out
from prefscope.scoring.sequences import TokenSequence
from prefscope.scoring.template_limits import TemplateTimeError
from prefscope.scoring.template_variables import NotAVariableError, template_variables
from prefscope.settings import TokenizationSettings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class TokenizedPair:
    """The two sequences of a pair, and its flags."""

    pair: PreferencePair
    chosen: TokenSequence
    rejected: TokenSequence
    flags: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    """What is missing from the pair's rendered text (rendering.py)."""


@dataclass(frozen=True, slots=True)
class PairTokenizer:
    """Tokenizes pairs in batches."""

    tokenizer: PreTrainedTokenizerBase
    settings: TokenizationSettings
    max_length: int | None
    """Maximum length of a sequence in tokens: the user's limit or the model's context."""
    eos_ids: frozenset[int]
    """Tokens that end a response, for the `no_eos` flag."""

    def tokenize(self, pairs: Sequence[PreferencePair]) -> list[TokenizedPair | BadRow]:
        """Tokenize pairs, in order; a pair that its chat template rejects becomes a `BadRow`.

        Raises:
            TemplateError: If there are conversations but the tokenizer has no chat template.
            ModelError: If the chat template is broken.
        """
        if (profile := find_profile(self.settings.profile)) is not None:
            return [self._by_profile(profile, pair) for pair in pairs]
        results: list[TokenizedPair | BadRow | None] = [None] * len(pairs)
        rendered: dict[bool, list[tuple[int, Rendered]]] = {True: [], False: []}
        for i, pair in enumerate(pairs):
            conversational = not isinstance(pair.prompt, str)
            try:
                texts = self._render(pair) if conversational else self._plain_texts(pair)
            except (ModelError, TemplateTimeError) as error:
                raise _broken(pair, error) from error
            except Exception as error:  # noqa: BLE001 (a template is a program and can raise anything)
                results[i] = _refused(pair, error)
            else:
                rendered[conversational].append((i, texts))
        for conversational, items in rendered.items():
            flat = [text for _, texts in items for text in texts]
            if not flat:
                continue
            # Chat templates write their own special tokens; for plain text, the tokenizer adds them.
            ids = self.tokenizer(flat, add_special_tokens=not conversational, verbose=False)["input_ids"]
            for k, (i, texts) in enumerate(items):
                if not (ids[3 * k + 1] and ids[3 * k + 2]):
                    results[i] = BadRow(
                        pairs[i].row, pairs[i].line, "a rendered text of this pair is empty", pairs[i].file
                    )
                    continue
                missing = left_out(pairs[i], texts, self._render)
                results[i] = self._assemble(pairs[i], ids[3 * k : 3 * k + 3], missing)
        return [result for result in results if result is not None]

    def _by_profile(self, profile: Profile, pair: PreferencePair) -> TokenizedPair | BadRow:
        """Tokenize a pair by the rules of another stack."""

        def write(pair: PreferencePair) -> Rendered:
            texts = profile.write(pair, self._renderer(pair), self.tokenizer)
            return texts.prompt, texts.chosen, texts.rejected

        try:
            texts = write(pair)
        except NotForProfileError as error:
            return BadRow(pair.row, pair.line, str(error), pair.file)
        except (ModelError, TemplateTimeError) as error:
            raise _broken(pair, error) from error
        except Exception as error:  # noqa: BLE001 (a template is a program and can raise anything)
            return _refused(pair, error)
        whole = tuple(profile.split(self.tokenizer, texts[0], text) for text in texts[1:])
        longest = profile.max_length if self.max_length is None else self.max_length
        sides = profile.cut((whole[0], whole[1]), longest, profile.max_prompt_length)
        return self._flagged(
            pair,
            (_sequence(sides[0]), _sequence(sides[1])),
            ([*whole[0].prompt, *whole[0].response], [*whole[1].prompt, *whole[1].response]),
            moves_boundary=whole[0].merges or whole[1].merges,
            missing=left_out(pair, texts, write),
        )

    def _render(self, pair: PreferencePair) -> Rendered:
        """Render prompt, prompt + chosen and prompt + rejected with the chat template."""
        render, prompt = self._renderer(pair), text_to_json(pair.prompt)
        return (
            render(prompt, add_generation_prompt=True),
            render(prompt + text_to_json(pair.chosen)),
            render(prompt + text_to_json(pair.rejected)),
        )

    def _renderer(self, pair: PreferencePair) -> Render:
        """Return a function that renders messages of a pair with the chat template."""
        given: dict[str, Any] = {"tools": pair.tools, **template_variables(self.tokenizer, pair)}
        if self.settings.chat_template is not None:
            given["chat_template"] = self.settings.chat_template

        def render(messages: list[Any], **options: bool) -> str:
            if self.settings.chat_template is None and self.tokenizer.chat_template is None:
                raise TemplateError(
                    "The data are conversations, but the tokenizer has no chat template",
                    hint="Pass one with --chat-template FILE.",
                )
            every: dict[str, Any] = {**given, **options}
            try:
                with bounded():
                    return _readable(str(self.tokenizer.apply_chat_template(messages, tokenize=False, **every)))
            except TemplateSyntaxError as error:
                raise ModelError(
                    f"The chat template has an error in line {error.lineno}: {error.message}",
                    hint="Fix the template.",
                ) from error

        return render

    def _plain_texts(self, pair: PreferencePair) -> Rendered:
        """Return prompt, prompt + chosen and prompt + rejected, with an end-of-sequence token after each response."""
        eos = str(self.tokenizer.eos_token or "")
        prompt, chosen, rejected = str(pair.prompt), str(pair.chosen), str(pair.rejected)
        return (
            prompt,
            prompt + (chosen if chosen.endswith(eos) else chosen + eos),
            prompt + (rejected if rejected.endswith(eos) else rejected + eos),
        )

    def _assemble(self, pair: PreferencePair, ids: list[list[int]], missing: tuple[str, ...]) -> TokenizedPair:
        """Return the pair's sequences, truncated to the maximum length, with its flags."""
        prompt, with_chosen, with_rejected = ids
        start = min(common_prefix_length(prompt, with_chosen), common_prefix_length(prompt, with_rejected))
        whole = [TokenSequence(np.asarray(ids, dtype=np.int32), start) for ids in (with_chosen, with_rejected)]
        chosen, rejected = (self._truncate(sequence) for sequence in whole)
        return self._flagged(
            pair,
            (chosen, rejected),
            (with_chosen, with_rejected),
            moves_boundary=start < len(prompt),
            missing=missing,
        )

    def _flagged(
        self,
        pair: PreferencePair,
        sequences: tuple[TokenSequence, TokenSequence],
        whole: tuple[list[int], list[int]],
        *,
        moves_boundary: bool,
        missing: tuple[str, ...],
    ) -> TokenizedPair:
        """Return a pair with its flags, from its sequences and the token ids before truncation."""
        chosen, rejected = sequences
        found = TokenEvidence(
            pair=pair,
            whole=whole,
            lengths=(len(chosen.token_ids), len(rejected.token_ids)),
            num_scored=(chosen.num_scored, rejected.num_scored),
            end_tokens=(self._ends(chosen), self._ends(rejected)),
            bos_id=self.tokenizer.bos_token_id,
            moves_boundary=moves_boundary,
            left_out=missing,
        )
        return TokenizedPair(pair, chosen, rejected, token_flags(found), missing)

    def _truncate(self, sequence: TokenSequence) -> TokenSequence:
        """Truncate a sequence to the maximum length."""
        excess = len(sequence.token_ids) - self.max_length if self.max_length is not None else 0
        if excess <= 0:
            return sequence
        if self.settings.truncation == "keep_start":
            kept = sequence.token_ids[: self.max_length]
            return TokenSequence(kept, min(sequence.completion_start, len(kept)))
        return TokenSequence(sequence.token_ids[excess:], max(sequence.completion_start - excess, 0))

    def _ends(self, sequence: TokenSequence) -> list[int]:
        """Return the end tokens at the end of the scored tokens, at most two, ignoring white space."""
        found: list[int] = []
        for token in reversed(sequence.scored_ids.tolist()):
            if token in self.eos_ids:
                found.append(token)
            elif str(self.tokenizer.decode([token])).strip():
                break
            if len(found) == 2:  # noqa: PLR2004 (doubled)
                break
        return found


def _sequence(side: Split) -> TokenSequence:
    return TokenSequence(np.asarray([*side.prompt, *side.response], dtype=np.int32), len(side.prompt))


def _readable(text: str) -> str:
    """Return a rendered text, after checking that a tokenizer can encode it.

    Raises:
        ValueError: If it contains half a surrogate pair.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        raise ValueError(f"its text has half a surrogate pair, \\u{code:04x}, which is not a character") from None
    return text


def _broken(pair: PreferencePair, error: Exception) -> Exception:
    """Return the error to raise for a template with which no run can continue."""
    if not isinstance(error, TemplateTimeError):
        return error
    return ModelError(
        f"The chat template does not finish: {error}",
        where=f"{pair.file}:{pair.line}" if pair.file else f"line {pair.line}",
        hint="Fix the template, or pass another one with --chat-template FILE.",
    )


def _refused(pair: PreferencePair, error: Exception) -> BadRow:
    if isinstance(error, NotAVariableError):
        return BadRow(pair.row, pair.line, str(error), pair.file)
    return BadRow(pair.row, pair.line, f"the chat template rejects this conversation: {error}", pair.file)


def common_prefix_length(ids: Sequence[int], others: Sequence[int]) -> int:
    """Return the number of leading tokens that two lists share."""
    for i, (token, other) in enumerate(zip(ids, others, strict=False)):
        if token != other:
            return i
    return min(len(ids), len(others))


@dataclass(frozen=True, slots=True)
class TokenTexts:
    """The text of each token id, so that a ledger can be read without the tokenizer."""

    tokenizer: PreTrainedTokenizerBase
    byte_level: bool
    seen: dict[int, str]

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> TokenTexts:
        """Return the token texts of a tokenizer."""
        backend = getattr(tokenizer, "backend_tokenizer", None)
        return cls(tokenizer, byte_level="ByteLevel" in repr(getattr(backend, "decoder", "")), seen={})

    def texts(self, ids: NDArray[np.int32]) -> list[str]:
        r"""Return the text of each token; bytes that are not a complete character are written as `\xe2`."""
        return [self._text(token) for token in ids.tolist()]

    def _text(self, token: int) -> str:
        if token not in self.seen:
            self.seen[token] = self._read(token)
        return self.seen[token]

    def _read(self, token: int) -> str:
        piece = self.tokenizer.convert_ids_to_tokens(token)
        if not isinstance(piece, str):
            return f"<{token}>"
        if token in self.tokenizer.added_tokens_decoder:
            return piece
        if self.byte_level:
            codes = [_BYTE_OF.get(character) for character in piece]
            if all(code is not None for code in codes):
                return bytes(code for code in codes if code is not None).decode("utf-8", "backslashreplace")
        if len(piece) == len("<0xE2>") and piece.startswith("<0x"):
            return bytes([int(piece[3:5], 16)]).decode("utf-8", "backslashreplace")
        return piece.replace("▁", " ")


def _byte_alphabet() -> dict[str, int]:
    """Return the byte of each character in a byte-level vocabulary (GPT-2's table)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {chr(byte): byte for byte in printable}
    others = [byte for byte in range(256) if byte not in set(printable)]
    return table | {chr(256 + i): byte for i, byte in enumerate(others)}


_BYTE_OF = _byte_alphabet()
