"""The flags: everything that can be wrong with one pair, with its letter, its meaning and how it is found.

To add a flag, add its record here. The ledger, the export, the table of pairs, filters, Health, reports and docs all
read `FLAGS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from prefscope.data.records import PreferencePair, has_other_turns, says_nothing

TokenIds = Sequence[int]


@dataclass(frozen=True, slots=True)
class TokenEvidence:
    """A pair after tokenization. Tuples of two are chosen, then rejected."""

    pair: PreferencePair
    whole: tuple[TokenIds, TokenIds]
    """Prompt and response before truncation."""
    lengths: tuple[int, int]
    """Tokens of prompt and response after truncation."""
    num_scored: tuple[int, int]
    end_tokens: tuple[TokenIds, TokenIds]
    """End-of-sequence tokens at the end of each response, last first, at most two."""
    bos_id: int | None
    """The tokenizer's beginning-of-sequence token."""
    moves_boundary: bool
    """Whether prompt + response does not begin with the prompt's own tokens."""
    left_out: Sequence[str]
    """Fields of messages and tools that the chat template does not render."""


@dataclass(frozen=True, slots=True)
class LogpEvidence:
    """A pair after its log-probs were computed."""

    is_finite: bool
    """Whether every sum is a number."""
    crashed: bool = False
    """Whether one of its sequences ended every process that computed it."""


@dataclass(frozen=True, slots=True)
class Flag:
    """Something that can be wrong with one pair. It is found either in its tokens or in its log-probs."""

    name: str
    letter: str
    """Stands for it in the table of pairs."""
    meaning: str
    in_tokens: Callable[[TokenEvidence], bool] | None = None
    in_logps: Callable[[LogpEvidence], bool] | None = None
    serious: bool = False
    """Whether Health shows it in the colour of an error."""


def _is_truncated(found: TokenEvidence) -> bool:
    return any(kept < len(ids) for kept, ids in zip(found.lengths, found.whole, strict=True))


def _has_double_bos(found: TokenEvidence) -> bool:
    # SmolLM's BOS also opens every turn: only a BOS right after a BOS is doubled.
    return found.bos_id is not None and list(found.whole[0][:2]) == [found.bos_id, found.bos_id]


def _has_double_eos(found: TokenEvidence) -> bool:
    return any(len(ends) > 1 and ends[0] == ends[1] for ends in found.end_tokens)


FLAGS = {
    flag.name: flag
    for flag in (
        Flag("truncated", "T", "a sequence was longer than the longest length and lost tokens", _is_truncated),
        Flag(
            "prefix_mismatch",
            "P",
            "the prompt's tokens are not how prompt + response begins: the boundary moved",
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
            lambda found: says_nothing(found.pair.chosen) or says_nothing(found.pair.rejected),
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
            "a response ends every process that computes it, so its log-probs are NaN",
            in_logps=lambda found: found.crashed,
        ),
        Flag(
            "scores_user_turns",
            "U",
            "turns that are not the assistant's are among the scored tokens",
            lambda found: has_other_turns(found.pair.chosen) or has_other_turns(found.pair.rejected),
        ),
    )
}
"""Every flag by its name."""


def token_flags(found: TokenEvidence) -> tuple[str, ...]:
    """Return the flags that a pair's tokens give it."""
    return tuple(flag.name for flag in FLAGS.values() if flag.in_tokens is not None and flag.in_tokens(found))


def with_logp_flags(flags: Iterable[str], found: LogpEvidence) -> tuple[str, ...]:
    """Return a pair's flags with those that its log-probs add."""
    added = (flag.name for flag in FLAGS.values() if flag.in_logps is not None and flag.in_logps(found))
    return tuple(dict.fromkeys((*flags, *added)))


def join_flags(flags: Iterable[str]) -> str:
    """Return flags as the ledger's column has them."""
    return ";".join(flags)


def split_flags(joined: str) -> list[str]:
    """Return the flags in a value of the ledger's column."""
    return joined.split(";") if joined else []


def flag_meaning(name: str, otherwise: str = "") -> str:
    """Return what a flag means, or `otherwise` for a flag of another version of prefscope."""
    return FLAGS[name].meaning if name in FLAGS else otherwise
