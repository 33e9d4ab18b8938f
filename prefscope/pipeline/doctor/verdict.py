"""Input and output of the doctor's checks, and their registry."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from prefscope.errors import PrefscopeError
from prefscope.flags import split_flags
from prefscope.ledger.arrays import Columns
from prefscope.ledger.columns import NUM_TOKENS
from prefscope.ledger.table import Ledger
from prefscope.settings import LossChoice, PreferenceSettings

State = Literal["fail", "warn", "ok", "skip"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of one check."""

    name: str
    state: State
    detail: str
    """What was found, as a sentence without a full stop."""
    advice: str
    """What to do about it; empty if the check passed or was skipped."""


@dataclass(frozen=True, slots=True)
class Tokenizers:
    """How the policy's tokenizer differs from the reference's; with only one tokenizer, nothing differs."""

    differing: int
    """Number of token ids with another meaning in the reference."""
    templates: Literal["same", "differing", "none in the reference", "from option"]


@dataclass(frozen=True)
class Evidence:
    """A scored sample of pairs, or the reason why it could not be scored."""

    tokenizers: Tokenizers
    oddities: Mapping[str, str]
    """What is unusual about the checkpoints, by the name of the check that reports it (scoring/inspection.py)."""
    refusal: PrefscopeError | None
    """The error that stopped the run, if a check can report it."""
    scored: Ledger | None
    beta: float

    @property
    def ledger(self) -> Ledger:
        """The scored sample.

        Raises:
            ValueError: If nothing was scored.
        """
        if self.scored is None:
            raise ValueError(f"nothing was scored: {self.refusal}")
        return self.scored

    @functools.cached_property
    def numbers(self) -> Columns:
        """Log-ratios and DPO loss of every pair."""
        return self.ledger.derived(PreferenceSettings(self.beta, (LossChoice("dpo"),)))

    @property
    def differences(self) -> NDArray[np.float64]:
        """Chosen minus rejected log-ratio in nats, for the pairs where it is finite."""
        found = self.numbers["chosen_logratios"] - self.numbers["rejected_logratios"]
        finite: NDArray[np.float64] = found[np.isfinite(found)]
        return finite

    def per_token(self, side: str) -> NDArray[np.float64]:
        """Return the log-ratio per scored token of one side in nats, for the pairs where it is finite."""
        counts = self.ledger.stored[NUM_TOKENS[side == "rejected"]]
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios = self.numbers[f"{side}_logratios"] / counts
        finite: NDArray[np.float64] = ratios[np.isfinite(ratios)]
        return finite

    def flagged(self, flag: str) -> NDArray[np.bool_]:
        """Return a mask of the pairs that have a flag."""
        return np.array([flag in split_flags(flags) for flags in self.ledger.stored["flags"]], dtype=np.bool_)

    @property
    def manifest(self) -> Mapping[str, Any]:
        """The manifest of the scored sample."""
        return self.ledger.manifest


Judgement: TypeAlias = tuple[State, str]
DoctorCheck: TypeAlias = Callable[[Evidence], Judgement]


@dataclass(frozen=True, slots=True)
class Registered:
    """A check and its descriptions."""

    advice: str
    """What to do if it fails or warns."""
    rule: str
    """Its thresholds, in words."""
    answers_refusals: bool
    """Whether to run it even if nothing could be scored."""
    check: DoctorCheck


CHECKS: dict[str, Registered] = {}
"""All checks by name, in the order in which results are listed; filled by doctor/checks.py."""


def doctor_check(
    name: str, advice: str, *, rule: str, answers_refusals: bool = False
) -> Callable[[DoctorCheck], DoctorCheck]:
    """Register a check under a name; see `Registered` for the other arguments."""

    def register(check: DoctorCheck) -> DoctorCheck:
        CHECKS[name] = Registered(advice, rule, answers_refusals, check)
        return check

    return register


def judge(evidence: Evidence) -> tuple[Verdict, ...]:
    """Run all checks, in the order of their registration."""
    verdicts = []
    for name, registered in CHECKS.items():
        if evidence.refusal is not None and not registered.answers_refusals:
            verdicts.append(Verdict(name, "skip", "nothing could be scored", ""))
            continue
        state, detail = registered.check(evidence)
        verdicts.append(Verdict(name, state, detail, registered.advice if state in {"fail", "warn"} else ""))
    return tuple(verdicts)
