"""One sample of a data set under two profiles: which tokens differ, and how far the log-probs move by that."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from pathlib import Path
from typing import Literal, TypeAlias

from prefscope.errors import UsageError
from prefscope.events import Event, Progressed
from prefscope.ledger.table import Ledger, load_ledger
from prefscope.pipeline.entry import with_bundled_models
from prefscope.scoring.profiles import PROFILES, TRL
from prefscope.scoring.sequences import TokenSequence
from prefscope.settings import ScoreSettings

Emit = Callable[[Event], None]
Place: TypeAlias = Literal["prompt, first", "prompt, last", "prompt, within", "first", "last", "within"]
"""Where tokens differ: in what is read before the completion, or in what is scored."""
Sides = tuple[TokenSequence, TokenSequence]


@dataclass(frozen=True, slots=True)
class Difference:
    """Tokens at a place that one profile has and the other has not, or has others for."""

    place: Place
    a: tuple[int, ...]
    b: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Told:
    """A difference in words, and in how many pairs it is."""

    place: Place
    a: str
    b: str
    pairs: int


@dataclass(frozen=True, slots=True)
class Parity:
    """A sample under profile A and profile B."""

    names: tuple[str, str]
    ledgers: tuple[Ledger, Ledger]
    equal: int
    """Pairs with the same tokens and the same completion under both."""
    shared: int
    """Pairs that both profiles take."""
    differences: tuple[Told, ...]
    """The most frequent first."""


def compare_profiles(settings: ScoreSettings, names: tuple[str, str], emit: Emit, folder: Path) -> Parity:
    """Return how two profiles tokenize and score the pairs that the settings name.

    Args:
        settings: What to score and how; its own profile is not looked at.
        names: Of the profiles.
        emit: Called with every event.
        folder: Where the two ledgers are written.

    Raises:
        UsageError: There is no such profile, or both are the same.
        PrefscopeError: What `run.score` raises.
    """
    for name in names:
        if name not in (TRL, *PROFILES):
            raise UsageError(f"There is no profile {name!r}", hint=f"Use one of {', '.join((TRL, *PROFILES))}.")
    if names[0] == names[1]:
        raise UsageError("Both profiles are the same", hint="Name two with --a and --b.")
    os.environ.update(TQDM_DISABLE="1", HF_HUB_DISABLE_PROGRESS_BARS="1")
    emit(Progressed("loading torch and transformers", 0))
    from prefscope.pipeline.run import score

    settings = settings if settings.models.policy else with_bundled_models(settings)
    runs = [replace(settings, tokenization=replace(settings.tokenization, profile=name)) for name in names]
    tokens, texts = zip(*(_tokenize(run, emit) for run in runs), strict=True)
    ledgers = []
    for name, run in zip(names, runs, strict=True):
        path = folder / f"{name}.parquet"
        score(run, lambda _, path=path: path, emit)  # type: ignore[misc]  # called before the next one
        ledgers.append(load_ledger(path))
    first, second = tokens
    shared = [row for row in first if row in second]
    found: Counter[Difference] = Counter()
    equal = 0
    for row in shared:
        differences = set(_differences(first[row], second[row]))
        found.update(differences)
        equal += not differences
    told = tuple(
        Told(one.place, _text(texts[0], one.a), _text(texts[0], one.b), pairs) for one, pairs in found.most_common()
    )
    return Parity(names, (ledgers[0], ledgers[1]), equal, len(shared), told)


def _tokenize(settings: ScoreSettings, emit: Emit) -> tuple[Mapping[int, Sides], Callable[[tuple[int, ...]], list[str]]]:
    """Return the sequences of every pair by its row, and what tells token ids as texts."""
    import numpy as np

    from prefscope.pipeline.intake import read_pairs
    from prefscope.pipeline.spool import Spool, sequences_of
    from prefscope.scoring.checkpoints import resolve
    from prefscope.scoring.tokenization import TokenTexts

    policy, ref = resolve(settings.models, lambda _: None)
    spool = Spool(None)
    try:
        data = read_pairs(settings, policy, ref, spool, emit)
        found = {
            row: sides
            for batch in spool.batches()
            for row, *sides in zip(
                batch.column("row").to_pylist(), sequences_of(batch, "chosen"), sequences_of(batch, "rejected"), strict=True
            )
        }
        kept = {row: (_copied(chosen), _copied(rejected)) for row, (chosen, rejected) in found.items()}
    finally:
        spool.close()
    texts = TokenTexts.of(data.tokenizer)
    return kept, lambda ids: texts.texts(np.asarray(ids, dtype=np.int32))


def _copied(sequence: TokenSequence) -> TokenSequence:
    """Return a sequence whose ids outlive the spool."""
    return TokenSequence(sequence.token_ids.copy(), sequence.completion_start)


def _differences(a: Sides, b: Sides) -> Iterator[Difference]:
    """Yield where the tokens of a pair differ under two profiles."""
    for one, other in zip(a, b, strict=True):
        ids, others = one.token_ids.tolist(), other.token_ids.tolist()
        prompts = ids[: one.completion_start], others[: other.completion_start]
        completions = ids[one.completion_start :], others[other.completion_start :]
        yield from _parted(*prompts, prefix="prompt, ")
        yield from _parted(*completions, prefix="")


def _parted(a: list[int], b: list[int], prefix: str) -> Iterator[Difference]:
    for tag, a_start, a_end, b_start, b_end in SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        if tag == "equal":
            continue
        begins, ends = a_start == b_start == 0, a_end == len(a) and b_end == len(b)
        place = "first" if begins else "last" if ends else "within"
        yield Difference(f"{prefix}{place}", tuple(a[a_start:a_end]), tuple(b[b_start:b_end]))  # type: ignore[arg-type]


def _text(texts: Callable[[tuple[int, ...]], list[str]], ids: tuple[int, ...]) -> str:
    return "".join(texts(ids))


def temporary_folder() -> tempfile.TemporaryDirectory[str]:
    """Return a folder for the two ledgers, which goes when it is left."""
    return tempfile.TemporaryDirectory(prefix="prefscope-")
