"""The first step of a run: read rows as pairs, tokenize them, and write them to the spool.

No weights are loaded here, so problems of the data are reported before the expensive part begins.
"""

from __future__ import annotations

import sys
import threading
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
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
from prefscope.ledger.left_out import LEFT_OUT, describe_left_out
from prefscope.pipeline.bad_rows import counted, judge_bad_rows
from prefscope.pipeline.longest import longest
from prefscope.pipeline.remarks import Remarks
from prefscope.pipeline.spool import Spool
from prefscope.pipeline.template_in_use import pin_template_date
from prefscope.scoring import models as loading
from prefscope.scoring.checkpoints import Checkpoint
from prefscope.scoring.template_limits import STOPPED
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
    """Number of pairs by recognised dialect."""
    tokenizer: PreTrainedTokenizerBase
    tokenizer_hash: str
    template_hash: str
    max_length: int | None
    left_out: dict[str, int] = field(default_factory=dict)
    """Number of pairs by what the chat template leaves out of them."""
    template_date: str = ""
    """The date that the chat template writes; empty if it writes none."""
    files: list[str] = field(default_factory=list)
    """The user's files from which the rows were read."""


def read_pairs(
    settings: ScoreSettings, policy: Checkpoint, ref: Checkpoint | None, spool: Spool, emit: Emit
) -> DataSummary:
    """Fill the spool with the tokenized pairs of the data set.

    Raises:
        DataError: If the data set cannot be read, has no pairs, or has bad rows that are not to be skipped.
        ModelError: If there is no tokenizer or chat template (`TemplateError`), or policy and reference disagree on a
            token in use (`VocabularyError`).
    """
    tokenizer, differing = load_tokenizers(policy, ref, settings.models, emit)
    max_length = longest(settings, [policy] if ref is None else [policy, ref], emit)
    end = loading.end_tokens(policy, tokenizer)
    return tokenize_pairs(settings, Vocabulary(tokenizer, end, max_length, differing), spool, emit)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What texts are converted to tokens with."""

    tokenizer: PreTrainedTokenizerBase
    end_tokens: frozenset[int]
    """Tokens that end a response."""
    max_length: int | None
    """Maximum number of tokens of a sequence; None if there is no limit."""
    differing: Mapping[int, tuple[str, str]] = field(default_factory=dict)
    """Ids that stand for different tokens in policy and reference, with both tokens."""


def tokenize_pairs(settings: ScoreSettings, vocabulary: Vocabulary, spool: Spool, emit: Emit) -> DataSummary:
    """Fill the spool with the tokenized pairs of the data set.

    Raises:
        DataError: As `read_pairs`.
        ModelError: As `read_pairs`.
    """
    tokenizer, max_length = vocabulary.tokenizer, vocabulary.max_length
    template = pin_template_date(tokenizer, settings.tokenization)
    pair_tokenizer = PairTokenizer(tokenizer, template.settings, max_length, vocabulary.end_tokens)
    reading = _Reading(settings.data, emit)
    with closing(open_data(settings.data)) as source:
        with closing(_prefetched(pair_tokenizer.tokenize, _chunks(reading.pairs(source)))) as chunks:
            for found in chunks:
                tokenized = reading.keep_good(found)
                _check_tokens(tokenized, vocabulary.differing)
                spool.write(tokenized)
                emit(Progressed("reading pairs", spool.num_pairs))
        spool.finish()
        reading.conclude(source, spool.num_pairs)
        for note in template.notes() if reading.converses else ():
            emit(note)
        return DataSummary(
            name=source.name,
            content_hash=source.content_hash(),
            files=[str(file) for file in source.files],
            pairs=spool.num_pairs,
            bad_rows=len(reading.bad),
            dialects=dict(reading.dialects),
            tokenizer=tokenizer,
            tokenizer_hash=loading.tokenizer_hash(tokenizer),
            template_hash=template.hash if reading.converses else template.undated_hash,
            max_length=max_length,
            left_out=dict(reading.left_out),
            template_date=template.date if reading.converses else "",
        )


class _Reading:
    """Reads the pairs of one source and collects bad rows, dialects and remarks."""

    def __init__(self, settings: DataSettings, emit: Emit) -> None:
        self.settings = settings
        self.emit = emit
        self.bad: list[BadRow] = []
        self.dialects: Counter[str] = Counter()
        self.left_out: Counter[str] = Counter()
        self.not_rendered = 0
        self.converses = False
        self.remarks = Remarks()

    def pairs(self, source: Source) -> Iterator[PreferencePair]:
        """Yield the pairs to score; unless bad rows are skipped, the first one ends the output, but not the reading."""
        found = self._normalised(source)
        if self.settings.sample is not None:
            total = sum(1 for _ in found)
            self.bad.clear()
            self.dialects.clear()
            self.remarks = Remarks()
            drawn = np.random.default_rng(self.settings.seed).permutation(total)[: self.settings.sample]
            wanted = set(drawn.tolist())
            found = (pair for i, pair in enumerate(self._normalised(source)) if i in wanted)
        for pair in islice(found, None if self.settings.limit is None else min(self.settings.limit, sys.maxsize)):
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
        """Return the tokenized pairs, and collect the rows that the chat template rejected."""
        self.bad += [item for item in tokenized if isinstance(item, BadRow)]
        good = [item for item in tokenized if not isinstance(item, BadRow)]
        self.left_out.update(name for item in good for name in item.left_out)
        self.not_rendered += sum(bool(item.left_out) for item in good)
        self.converses |= any(not isinstance(item.pair.prompt, str) for item in good)
        return good

    def conclude(self, source: Source, pairs: int) -> None:
        """Emit notes on what was read.

        Raises:
            DataError: If there are no pairs, or there are bad rows that are not to be skipped.
        """
        name = source.name
        notes = judge_bad_rows(name, self.bad, pairs, skip=self.settings.skip_bad_rows)
        layouts = ", ".join(DIALECTS[key].title if key in DIALECTS else key for key, _ in self.dialects.most_common())
        self.emit(Noted(f"{name}: {counted(pairs, 'pair')}, {layouts}"))
        for note in [*notes, *self.remarks.notes(source)]:
            self.emit(note)
        if self.not_rendered:
            detail = describe_left_out({LEFT_OUT: self.left_out})
            flagged = f"Warning: the chat template leaves out parts of {counted(self.not_rendered, 'pair')}"
            self.emit(Noted(f"{flagged}, flagged not_rendered: {detail}."))


def _chunks(pairs: Iterator[PreferencePair]) -> Iterator[list[PreferencePair]]:
    """Yield pairs in chunks, limited in number and in characters, to limit the memory of tokenizing them."""
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


def _prefetched(
    tokenize: Callable[[list[PreferencePair]], list[TokenizedPair | BadRow]], chunks: Iterator[list[PreferencePair]]
) -> Generator[list[TokenizedPair | BadRow], None, None]:
    """Yield the tokenized chunks in order, computed ahead in threads: tokenizers release the GIL."""
    stop = threading.Event()
    threads = ThreadPoolExecutor(TOKENIZING_THREADS, initializer=STOPPED.set, initargs=(stop,))
    waiting: deque[Future[list[TokenizedPair | BadRow]]] = deque()
    try:
        for chunk in chunks:
            waiting.append(threads.submit(tokenize, chunk))
            if len(waiting) > TOKENIZING_THREADS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:  # after an error or ctrl+C, nobody needs the rest
        stop.set()
        threads.shutdown(wait=False, cancel_futures=True)


def load_tokenizers(
    policy: Checkpoint, ref: Checkpoint | None, models: ModelSettings, emit: Emit
) -> tuple[PreTrainedTokenizerBase, dict[int, tuple[str, str]]]:
    """Return the tokenizer to use, normally the policy's, and the token ids with another meaning in the reference."""
    ours = loading.load_tokenizer(policy, models)
    shared = ref is None or ref.same_weights(policy.full)
    theirs = None if shared or ref is None else loading.load_tokenizer(ref, models)
    tokenizer = ours or theirs
    if tokenizer is None:
        raise ModelError(
            "This checkpoint has no tokenizer", where=policy.name, hint="Copy its tokenizer files to that folder."
        )
    if ours is None:
        emit(Noted(f"{policy.name} has no tokenizer; the reference's is used."))
    elif policy.base is not None and not loading.has_vocabulary(policy) and _has_tokenizer_config(policy):
        emit(Noted(f"{policy.name} has a tokenizer config but no vocabulary; its base's tokenizer is used unchanged."))
    differing = {} if ours is None or theirs is None else loading.differing_ids(ours, theirs)
    if ref is not None and not ref.off:
        differing |= _beyond_embeddings(tokenizer, ref, models)
    if differing:
        emit(Noted(f"{counted(len(differing), 'token')} of the policy's vocabulary differ in the reference's."))
    return tokenizer, differing


