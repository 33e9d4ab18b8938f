"""Scores the same pairs again and again with a model that is being trained, and writes a ledger each time."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from prefscope.errors import LedgerError
from prefscope.events import Event
from prefscope.integrations.ranks import gather
from prefscope.ledger.table import Ledger
from prefscope.pipeline.assembly import assemble
from prefscope.pipeline.logp_source import ROLES, SIDES, MaybeLogps
from prefscope.pipeline.manifest import live_manifest
from prefscope.pipeline.reader import DataSummary, Vocabulary, tokenize_pairs
from prefscope.pipeline.shards import Shard, batches_of, make_plan
from prefscope.pipeline.spool import Spool, SpooledPairs, sequences_of
from prefscope.scoring.engine import score_batch
from prefscope.scoring.models import LanguageModel, rope_limit
from prefscope.scoring.planning import plan_batches
from prefscope.scoring.self_check import ForwardChoice, check, follow
from prefscope.scoring.sequences import TokenSequence
from prefscope.scoring.tokenization import TokenTexts
from prefscope.settings import ScoreSettings

BATCH_TOKENS = {"cpu": 2048, "mps": 8192, "cuda": 8192}
"""Less than a run takes on a GPU, because most of its memory belongs to the training."""

Logps = Mapping[bytes, NDArray[np.float32]]
"""Log-probs of each token in nats, by the digest of the sequence."""


@dataclass(slots=True)
class LivePairs:
    """Tokenized pairs to be scored at many steps of a training."""

    settings: ScoreSettings
    data: DataSummary
    spool: SpooledPairs
    shards: tuple[Shard, ...]
    """All responses, each once, as `score` plans its batches: equal batches give equal numbers."""
    verdicts: dict[int, ForwardChoice] = field(default_factory=dict)
    """How each model is computed, by the identity of its module."""

    @classmethod
    def read(cls, settings: ScoreSettings, vocabulary: Vocabulary, emit: Callable[[Event], None]) -> LivePairs:
        """Read and tokenize the pairs.

        Raises:
            DataError: The data set cannot be read.
            ModelError: The tokenizer has no chat template that it needs.
        """
        spool = Spool(None)
        data = tokenize_pairs(settings, vocabulary, spool, emit)
        plan = make_plan(spool.facts, settings.data.seed)
        return cls(settings, data, spool, tuple(plan.shards(spool)))

    def score(self, model: LanguageModel) -> Logps:
        """Return the log-probs of all responses under a model; the ranks of a training share the work.

        Raises:
            ModelError: The model is not causal, or a token is not in its vocabulary.
            ResourceError: A sequence does not fit into memory.
        """

        def share(rank: int, ranks: int) -> dict[bytes, NDArray[np.float32]]:
            verdict = self._verdict(model)
            follow(model, verdict.path, is_fused=bool(verdict.kernels))
            return _score(model, verdict, self._batches(model, verdict)[rank::ranks])

        return gather(share)  # all of it, so that no rank waits for one that fails

    def _verdict(self, model: LanguageModel) -> ForwardChoice:
        """Return how a model is computed; it is examined once."""
        key = id(model.module)
        if key not in self.verdicts:
            ids = self.spool.some_token_ids()
            self.verdicts[key] = check(model, ids, may_fuse=self.settings.compute.fused)
        return self.verdicts[key]

    def _batches(self, model: LanguageModel, verdict: ForwardChoice) -> list[list[TokenSequence]]:
        """Return the sequences of each forward pass."""
        usual = self.settings.compute.batch_tokens or BATCH_TOKENS.get(model.device.type, BATCH_TOKENS["cpu"])
        batches: list[list[TokenSequence]] = []
        for shard in self.shards:
            numbers = plan_batches(
                shard.sequences,
                packed=verdict.path == "packed",
                batch_tokens=1 if verdict.alone else usual,
                rope_limit=rope_limit(model.module.config),
            )
            batches += batches_of(shard, numbers)
        return batches

    def describe(self, model: LanguageModel, name: str, logps: Logps) -> dict[str, Any]:
        """Return what a ledger says of a model that was scored.

        The fingerprint is that of the log-probs, as the weights of a training change all the time.
        """
        verdict, mark = self._verdict(model), hashlib.blake2b(digest_size=16)
        for digest in sorted(logps):
            mark.update(digest + logps[digest].tobytes())
        return {
            "name": name,
            "base": None,
            "fingerprint": mark.hexdigest(),
            "stored_dtype": model.dtype,
            "attention": model.attention,
            "path": verdict.path,
            "path_reason": verdict.reason,
            **({"kernels": verdict.kernels} if verdict.kernels else {}),
            **({"unfused": verdict.unfused} if verdict.unfused else {}),
        }

    def write(
        self, path: Path, policy: Logps, ref: Logps, models: Mapping[str, Mapping[str, Any]], device: torch.device
    ) -> None:
        """Write the ledger of a step.

        Args:
            path: Its path.
            policy: The log-probs of the policy.
            ref: Those of the reference.
            models: What the ledger says of each model, by role.
            device: The device of the policy.

        Raises:
            ResourceError: It cannot be written.
        """
        manifest = live_manifest(self.settings, self.data, models, device, str(models["policy"]["stored_dtype"]))
        texts = TokenTexts.of(self.data.tokenizer) if self.settings.compute.keep_tokens else None
        assemble(path, self.spool, KnownLogps({"policy": policy, "ref": ref}), manifest, texts, lambda _: None)

    def known_reference(self, ledger: Ledger) -> Logps | None:
        """Return the reference's log-probs from a ledger of the same pairs; None if it has not all of them.

        Raises:
            LedgerError: The ledger cannot be read.
        """
        found: dict[bytes, NDArray[np.float32]] = {}
        if not ledger.has_reference or not ledger.has_tokens:
            return None
        places = {pair_id: at for at, (pair_id, _) in enumerate(ledger.ids_at(np.arange(ledger.num_pairs)))}
        texts = TokenTexts.of(self.data.tokenizer)
        for batch in self.spool.batches():
            ids = batch.column("pair_id").to_pylist()
            for side in SIDES:
                for pair_id, sequence in zip(ids, sequences_of(batch, side), strict=True):
                    pair = ledger.pair(places[pair_id], [*_columns(side)]) if pair_id in places else {}
                    tokens, logps = (pair.get(name) for name in _columns(side))
                    if logps is None or tokens is None or [*tokens] != texts.texts(sequence.scored_ids):
                        return None
                    found[sequence.digest()] = np.asarray(logps, dtype=np.float32)
        return found


def _score(
    model: LanguageModel, verdict: ForwardChoice, batches: Sequence[Sequence[TokenSequence]]
) -> dict[bytes, NDArray[np.float32]]:
    """Return the log-probs of the sequences of some batches."""
    found: dict[bytes, NDArray[np.float32]] = {}
    for batch in batches:
        logps = score_batch(model, verdict.path, batch, lambda _: None)
        found |= {one.digest(): values for one, values in zip(batch, logps, strict=True)}
    return found


def _columns(side: str) -> tuple[str, str]:
    """Return the columns of a response's tokens and of their log-probs under the reference."""
    return f"{side}_tokens", f"ref_{side}_token_logps"


@dataclass(frozen=True, slots=True)
class KnownLogps:
    """Log-probs in memory, as a source of a ledger."""

    by_role: Mapping[str, Logps]

    @property
    def roles(self) -> Collection[str]:
        """Roles of the models with log-probs."""
        return [role for role in ROLES if role in self.by_role]

    def logps(self, role: str, side: str, start: int, sequences: Sequence[TokenSequence]) -> Sequence[MaybeLogps]:  # noqa: ARG002
        """Return the log-probs of sequences; their position does not matter."""
        return [self.by_role[role][one.digest()] for one in sequences]

    def collisions(self, *_: Any) -> Sequence[MaybeLogps]:
        """Fail, because log Σ π² is not computed during a training."""
        raise LedgerError("log Σ π² is not computed during a training")
