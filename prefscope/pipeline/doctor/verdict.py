"""What the doctor's checks are given, and what they say."""

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
    """What one check says."""

    name: str
    state: State
    told: str
    """What was seen, as a sentence without a full stop."""
    advice: str
    """What to do about it; empty where nothing is to be done."""


@dataclass(frozen=True, slots=True)
class Tokenizers:
    """How the policy's tokenizer differs from the reference's; both are the same where there is only one."""

    differing: int
    """Token ids that mean something else to the reference."""
    templates: Literal["same", "differing", "none in the reference", "given"]


@dataclass(frozen=True)
class Evidence:
    """A scored sample of pairs, or why it could not be scored."""

    tokenizers: Tokenizers
    oddities: Mapping[str, str]
    """What is odd about the checkpoints, by the check that it is for (scoring/inspection.py)."""
    refusal: PrefscopeError | None
    """What stopped the run, where that is itself an answer."""
    scored: Ledger | None
    beta: float

    @property
    def ledger(self) -> Ledger:
        """The scored sample; there is one where nothing was refused."""
        if self.scored is None:
            raise ValueError(f"nothing was scored: {self.refusal}")
        return self.scored

    @functools.cached_property
    def numbers(self) -> Columns:
        """Log-ratios and DPO loss of every pair."""
        return self.ledger.derived(PreferenceSettings(self.beta, (LossChoice("dpo"),)))

    @property
    def differences(self) -> NDArray[np.float64]:
        """Chosen minus rejected log-ratio of the pairs where it is finite, in nats."""
        found = self.numbers["chosen_logratios"] - self.numbers["rejected_logratios"]
        finite: NDArray[np.float64] = found[np.isfinite(found)]
        return finite

    def per_token(self, side: str) -> NDArray[np.float64]:
        """Return a side's log-ratio a scored token, in nats, of the pairs where it is finite."""
        counts = self.ledger.stored[NUM_TOKENS[side == "rejected"]]
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios = self.numbers[f"{side}_logratios"] / counts
        finite: NDArray[np.float64] = ratios[np.isfinite(ratios)]
        return finite

    def flagged(self, flag: str) -> NDArray[np.bool_]:
        """Return which pairs carry a flag."""
        return np.array([flag in split_flags(flags) for flags in self.ledger.stored["flags"]], dtype=np.bool_)

    @property
    def manifest(self) -> Mapping[str, Any]:
        """How the sample was scored."""
        return self.ledger.manifest


Judgement: TypeAlias = tuple[State, str]
DoctorCheck: TypeAlias = Callable[[Evidence], Judgement]


@dataclass(frozen=True, slots=True)
class Registered:
    """A check with what is told of it."""

    advice: str
    """What to do where it fails or warns."""
    rule: str
    """By which thresholds it judges."""
    answers_refusals: bool
    """Whether it is asked even where nothing could be scored."""
    check: DoctorCheck


CHECKS: dict[str, Registered] = {}
"""Every check by its name, in the order in which verdicts are told; doctor/checks.py fills it."""


def doctor_check(
    name: str, advice: str, *, rule: str, answers_refusals: bool = False
) -> Callable[[DoctorCheck], DoctorCheck]:
    """Register a check under its name; what else it takes is told by `Registered`."""

    def register(check: DoctorCheck) -> DoctorCheck:
        CHECKS[name] = Registered(advice, rule, answers_refusals, check)
        return check

    return register


def judge(evidence: Evidence) -> tuple[Verdict, ...]:
    """Return what every check says, in the order of their registration."""
    verdicts = []
    for name, registered in CHECKS.items():
        if evidence.refusal is not None and not registered.answers_refusals:
            verdicts.append(Verdict(name, "skip", "nothing could be scored", ""))
            continue
        state, told = registered.check(evidence)
        verdicts.append(Verdict(name, state, told, registered.advice if state in {"fail", "warn"} else ""))
    return tuple(verdicts)
