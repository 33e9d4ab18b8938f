"""Compare two profiles on one sample of a data set: the tokens of both, and a ledger for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from prefscope.errors import UsageError
from prefscope.events import Event
from prefscope.pipeline import run
from prefscope.scoring.profiles import find_profile
from prefscope.scoring.sequences import TokenSequence
from prefscope.scoring.token_parity import Ids, Sides, TokenParity, compare_tokens
from prefscope.settings import ScoreSettings

Emit = Callable[[Event], None]


def score_under(
    settings: ScoreSettings, profiles: tuple[str, str], ledgers: tuple[Path, Path], emit: Emit
) -> TokenParity:
    """Write a ledger of the same pairs for each of two profiles, and return where their tokens differ.

    Args:
        settings: What to score and how; its own profile is ignored.
        profiles: Names of the profiles.
        ledgers: Paths of the ledgers.
        emit: Called with every event.

    Raises:
        UsageError: If a profile is unknown, or both are the same.
        PrefscopeError: As in `run.score`.
    """
    for name in profiles:
        find_profile(name)
    if profiles[0] == profiles[1]:
        raise UsageError("Both profiles are the same", hint="Pass two different ones with --a and --b.")
    settings = run.with_models(settings, emit)
    both = [replace(settings, tokenization=replace(settings.tokenization, profile=name)) for name in profiles]
    (a, texts), (b, _) = (_tokenize(one, emit) for one in both)
    found = compare_tokens(a, b, texts)
    for one, path in zip(both, ledgers, strict=True):
        run.score(one, lambda _, path=path: path, emit)  # type: ignore[misc]  # it has a default
    return found


def _tokenize(settings: ScoreSettings, emit: Emit) -> tuple[Mapping[int, Sides], Callable[[Ids], list[str]]]:
    """Return the sequences of every pair, by row, and a function that returns the texts of token ids."""
    from prefscope.pipeline.reader import read_pairs
    from prefscope.pipeline.spool import Spool, sequences_of
    from prefscope.scoring.checkpoints import resolve
    from prefscope.scoring.tokenization import TokenTexts

    policy, ref = resolve(settings.models, lambda _: None)
    spool = Spool(None)
    found: dict[int, Sides] = {}
    try:
        data = read_pairs(settings, policy, ref, spool, emit)
        for batch in spool.batches():
            sides = (map(_copied, sequences_of(batch, side)) for side in ("chosen", "rejected"))
            found |= zip(batch.column("row").to_pylist(), zip(*sides, strict=True), strict=True)
    finally:
        spool.close()
    texts = TokenTexts.of(data.tokenizer)
    return found, lambda ids: texts.texts(np.asarray(ids, dtype=np.int32))


def _copied(sequence: TokenSequence) -> TokenSequence:
    """Copy a sequence, so that its ids stay valid after the spool is closed."""
    return TokenSequence(sequence.token_ids.copy(), sequence.completion_start)
