"""Flags: everything that can be wrong with a single pair, with a letter, a meaning and a detection function.

To add a flag, add its record here. The ledger, the export, the table of pairs, filters, Health, reports and docs all
use `FLAGS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from prefscope.data.records import PreferencePair, has_other_turns, is_blank_response

TokenIds = Sequence[int]
NOT_SCORED = "not_scored"
"""The flag of pairs that a run in progress, or one that was stopped, has not scored."""


@dataclass(frozen=True, slots=True)
class TokenEvidence:
    """A pair after tokenization. Tuples of two are for chosen and rejected."""

    pair: PreferencePair
    whole: tuple[TokenIds, TokenIds]
    """Tokens of prompt and response before truncation."""
    lengths: tuple[int, int]
    """Number of tokens of prompt and response after truncation."""
    num_scored: tuple[int, int]
    end_tokens: tuple[TokenIds, TokenIds]
    """Up to two end-of-sequence tokens at the end of each response, the last one first."""
    bos_id: int | None
    """The tokenizer's beginning-of-sequence token."""
    moves_boundary: bool
    """Whether the tokens of prompt + response do not begin with the tokens of the prompt."""
    left_out: Sequence[str]
    """Fields of messages and tools that the chat template does not render."""


@dataclass(frozen=True, slots=True)
class LogpEvidence:
    """A pair after scoring."""

    is_finite: bool
    """Whether all sums are finite."""
    crashed: bool = False
    """Whether one of its sequences crashed every process that computed it."""
    is_scored: bool = True
    """Whether the run has got to all of its sequences."""


@dataclass(frozen=True, slots=True)
class Flag:
    """Something that can be wrong with a pair, detected either in its tokens or in its log-probs."""

    name: str
    letter: str
    """Abbreviation in the table of pairs."""
    meaning: str
    in_tokens: Callable[[TokenEvidence], bool] | None = None
    in_logps: Callable[[LogpEvidence], bool] | None = None
    serious: bool = False
    """Whether Health shows it in the colour of an error."""


def _is_truncated(found: TokenEvidence) -> bool:
    return any(kept < len(ids) for kept, ids in zip(found.lengths, found.whole, strict=True))


def _has_double_bos(found: TokenEvidence) -> bool:
    # SmolLM's BOS also begins every turn, so only two in succession count as doubled.
    return found.bos_id is not None and list(found.whole[0][:2]) == [found.bos_id, found.bos_id]


def _has_double_eos(found: TokenEvidence) -> bool:
    return any(len(ends) > 1 and ends[0] == ends[1] for ends in found.end_tokens)


FLAGS = {
    flag.name: flag
    for flag in (
        Flag("truncated", "T", "a sequence exceeded the maximum length and lost tokens", _is_truncated),
        Flag(
            "prefix_mismatch",
            "P",
            "prompt + response does not begin with the prompt's tokens: the boundary moved",
            lambda found: found.moves_boundary,
            serious=True,
        ),
        Flag("double_bos", "B", "the sequence begins with two beginning-of-sequence tokens", _has_double_bos),
        Flag(
            "no_eos",
            "E",
            "a response does not end with an end-of-sequence token",
            lambda found: not all(found.end_tokens),
        ),
        Flag("double_eos", "D", "a response ends with the same end-of-sequence token twice", _has_double_eos),
        Flag(
            "empty",
            "0",
            "a response is empty or white space",
            lambda found: is_blank_response(found.pair.chosen) or is_blank_response(found.pair.rejected),
            serious=True,
        ),
        Flag(
            "nothing_scored",
            "N",
            "a response has no scored token, so its sums are 0",
            lambda found: 0 in found.num_scored,
            serious=True,
        ),
        Flag(
            "identical",
            "I",
            "chosen and rejected are the same",
            lambda found: found.whole[0] == found.whole[1],
            serious=True,
        ),
        Flag(
            "not_rendered",
            "R",
            "part of the messages or tools is not in the text that the chat template renders",
            lambda found: bool(found.left_out),
            serious=True,
        ),
        Flag(
            "non_finite",
            "F",
            "a log-prob is NaN or infinite",
            in_logps=lambda found: not found.is_finite,
            serious=True,
        ),
        Flag(
            "crashed",
            "C",
            "a response crashes every process that computes it, so its log-probs are NaN",
            in_logps=lambda found: found.crashed,
        ),
        Flag(
            NOT_SCORED,
            "S",
            "the run has not scored this pair yet, so its log-probs are missing",
            in_logps=lambda found: not found.is_scored,
        ),
        Flag(
            "scores_user_turns",
            "U",
            "turns that are not the assistant's are among the scored tokens",
            lambda found: has_other_turns(found.pair.chosen) or has_other_turns(found.pair.rejected),
        ),
    )
}
"""All flags by name."""


def token_flags(found: TokenEvidence) -> tuple[str, ...]:
    """Return the flags detected in a pair's tokens."""
    return tuple(flag.name for flag in FLAGS.values() if flag.in_tokens is not None and flag.in_tokens(found))


def with_logp_flags(flags: Iterable[str], found: LogpEvidence) -> tuple[str, ...]:
    """Return a pair's flags together with those detected in its log-probs."""
    added = (flag.name for flag in FLAGS.values() if flag.in_logps is not None and flag.in_logps(found))
    return tuple(dict.fromkeys((*flags, *added)))


def join_flags(flags: Iterable[str]) -> str:
    """Join flags for the ledger's `flags` column."""
    return ";".join(flags)


def split_flags(joined: str) -> list[str]:
    """Split a value of the ledger's `flags` column."""
    return joined.split(";") if joined else []


def flag_meaning(name: str, otherwise: str = "") -> str:
    """Return the meaning of a flag, or `otherwise` if this version does not know the flag."""
    return FLAGS[name].meaning if name in FLAGS else otherwise
