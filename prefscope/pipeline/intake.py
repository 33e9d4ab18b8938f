"""The first leg of a run: rows to pairs to token ids, into the spool.

No weights are loaded here, so every problem of the data is told before the expensive part begins.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from prefscope.data.dialects import DIALECTS
from prefscope.data.reading import pairs_of
from prefscope.data.records import BadRow, PreferencePair, readable
from prefscope.data.sources import Source, open_data
from prefscope.errors import ModelError, VocabularyError
from prefscope.events import Event, Noted, Progressed
from prefscope.pipeline.bad_rows import counted, judge_bad_rows
from prefscope.pipeline.remarks import Remarks
from prefscope.pipeline.spool import Spool
from prefscope.scoring import models as loading
from prefscope.scoring.checkpoints import Checkpoint
from prefscope.scoring.profiles import find_profile
from prefscope.scoring.tokenization import PairTokenizer, TokenizedPair
from prefscope.settings import DataSettings, ModelSettings, ScoreSettings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Emit = Callable[[Event], None]
CHUNK_PAIRS = 256
CHUNK_CHARACTERS = 1 << 20
TOKENIZING_THREADS = 4


@dataclass(frozen=True, slots=True)
class DataSummary:
    """What was read, and how it was tokenized."""

    name: str
    content_hash: str
    pairs: int
    bad_rows: int
    dialects: dict[str, int]
    """Pairs by the dialect that they were recognised as."""
    tokenizer: PreTrainedTokenizerBase
    tokenizer_hash: str
    template_hash: str
    max_length: int | None
    files: list[str] = field(default_factory=list)
    """The user's files that the rows were read from."""


def read_pairs(
    settings: ScoreSettings, policy: Checkpoint, ref: Checkpoint | None, spool: Spool, emit: Emit
) -> DataSummary:
    """Fill the spool with the tokenized pairs of the data set.

    Raises:
        DataError: The data set cannot be read, has no pair, or has bad rows that are not to be skipped.
        ModelError: There is no tokenizer or chat template, or policy and reference disagree on a token in use (a
            `TemplateError`, a `VocabularyError`).
    """
    tokenizer, differing = load_tokenizers(policy, ref, settings.models, emit)
    max_length = longest(settings, [policy] if ref is None else [policy, ref])
    end = loading.end_tokens(policy, tokenizer)
    pair_tokenizer = PairTokenizer(tokenizer, settings.tokenization, max_length, end)
    reading = _Reading(settings.data, emit)
    with closing(open_data(settings.data)) as source:
        for found in _ahead(pair_tokenizer.tokenize, _chunks(reading.pairs(source))):
            tokenized = reading.keep_good(found)
            _check_tokens(tokenized, differing)
            spool.write(tokenized)
            emit(Progressed("reading pairs", spool.num_pairs))
        spool.finish()
        reading.conclude(source, spool.num_pairs)
        return DataSummary(
            name=source.name,
            content_hash=source.content_hash(),
            files=[str(file) for file in source.files],
            pairs=spool.num_pairs,
            bad_rows=len(reading.bad),
            dialects=dict(reading.dialects),
            tokenizer=tokenizer,
            tokenizer_hash=loading.tokenizer_hash(tokenizer),
            template_hash=loading.template_hash(tokenizer, settings.tokenization.chat_template),
            max_length=max_length,
        )


class _Reading:
    """The rows of one source on their way to pairs, with the bad ones collected."""

    def __init__(self, settings: DataSettings, emit: Emit) -> None:
        self.settings = settings
        self.emit = emit
        self.bad: list[BadRow] = []
        self.dialects: Counter[str] = Counter()
        self.remarks = Remarks()

    def pairs(self, source: Source) -> Iterator[PreferencePair]:
        """Yield the pairs to score; after a bad row that is not to be skipped, only look for further ones."""
        found = self._normalised(source)
        if self.settings.sample is not None:
            total = sum(1 for _ in found)
            self.bad.clear()
            self.dialects.clear()
            self.remarks = Remarks()
            drawn = np.random.default_rng(self.settings.seed).permutation(total)[: self.settings.sample]
            wanted = set(drawn.tolist())
            found = (pair for i, pair in enumerate(self._normalised(source)) if i in wanted)
        for pair in islice(found, self.settings.limit):
            if self.settings.skip_bad_rows or not self.bad:
                yield pair

    def _normalised(self, source: Source) -> Iterator[PreferencePair]:
        for found in pairs_of(source, dialect=self.settings.dialect, mapping=self.settings.mapping):
            if isinstance(found, BadRow):
                self.bad.append(found)
            else:
                pair, dialect = found
                self.dialects[dialect] += 1
                self.remarks.add(pair, dialect)
                yield pair

    def keep_good(self, tokenized: Sequence[TokenizedPair | BadRow]) -> list[TokenizedPair]:
        """Return the tokenized pairs, and collect those that the chat template refused."""
        self.bad += [item for item in tokenized if isinstance(item, BadRow)]
        return [item for item in tokenized if not isinstance(item, BadRow)]

    def conclude(self, source: Source, pairs: int) -> None:
        """Say what was recognised.

        Raises:
            DataError: There is no pair, or there are bad rows that are not to be skipped.
        """
        name = source.name
        notes = judge_bad_rows(name, self.bad, pairs, skip=self.settings.skip_bad_rows)
        layouts = ", ".join(DIALECTS[key].title if key in DIALECTS else key for key, _ in self.dialects.most_common())
        self.emit(Noted(f"{name}: {counted(pairs, 'pair')}, {layouts}"))
        for note in [*notes, *self.remarks.notes(source)]:
            self.emit(note)


