"""Exact KL divergences of policy and reference: what they need, and their columns in a ledger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from prefscope.errors import ResourceError, UsageError
from prefscope.ledger.columns import DIVERGENCES, TOKEN_DIVERGENCES, Column
from prefscope.pipeline.logp_source import SIDES, StoredLogps
from prefscope.pipeline.model_pool import ModelPool, ScoredModel
from prefscope.pipeline.spool import sequences_of
from prefscope.scoring.divergences import COLUMNS
from prefscope.scoring.probe import Budget
from prefscope.scoring.store import divergences_key

DIRECTIONS = ("kl_policy_ref", "kl_ref_policy")
ON_ONE_BATCH = "The KL divergence needs policy and reference on the same batch"
HINT = "Omit --kl and losses such as tdpo2; --alternatives gives a lower bound of the divergence."


def refuse_apart(pool: ModelPool) -> None:
    """Refuse to compute divergences of models that are not in memory at the same time.

    Raises:
        UsageError: If there is no reference.
        ResourceError: If both may not fit, or are spread over devices one after the other.
    """
    if len(pool.candidates) == 1:
        raise UsageError("--kl needs a reference", hint="Pass one with --ref, or omit --kl.")
    if not pool.together:
        raise ResourceError(
            f"{ON_ONE_BATCH}, but both may not fit into memory together",
            hint=f"Use a narrower --dtype, or no --device-map. {HINT}",
        )


def with_divergences(models: Sequence[ScoredModel]) -> list[ScoredModel]:
    """Return the models of a run, with a policy on whose batches the reference is computed, too.

    Args:
        models: The policy and the reference; only the policy if both are the same model.

    Raises:
        UsageError: If the self-checks of the two chose different forward modes.
    """
    policy, ref = models[0], models[-1]
    if policy.verdict.path != ref.verdict.path:
        raise UsageError(
            f"{ON_ONE_BATCH}, but the policy is computed {policy.verdict.path} and the reference {ref.verdict.path}",
            hint=HINT,
        )
    alone = policy.verdict.alone or ref.verdict.alone or policy.rope_limit != ref.rope_limit
    verdict = replace(policy.verdict, alone=alone)
    return [replace(policy, beside=ref, verdict=verdict, budget=_of_both(policy.budget, ref.budget)), *models[1:]]


def _of_both(policy: Budget, ref: Budget) -> Budget:
    """Return the budget of batches that both models compute, one after the other."""
    seconds_a_token = 1 / policy.tokens_per_second + 1 / ref.tokens_per_second
    return Budget(min(policy.batch_tokens, ref.batch_tokens), 1 / seconds_a_token)


@dataclass(frozen=True, slots=True)
class Divergences:
    """The divergences of all sequences of a run, in its store."""

    stored: StoredLogps
    ref_scope: bytes
    keep_tokens: bool

    @property
    def schema(self) -> Sequence[Column]:
        """The columns."""
        return (*DIVERGENCES, *(TOKEN_DIVERGENCES if self.keep_tokens else ()))

    def columns(self, batch: pa.RecordBatch) -> dict[str, Any]:
        """Return the columns of a batch of pairs: sums in float64, and lists per response if tokens are kept."""
        columns: dict[str, Any] = {}
        name = partial(divergences_key, ref_scope=self.ref_scope)
        for side in SIDES:
            sequences = sequences_of(batch, side)
            both = [
                np.full((sequence.num_scored, COLUMNS), np.nan, np.float32) if one is None else one.reshape(-1, COLUMNS)
                for sequence, one in zip(sequences, self.stored.find("policy", sequences, name), strict=True)
            ]
            for at, direction in enumerate(DIRECTIONS):
                columns[f"{side}_{direction}"] = np.array([one[:, at].sum(dtype=np.float64) for one in both])
                if self.keep_tokens:
                    columns[f"{side}_token_{direction}"] = [one[:, at] for one in both]
        return columns
