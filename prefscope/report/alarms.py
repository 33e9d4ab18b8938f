"""Alarms: what goes wrong in a training, as early as its figures show it. No alarm is within the intervals."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from prefscope.report.training import SETTLED_LOSS, Estimate, Training
from prefscope.report.visible import visible

FALLS = 3
"""Checkpoints in a row."""
LENGTH_GROWTH = 0.1
TRAIN = ("train", "training")
"""Values of a column `split` that name the pairs of the training; all others are held out."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something that a training should be looked at for."""

    name: str
    sentence: str
    """With figures, without a full stop."""
    rule: str
    step: int
    """The step at which it holds: the last one."""


def alarms(found: Training) -> list[Alarm]:
    """Return the alarms at the last checkpoint, the gravest first."""
    if not found.figures:
        return []
    step = found.figures[-1].step
    return [Alarm(rule.name, sentence, rule.words, step) for rule in RULES for sentence in rule.find(found)]


def _not_finite(found: Training) -> Iterator[str]:
    now = found.figures[-1]
    before = found.figures[-2].left_out if len(found.figures) > 1 else 0
    if now.left_out > before:
        yield f"{now.left_out:,} of {now.pairs + now.left_out:,} pairs have log-probs that are NaN or infinite"


def _falling(found: Training) -> Iterator[str]:
    if len(found.figures) <= FALLS:
        return
    some = found.figures[-FALLS - 1 :]
    values = [one.chosen.value for one in some]
    fall, first, now = some[-1].chosen.difference(some[0].chosen), some[0], some[-1]
    rises = now.accuracy.value > first.accuracy.value
    if rises and fall.high < 0 and all(late < early for early, late in itertools.pairwise(values)):
        yield (
            f"log-probs of chosen fall since step {first.step:,} (reward {_change(first.chosen, now.chosen)}) "
            f"while accuracy rises ({first.accuracy.value:.1%} to {now.accuracy.value:.1%})"
        )


def _forgetting(found: Training) -> Iterator[str]:
    train = [figures for name, figures in found.subsets.items() if name.strip().casefold() in TRAIN]
    for name, figures in found.subsets.items():
        if not train or any(figures is one for one in train):
            continue
        peak = max(range(len(figures)), key=lambda at: figures[at].accuracy.value)
        fall = figures[-1].accuracy.difference(figures[peak].accuracy)
        if fall.high < 0 and train[0][-1].accuracy.value > train[0][peak].accuracy.value:
            yield (
                f"accuracy of {visible(name)} peaked at step {figures[peak].step:,} "
                f"({figures[peak].accuracy.value:.1%}) and is {figures[-1].accuracy.value:.1%} now, "
                f"while that of the training pairs rises"
            )


def _longer(found: Training) -> Iterator[str]:
    first, now = found.figures[0].length, found.figures[-1].length
    if now.value - first.value > LENGTH_GROWTH and now.difference(first).low > 0:
        yield f"margins follow the length more and more: ρ {_change(first, now)}"


def _settled(found: Training) -> Iterator[str]:
    now = found.figures[-1].settled
    if now.low > 1 / 2:
        yield f"the DPO loss is below {SETTLED_LOSS:g} on {now.value:.0%} of the pairs: little is left to learn"


def _change(first: Estimate, now: Estimate) -> str:
    return f"{first.value:+.2f} to {now.value:+.2f}".replace("-", "−")


@dataclass(frozen=True, slots=True)
class Rule:
    """When an alarm is given, in words, and what finds it."""

    name: str
    words: str
    find: Callable[[Training], Iterator[str]]


RULES = (
    Rule("not_finite", "more pairs are NaN or infinite than at the checkpoint before", _not_finite),
    Rule("falling", f"the reward of chosen falls {FALLS} times in a row, while the accuracy rises", _falling),
    Rule("forgetting", "the accuracy of held-out pairs has peaked, while that of training pairs rises", _forgetting),
    Rule("longer", f"the rank correlation of margin and length has grown by more than {LENGTH_GROWTH:g}", _longer),
    Rule("settled", f"more than half of the pairs have a DPO loss below {SETTLED_LOSS:g}", _settled),
)
"""The gravest first."""
