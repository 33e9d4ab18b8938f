"""Progress of a run on stderr: a live bar on a terminal, otherwise a line now and then."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from prefscope.events import BatchScored, Event, Finished, Halved, Noted, PairFlagged, Planned, Progressed
from prefscope.report.visible import visible, visible_lines

SECONDS_BETWEEN_LINES = 10.0
EXIT_FOUND = 1
LISTED_ROWS = 20


class _CountColumn(ProgressColumn):
    """Number of items done, and the total if it is known."""

    def render(self, task: Task) -> Text:
        """Return the counts, or empty text for a step without any."""
        if task.total is None:
            return Text(f"{task.completed:,.0f}" if task.completed else "")
        return Text(f"{task.completed:,.0f}/{task.total:,.0f}")


class _RateColumn(ProgressColumn):
    """Pairs and tokens per second of a scoring task."""

    def render(self, task: Task) -> Text:
        """Return the rates, or empty text before the first batch."""
        seconds = task.fields.get("seconds", 0.0)
        if not seconds:
            return Text("")
        pairs, tokens = task.fields["sequences"] / 2 / seconds, task.fields["tokens"] / seconds
        return Text(f"{pairs:,.1f} pairs/s  {tokens:,.0f} tok/s", style="progress.data.speed")


class RunProgress:
    """Shows the progress of a run; a context manager that is called with each event."""

    def __init__(self) -> None:
        self.console = Console(file=sys.stderr, highlight=False, markup=False, emoji=False)
        self.live = self.console.is_terminal
        self.scoring_seconds = 0.0
        self.crashed: list[int] = []
        """Rows of the pairs that crash every process computing them."""
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=16),
            _CountColumn(),
            _RateColumn(),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=not self.live,
        )
        self._steps: dict[str, TaskID] = {}
        self._roles: dict[str, TaskID] = {}
        self._last_line = time.monotonic()
        self._memory = ""

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def __call__(self, event: Event) -> None:
        """Show one event."""
        match event:
            case Noted(text):
                self.say(text)
            case Progressed(step, done, total):
                self._move(step, done, total)
            case Planned():
                self._plan(event)
            case BatchScored():
                self._score(event)
            case Halved(role, batch, sequences):
                self.say(f"{role} batch {batch}: out of memory, retrying with {sequences} sequences at a time")
            case PairFlagged(row, flags) if "crashed" in flags:
                self.crashed.append(row)
            case Finished(scoring_seconds=seconds):
                self.scoring_seconds = seconds
            case _:
                pass

    def conclude(self) -> None:
        """Report the pairs that could not be computed, if any.

        Raises:
            typer.Exit: With code 1, if there are any.
        """
        if not self.crashed:
            return
        listed = ", ".join(str(row) for row in self.crashed[:LISTED_ROWS])
        more = ", …" if len(self.crashed) > LISTED_ROWS else ""
        what = "1 pair crashes" if len(self.crashed) == 1 else f"{len(self.crashed):,} pairs crash"
        self.say(f"{what} every process that computes it and is flagged `crashed`: row {listed}{more}")
        raise typer.Exit(EXIT_FOUND)

    def load(self, step: str) -> None:
        """Show a step whose length is unknown."""
        self._move(step, 0, None)

    def say(self, text: str) -> None:
        """Print a line on stderr."""
        self.console.print(Text(visible_lines(text)), soft_wrap=True)

    def _move(self, step: str, done: int, total: int | None) -> None:
        if not self.live:
            return
        if step not in self._steps:
            self._hide_steps()
            self._steps[step] = self._progress.add_task(visible(step), total=total)
        self._progress.update(self._steps[step], completed=done, total=total)

    def _hide_steps(self) -> None:
        for task in self._steps.values():
            self._progress.update(task, visible=False)

    def _plan(self, event: Planned) -> None:
        self._roles[event.role] = self._progress.add_task(
            f"scoring {event.role}", total=event.computed, visible=event.missing > 0, sequences=0, tokens=0, seconds=0.0
        )
        if event.missing == 0:
            self.say(f"{event.role}: all {event.sequences:,} sequences are in the store, nothing to compute")
            return
        how = "resuming an interrupted run, " if event.resumed else ""
        self.say(f"{event.role}: {how}{event.missing:,} of {event.sequences:,} sequences to compute; {_amount(event)}")
        if event.reason:
            self.say(f"{event.role}: computed in padded rows, because {event.reason}")
        memory = f"memory: {_memory(event)}; {_at_a_time(event)} at a time"
        if memory != self._memory:  # policy and reference often need the same
            self._memory = memory
            self.say(memory)

    def _score(self, event: BatchScored) -> None:
        self._hide_steps()
        task = self._progress.tasks[self._roles[event.role]]
        self._progress.update(
            task.id,
            advance=event.computed,
            sequences=task.fields["sequences"] + event.sequences,
            tokens=task.fields["tokens"] + event.tokens,
            seconds=task.fields["seconds"] + event.seconds,
        )
        if not self.live and time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            rate = task.completed / max(task.fields["seconds"], 1e-9)
            left = max((task.total or 0.0) - task.completed, 0.0)
            share = task.completed / (task.total or 1.0)
            self.say(f"{event.role}: {share:.0%} done, {rate:,.0f} tokens/s, {_duration(left / rate)} left")


def _amount(event: Planned) -> str:
    """Return the tokens to compute, their share of a trainer's padded pass, and the estimated time."""
    share = event.computed / max(event.padded, 1)
    compared = f"{share:.0%} of the {event.padded:,} that a padded pass would take"
    return f"{event.computed:,} tokens, {compared}, about {_duration(event.seconds)}"


def _memory(event: Planned) -> str:
    """Return the memory that a run needs; the size of GGUF and pickled weights is not known beforehand."""
    weights = f"{_size(event.weight_bytes)} of weights" if event.weight_bytes else "the weights"
    return f"{weights} plus at most {_size(event.other_bytes)} of working memory"


def _at_a_time(event: Planned) -> str:
    return "one sequence" if event.batch_tokens == 1 else f"{event.batch_tokens:,} tokens"


def _size(size: int) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 10**9 else f"{size / 1e6:,.0f} MB"


def _duration(seconds: float) -> str:
    """Format a duration in its largest two units."""
    minutes = round(seconds / 60)
    if minutes <= 1:
        return f"{seconds:.0f} s"
    return f"{minutes // 60} h {minutes % 60} min" if minutes > 60 else f"{minutes} min"  # noqa: PLR2004 (an hour)
