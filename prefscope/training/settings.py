"""Settings of a watch: plain values that survive a JSON round trip, for the process that watches for the screens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from prefscope.settings import ScoreSettings


@dataclass(frozen=True, slots=True)
class WatchSettings:
    """What to watch, and how to score what appears."""

    score: ScoreSettings
    """The settings of every run; the policy is replaced by each checkpoint."""
    checkpoints: str
    """The folder that a trainer writes its checkpoints to; it need not exist yet."""
    folder: str
    """The run folder."""
    every: int = 1
    """Score only steps that are multiples of this."""
    once: bool = False
    """Score what is there and end."""

    def to_json(self) -> dict[str, Any]:
        """Convert the settings to JSON values; `from_json` is the inverse."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> WatchSettings:
        """Recreate settings from the result of `to_json`."""
        return cls(**{**value, "score": ScoreSettings.from_json(value["score"])})
