"""Trainings that are watched: checkpoints made of the bundled tiny models, and a watch that waits as a test says."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from prefscope.events import Event, Noted
from prefscope.folders import sample_data
from prefscope.settings import ComputeSettings, DataSettings, ModelSettings, ScoreSettings
from prefscope.training.settings import WatchSettings
from prefscope.training.watch import Watched, watch

REF = sample_data() / "tiny-ref"
OUT = Path("out")
MOST_WAITS = 20
STATE = "trainer_state.json"


def save(step: int, model: str = "tiny-policy", *, out: Path = OUT) -> Path:
    """Write a checkpoint as transformers' Trainer does, the state last."""
    folder = shutil.copytree(sample_data() / model, out / f"checkpoint-{step}")
    (folder / STATE).write_text(json.dumps({"global_step": step, "epoch": step / 100}))
    return folder


def settings_of(data: Path, ref: Path | str | None = REF, *, once: bool = True, every: int = 1) -> WatchSettings:
    """Return the settings of a watch in the current folder, of one thread and with a store of its own."""
    score = ScoreSettings(
        DataSettings(str(data), sample=500),
        ModelSettings("", None if ref is None else str(ref)),
        compute=ComputeSettings(cache_dir="cache", threads=1),
    )
    return WatchSettings(score, str(OUT), "runs", every=every, once=once)


class OverError(Exception):
    """Nothing is left to do while the watch waits."""


@dataclass
class Outcome:
    """What a watch yielded and emitted."""

    watched: list[Watched] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    @property
    def notes(self) -> list[str]:
        """The messages for the user."""
        return [event.text for event in self.events if isinstance(event, Noted)]

    @property
    def scored(self) -> list[int]:
        """The steps that were scored now."""
        return [one.step.step for one in self.watched if one.seconds is not None]

    @property
    def kept(self) -> list[int]:
        """The steps that had been scored before."""
        return [one.step.step for one in self.watched if one.ledger is not None and one.seconds is None]

    @property
    def problems(self) -> dict[int, str]:
        """Why steps were skipped."""
        return {one.step.step: one.step.problem for one in self.watched if one.ledger is None}


def run(
    settings: WatchSettings, *acts: Callable[[], object], emit: Callable[[Event], object] = lambda _: None
) -> Outcome:
    """Watch, do one thing each time the watch waits, and stop when there is nothing left to do."""
    left = iter(acts) if acts else iter([wait] * MOST_WAITS)
    outcome = Outcome()

    def pause(_: float) -> None:
        act = next(left, None)
        if act is None:
            raise OverError
        act()

    def hear(event: Event) -> None:
        outcome.events.append(event)
        emit(event)

    try:
        for watched in watch(settings, hear, pause):
            outcome.watched.append(watched)
    except OverError:
        assert not settings.once, "it does not end"
    return outcome


def wait() -> None:
    """Change nothing: files are at rest at the second look."""
