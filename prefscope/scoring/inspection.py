"""Checks a policy and its reference before anything is read in full: rejects invalid ones, reports likely mistakes.

Reads only configs and file headers. Anything that makes the numbers meaningless is an error; likely mistakes are
oddities, which runs report as warnings and the doctor's checks judge.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from prefscope.scoring.adapter_files import lasting_change, refuse_unscorable
from prefscope.scoring.checkpoints import ADAPTER_OFF, Checkpoint, read_json
from prefscope.scoring.folder_contents import (
    has_value_head,
    refuse_empty_weights,
    refuse_other_models,
    refuse_too_many_layers,
    stale_weights,
)
from prefscope.scoring.headers import tensor_shapes

OddityName = Literal["adapter_base", "swapped", "stale_weights", "value_head"]


@dataclass(frozen=True, slots=True)
class Oddity:
    """A likely mistake in the choice of checkpoints."""

    name: OddityName
    """Name of the doctor's check that reports it."""
    what: str
    """What was found, as a sentence without a full stop."""
    follows: str
    """Consequences and advice, as sentences."""


def inspect(policy: Checkpoint, ref: Checkpoint | None) -> tuple[Oddity, ...]:
    """Return the oddities of a policy and its reference.

    Raises:
        ModelError: If one of them is not a causal language model, cannot be restored as it was trained, or has empty
            weights or a truncated file.
    """
    checkpoints = [policy] if ref is None else [policy, ref]
    for checkpoint in checkpoints:
        _refuse(checkpoint)
    found = [_stale(checkpoint) for checkpoint in dict.fromkeys(one.full for one in checkpoints)]
    found += [_value_head(checkpoint) for checkpoint in checkpoints]
    if ref is not None:
        found += [_changed_base(policy, ref), _swapped(policy, ref)]
    return tuple(oddity for oddity in found if oddity is not None)


def _refuse(checkpoint: Checkpoint) -> None:
    if checkpoint.base is not None:
        refuse_unscorable(checkpoint)
        refuse_empty_weights(checkpoint.name, tensor_shapes(checkpoint))
    full = checkpoint.full
    if not full.is_gguf:
        tensors = tensor_shapes(full)
        config = read_json(full.path / "config.json")
        refuse_other_models(full.name, config, tensors)
        refuse_too_many_layers(full.name, config, tensors)
        refuse_empty_weights(full.name, tensors)


def _stale(full: Checkpoint) -> Oddity | None:
    found = "" if full.is_gguf else stale_weights(full.path)
    if not found:
        return None
    return Oddity(
        "stale_weights",
        f"{full.name} has {found}",
        "transformers loads the single file, so that file is scored; delete whichever is stale.",
    )


def _value_head(checkpoint: Checkpoint) -> Oddity | None:
    if checkpoint.is_gguf or not has_value_head(checkpoint.path, tensor_shapes(checkpoint)):
        return None
    return Oddity(
        "value_head",
        f"{checkpoint.name} has a value head in addition to its language model",
        "If it is a reward model, its log-probs mean nothing; if it was trained with PPO, they are the policy's.",
    )


def _changed_base(policy: Checkpoint, ref: Checkpoint) -> Oddity | None:
    """Report if switching the policy's adapter off would not restore the base that is used as its reference."""
    if policy.base is None or not policy.base.same_weights(ref):
        return None
    reason = lasting_change(policy)
    if not reason:
        return None
    return Oddity(
        "adapter_base",
        f"{policy.name} is not its base plus an adapter: {reason}",
        "The reference here is the base as published. A trainer that switched the adapter off to get its reference "
        f"(TRL with ref_model=None) used another one; score with that by --ref {ADAPTER_OFF}.",
    )


def _swapped(policy: Checkpoint, ref: Checkpoint) -> Oddity | None:
    """Report if the policy is the base of its reference, which is an adapter."""
    if ref.base is None or ref.off or not ref.base.same_weights(policy):
        return None
    return Oddity(
        "swapped",
        f"The policy, {policy.name}, is the base of its reference, {ref.name}",
        "They seem to be swapped, which negates every margin: pass the trained checkpoint with --policy.",
    )
