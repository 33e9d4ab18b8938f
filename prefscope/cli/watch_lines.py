"""What `prefscope watch` prints: a line for each checkpoint on stdout, notes and progress on stderr."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from typing import Any

from prefscope.cli.progress import RunProgress
from prefscope.errors import LedgerError
from prefscope.events import BatchScored, Event, Noted, Planned
from prefscope.ledger.table import load_ledger
from prefscope.report.diagnosis_sections import signed
from prefscope.report.followed import Followed
from prefscope.report.summary import Summary, summarise
from prefscope.report.terminal import json_stream
from prefscope.report.visible import visible
from prefscope.settings import PreferenceSettings
from prefscope.training.settings import WatchSettings
from prefscope.training.watch import Watched, watch

LEFT_OUT = ("manifest", "worst", "ledger", "schema")
"""What the JSON of a line does not repeat from the summary of its ledger."""


def print_watched(settings: WatchSettings, preferences: PreferenceSettings, by: str, *, as_json: bool) -> bool:
    """Watch, print a line for each checkpoint with its alarms, and return whether any was scored.

    Raises:
        PrefscopeError: As `watch`.
    """
    any_scored, followed = False, Followed(preferences, by)
    line_of = json_line if as_json else text_line
    stream = sys.stdout  # while progress is shown, rich puts another stream in its place
    out = json_stream(stream)
    progress = _Progress()
    progress.say(f"watching {settings.checkpoints}; ledgers are written to {settings.folder}")
    with closing(watch(settings, progress)) as steps:
        while (watched := progress.shown_while(lambda: next(steps, None))) is not None:
            any_scored |= watched.ledger is not None
            out.write(f"{line_of(watched, preferences, alarms_at(watched, followed))}\n")
            stream.flush()
    if any_scored:
        name = shlex.quote(settings.folder)
        progress.say(f"look at them: prefscope view {name}; compare them: prefscope compare {name}")
    return any_scored


class _Progress:
    """Shows the events of a watch; notes only once, and the progress of batches only on a terminal."""

    def __init__(self) -> None:
        self._said: set[str] = set()
        self._run = RunProgress()

    def shown_while(self, wait: Callable[[], Watched | None]) -> Watched | None:
        """Return what a function returns, showing progress until it does."""
        with RunProgress() as self._run:
            return wait()

    def say(self, text: str) -> None:
        """Print a line on stderr."""
        self._run.say(text)

    def __call__(self, event: Event) -> None:
        """Show one event."""
        if isinstance(event, Noted):
            if event.text in self._said:
                return
            self._said.add(event.text)
        if self._run.live or not isinstance(event, Planned | BatchScored):
            self._run(event)


def alarms_at(watched: Watched, followed: Followed) -> list[str]:
    """Add a checkpoint to those that are followed, and return its alarms; one without a reference has none.

    Raises:
        UsageError: There is no column to group by.
    """
    if watched.ledger is None:
        return []
    with suppress(LedgerError):
        ledger = load_ledger(watched.ledger)
        if ledger.has_reference:
            followed.add(ledger, watched.step.step)
            return followed.alarms
    return []


def text_line(watched: Watched, preferences: PreferenceSettings, alarms: Sequence[str] = ()) -> str:
    """Return a checkpoint's key figures in one line, or why it was skipped, and a line for each alarm."""
    return "\n".join([_text_line(watched, preferences), *(f"             alarm: {one}" for one in alarms)])


def _text_line(watched: Watched, preferences: PreferenceSettings) -> str:
    step = watched.step
    head = f"step {step.step:>6}" + ("" if step.epoch is None else f"  epoch {step.epoch:.2f}")
    try:
        summary = _summary(watched, preferences)
    except LedgerError as error:
        return f"{head}  {visible(str(error))}"
    if summary is None:
        return f"{head}  {visible(step.checkpoint)} was skipped: {visible(step.problem)}"
    taken = "" if watched.seconds is None else f"{watched.seconds:.0f} s"
    return "  ".join(filter(None, [head, f"{summary.pairs:,} pairs", *_figures(summary), taken]))


def _figures(summary: Summary) -> list[str]:
    """Return accuracy, margin and rewards or, without a reference, mean log-probs and losses."""
    if summary.accuracy is None or summary.outcomes is None:
        names = {"logps/chosen": "chosen log-prob", "logps/rejected": "rejected log-prob"}
        losses = [f"{loss.name} {loss.spread.mean:.3f}" for loss in summary.losses]
        return [f"{words} {summary.metrics[name].mean:.1f}" for name, words in names.items()] + losses
    low, high = summary.outcomes.low, summary.outcomes.high
    names = {"rewards/margins": "margin", "rewards/chosen": "chosen", "rewards/rejected": "rejected"}
    means = [f"{words} {signed(summary.metrics[name].mean)}" for name, words in names.items()]
    return [f"accuracy {summary.accuracy:.1%} ({low:.1%} to {high:.1%})", *means]


def json_line(watched: Watched, preferences: PreferenceSettings, alarms: Sequence[str] = ()) -> str:
    """Return a checkpoint's figures as one JSON object."""
    step = watched.step
    value: dict[str, Any] = {
        "step": step.step,
        "epoch": step.epoch,
        "checkpoint": step.checkpoint,
        "ledger": None if watched.ledger is None else str(watched.ledger),
        "problem": step.problem,
        "seconds": watched.seconds,
        "alarms": [*alarms],
    }
    try:
        summary = _summary(watched, preferences)
    except LedgerError as error:
        return json.dumps({**value, "problem": str(error)}, ensure_ascii=False)
    figures = {} if summary is None else summary.to_json()
    return json.dumps(value | {k: v for k, v in figures.items() if k not in LEFT_OUT}, ensure_ascii=False)


def _summary(watched: Watched, preferences: PreferenceSettings) -> Summary | None:
    """Return the figures of a checkpoint, None if it was skipped.

    Raises:
        LedgerError: If its ledger cannot be read.
    """
    return None if watched.ledger is None else summarise(load_ledger(watched.ledger), preferences)
