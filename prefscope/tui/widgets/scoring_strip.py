"""A line with the progress of a run; it is hidden when there is no run."""

from __future__ import annotations

import numpy as np
from textual.content import Content
from textual.widgets import Static

from prefscope.events import Failed
from prefscope.report.visible import visible
from prefscope.tui.model.cells import one_line
from prefscope.tui.model.worker_run import Scoring

BAR_CELLS = 18
EIGHTHS = " ▏▎▍▌▋▊▉"
MINUTE, HOUR = 60, 3600


class ScoringStrip(Static):
    """Shows the progress of a run, its speed and the time left."""

    DEFAULT_CSS = """
    ScoringStrip { height: 1; background: $panel; text-wrap: nowrap; text-overflow: ellipsis; display: none; }
    ScoringStrip.-shown { display: block; }
    """

    def show_run(self, scoring: Scoring | None) -> None:
        """Show the progress of a run; hide the line if there is no run or it has finished."""
        line = None if scoring is None else progress(scoring)
        self.set_class(bool(line), "-shown")
        if line:
            self.update(line, layout=False)


def progress(scoring: Scoring) -> Content:
    """Return the progress line of a run, empty if it has finished."""
    known, total = _pairs(scoring)
    if scoring.is_stopped:
        return Content(f" ■ stopped{f' at {known:,}/{total:,} pairs' if total else ''} · {_kept(scoring)} · x resumes")
    if isinstance(scoring.ended, Failed):
        return Content(f" ✗ {visible(scoring.ended.message)}")
    if scoring.ended is not None:
        return Content("")
    if not scoring.passes or not known:
        return Content(f" {step(scoring)} · x stops")
    share = known / max(total, 1)
    parts = [f"{known:,}/{total:,} pairs", f"{scoring.tokens_per_second:,.0f} tok/s"]
    left = scoring.seconds_left
    parts += [] if left is None else [f"{duration(left)} left"]
    return Content(f" ▕{bar(share, BAR_CELLS)}▏ {' · '.join(parts)} · x stops")


def _kept(scoring: Scoring) -> str:
    """Return where the results of a stopped run are."""
    if not scoring.has_exited:
        return "writing the ledger"
    return "what was scored is kept" if scoring.saved is None else f"saved: {one_line(scoring.saved.path.name)}"


def step(scoring: Scoring) -> str:
    """Return the current step of a run before its first pair is scored."""
    if scoring.passes:
        return f"scoring, about {duration(scoring.seconds_left or 0.0)} left"
    now = scoring.step
    amount = f" {now.done:,}" if now.done and now.total is None else ""
    amount = f" {now.done / now.total:.0%}" if now.total else amount
    return f"{visible(now.step)}{amount}"


def _pairs(scoring: Scoring) -> tuple[int, int]:
    """Return the number of scored pairs and the total number of pairs."""
    if scoring.live is None:
        return 0, 0
    return int(np.count_nonzero(scoring.live.is_known)), scoring.live.num_pairs


def bar(share: float, cells: int) -> str:
    """Return a progress bar that is `cells` wide.

    >>> bar(0.5, 4), bar(1.0, 4), bar(0.28, 4)
    ('██  ', '████', '█▏  ')
    """
    eighths = round(min(max(share, 0.0), 1.0) * cells * 8)
    partly = EIGHTHS[eighths % 8] if eighths % 8 else ""
    return ("█" * (eighths // 8) + partly).ljust(cells)


def duration(seconds: float) -> str:
    """Format a time span in hours and minutes, minutes and seconds, or seconds.

    >>> duration(83), duration(3.2), duration(7384)
    ('1:23', '3 s', '2:03 h')
    """
    if seconds < MINUTE:
        return f"{seconds:.0f} s"
    if seconds < HOUR:
        return f"{int(seconds) // MINUTE}:{int(seconds) % MINUTE:02}"
    return f"{int(seconds) // HOUR}:{int(seconds) % HOUR // MINUTE:02} h"