def _has_tokenizer_config(checkpoint: Checkpoint) -> bool:
    return (checkpoint.path / "tokenizer_config.json").is_file()


def _beyond_embeddings(
    tokenizer: PreTrainedTokenizerBase, ref: Checkpoint, models: ModelSettings
) -> dict[int, tuple[str, str]]:
    """Return the tokens for which the reference has no embedding, such as those added when an adapter was trained."""
    config = loading.load_config(ref.full, models).get_text_config()
    size = getattr(config, "vocab_size", None)
    if ref.base is not None or not isinstance(size, int):  # an adapter can have its own embeddings
        return {}
    return {token: (piece, "") for piece, token in tokenizer.get_vocab().items() if token >= size}


def _check_tokens(tokenized: Sequence[TokenizedPair], differing: Mapping[int, tuple[str, str]]) -> None:
    """Raise a `VocabularyError` for a token in use that policy and reference read differently."""
    if not differing:
        return
    suspects = np.array(sorted(differing), dtype=np.int32)
    for item in tokenized:
        for sequence in (item.chosen, item.rejected):
            used = np.intersect1d(sequence.token_ids, suspects)
            if used.size:
                ours, theirs = differing[int(used[0])]
                meaning = f"{theirs!r} in the reference's" if theirs else "missing in the reference's"
                raise VocabularyError(
                    f"Policy and reference have different vocabularies: token id {used[0]} is {ours!r} in the policy's "
                    f"and {meaning}",
                    where=item.pair.place,
                    hint="Pass a reference with the policy's tokenizer, or --ref none for reference-free losses. If "
                    "the policy is an adapter that adds tokens, --ref adapter-off has them, too.",
                )
