"""The expensive part of a run: scoring all shards with every model.

If both models are in memory, policy and reference alternate batch by batch, so that pairs are complete early.
Otherwise each model makes a pass over the whole data set. For divergences, the policy's pass computes the reference,
too, which is left with what the policy had no need to compute.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from prefscope.events import Noted
from prefscope.pipeline.dispatch.choice import examine_in_worker, open_dispatcher
from prefscope.pipeline.divergences import with_divergences
from prefscope.pipeline.model_pool import ScoredModel
from prefscope.pipeline.shard_scorer import ShardScorer
from prefscope.scoring.speed import find_speed, keep_speed


@dataclass(frozen=True, slots=True)
class Passes:
    """All models of a run over some shards."""

    scorer: ShardScorer
    numbers: Sequence[int]
    """Numbers of the shards."""

    def score_models(self) -> list[ScoredModel]:
        """Score what is missing and return the models; a reference that equals the policy is not scored again."""
        pool, settings = self.scorer.pool, self.scorer.settings
        policy, *refs = pool.candidates
        distinct = [policy, *(ref for ref in refs if ref.fingerprint != policy.fingerprint)]
        stages = [distinct] if pool.together else [[candidate] for candidate in distinct]
        on_gpus = settings.dispatch.computes_elsewhere and pool.device.type == "cuda"
        is_left_to_workers = on_gpus or settings.models.tp > 1
        scored = []
        for stage in stages:
            examine = examine_in_worker if is_left_to_workers else None
            models = [pool.judge(candidate, examine) for candidate in stage]
            models = with_divergences(models) if settings.compute.divergences else models
            self._keep_speeds(models, {model.role: model.budget.tokens_per_second for model in models}, only_new=True)
            for some in (models[:1], models[1:]) if settings.compute.divergences else (models,):
                self._score(some)
            self._keep_speeds(models, self.scorer.speeds, only_new=False)
            scored += models
        return scored + [replace(scored[0], candidate=ref) for ref in refs if ref not in distinct]

    def _keep_speeds(self, models: Sequence[ScoredModel], speeds: Mapping[str, float], *, only_new: bool) -> None:
        """Keep the speed of each model for estimates: that of its probe until a run has measured it."""
        store, settings = self.scorer.pool.store, self.scorer.settings
        for model in models:
            checkpoint = model.candidate.checkpoint
            with suppress(OSError):
                if model.role in speeds and not (only_new and find_speed(store, checkpoint, settings)):
                    keep_speed(store, checkpoint, settings, speeds[model.role])

    def _score(self, models: Sequence[ScoredModel]) -> None:
        """Score the shards with models that are in memory together."""
        if not models:
            return
        scorer = self.scorer
        left = scorer.left(self.numbers, models)
        if not left:
            scorer.emit(Noted(f"{' and '.join(model.role for model in models)}: all parts are complete"))
            return
        with open_dispatcher(scorer.settings.dispatch, scorer.pool, models, scorer.emit) as dispatcher:
            scorer.score(models, left, dispatcher)
