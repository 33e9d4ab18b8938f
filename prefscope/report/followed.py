"""The figures of a training that is followed step by step: for a trainer's log, and as lines."""

from __future__ import annotations

import math
from collections.abc import Iterator

from prefscope.ledger.table import Ledger
from prefscope.ledger.view import View
from prefscope.report.alarms import alarms
from prefscope.report.training import StepFigures, Training, training
from prefscope.settings import PreferenceSettings

PREFIX = "prefscope"


class Followed:
    """The figures of every step so far."""

    def __init__(self, preferences: PreferenceSettings, by: str) -> None:
        """Begin without a step; `by` is a column to group the pairs by, empty for none."""
        self._preferences = preferences
        self._by = by
        self.training = Training((), {}, "")
        """All steps, in the order of training, whichever was added first."""
        self._latest = self.training
        """The step that was added last."""

    def add(self, ledger: Ledger, step: int) -> None:
        """Add the ledger of a step.

        Raises:
            UsageError: It does not have the column to group by.
        """
        found = self._latest = training([View(ledger, self._preferences)], [step], self._by)
        before = self.training
        subsets = {name: _ordered(before.subsets.get(name, ()), found.subsets.get(name, ())) for name in found.subsets}
        self.training = Training(
            _ordered(before.figures, found.figures), {**before.subsets, **subsets}, found.loss, found.left_out
        )

    def logged(self) -> dict[str, float]:
        """Return the figures of the step that was added last, under the names that reporters show."""
        logs = _logged(self._latest.figures[0], PREFIX)
        for name, (figures,) in self._latest.subsets.items():
            logs |= _logged(figures, f"{PREFIX}/{self._by}={name}")
        return logs

    def lines(self, seconds: float) -> Iterator[str]:
        """Yield the step that was added last in words, then the alarms.

        Args:
            seconds: How long the step took to score.
        """
        (now,) = self._latest.figures
        share = f"{now.accuracy.value:.1%} ({100 * now.accuracy.low:.0f}–{100 * now.accuracy.high:.0f})"
        rewards = f"rewards {now.chosen.value:+.3f} and {now.rejected.value:+.3f}"
        yield f"step {now.step:,}: {share} right, margin {now.margin.value:+.3f}, {rewards}, {seconds:.1f} s"
        yield from (f"step {now.step:,}: alarm: {one}" for one in self.alarms)

    @property
    def alarms(self) -> list[str]:
        """What is wrong at the last step, as sentences without full stops."""
        return [one.sentence for one in alarms(self.training)]


def _ordered(some: tuple[StepFigures, ...], more: tuple[StepFigures, ...]) -> tuple[StepFigures, ...]:
    """Return the figures by step; those of a step that was scored again replace the earlier ones."""
    by_step = {one.step: one for one in (*some, *more)}
    return tuple(by_step[step] for step in sorted(by_step))


def _logged(figures: StepFigures, prefix: str) -> dict[str, float]:
    """Return the figures that are not nan, which some reporters refuse."""
    values = {
        "accuracy": figures.accuracy.value,
        "margin": figures.margin.value,
        "rewards_chosen": figures.chosen.value,
        "rewards_rejected": figures.rejected.value,
        "loss": figures.loss.value,
    }
    return {f"{prefix}/{name}": value for name, value in values.items() if math.isfinite(value)}