def _chunks(pairs: Iterator[PreferencePair]) -> Iterator[list[PreferencePair]]:
    """Yield pairs in lists, of long ones a few: what is tokenized at one time bounds the memory that takes."""
    chunk: list[PreferencePair] = []
    characters = 0
    for pair in pairs:
        chunk.append(pair)
        characters += sum(len(readable(text)) for text in (pair.prompt, pair.chosen, pair.rejected))
        if len(chunk) == CHUNK_PAIRS or characters >= CHUNK_CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


def _ahead(
    tokenize: Callable[[list[PreferencePair]], list[TokenizedPair | BadRow]], chunks: Iterator[list[PreferencePair]]
) -> Iterator[list[TokenizedPair | BadRow]]:
    """Yield the tokenized chunks in order, some computed ahead: tokenizers leave Python's lock while they work."""
    with ThreadPoolExecutor(TOKENIZING_THREADS) as threads:
        waiting: deque[Future[list[TokenizedPair | BadRow]]] = deque()
        for chunk in chunks:
            waiting.append(threads.submit(tokenize, chunk))
            if len(waiting) > TOKENIZING_THREADS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def load_tokenizers(
    policy: Checkpoint, ref: Checkpoint | None, models: ModelSettings, emit: Emit
) -> tuple[PreTrainedTokenizerBase, dict[int, tuple[str, str]]]:
    """Return the tokenizer to use, the policy's, and the ids that mean something else to the reference."""
    ours = loading.load_tokenizer(policy, models)
    shared = ref is None or ref.same_weights(policy.full)
    theirs = None if shared or ref is None else loading.load_tokenizer(ref, models)
    tokenizer = ours or theirs
    if tokenizer is None:
        raise ModelError(
            "There is no tokenizer in this checkpoint", where=policy.name, hint="Copy its tokenizer files there."
        )
    if ours is None:
        emit(Noted(f"{policy.name} has no tokenizer; the reference's is used."))
    if ours is None or theirs is None:
        return tokenizer, {}
    differing = loading.differing_ids(ours, theirs)
    if differing:
        emit(Noted(f"{counted(len(differing), 'token')} of the policy's vocabulary differ in the reference's."))
    return tokenizer, differing


def longest(settings: ScoreSettings, checkpoints: list[Checkpoint]) -> int | None:
    """Return the longest sequence that fits both models and the user's limit, or without one the profile's."""
    contexts = [loading.context_length(checkpoint, settings.models) for checkpoint in checkpoints]
    asked, profile = settings.tokenization.max_length, find_profile(settings.tokenization.profile)
    if asked is None and profile is not None:
        asked = profile.max_length
    known = [length for length in (asked, *contexts) if length is not None]
    return min(known, default=None)


def _check_tokens(tokenized: Sequence[TokenizedPair], differing: dict[int, tuple[str, str]]) -> None:
    """Refuse a token that the policy and the reference read differently."""
    if not differing:
        return
    suspects = np.array(sorted(differing), dtype=np.int32)
    for item in tokenized:
        for sequence in (item.chosen, item.rejected):
            used = np.intersect1d(sequence.token_ids, suspects)
            if used.size:
                ours, theirs = differing[int(used[0])]
                raise VocabularyError(
                    f"Policy and reference do not share a vocabulary: token id {used[0]} is {ours!r} to the policy and "
                    f"{theirs!r} to the reference",
                    where=item.pair.place,
                    hint="Give a reference with the policy's tokenizer, or --ref none for reference-free losses.",
                )
