"""What panes tell the main screen, and screens the app."""

from __future__ import annotations

from dataclasses import dataclass

from textual.message import Message

from prefscope.tui.model.state import Opened
from prefscope.tui.model.worker_run import Scoring


class SessionChanged(Message):
    """Filter, order, knobs or marks have changed."""


class PairOpened(Message):
    """The pair under the cursor is to be shown by itself."""


@dataclass
class PairsAsked(Message):
    """The pairs that match an expression are to be shown."""

    expression: str


class OpenAsked(Message):
    """Something else is to be looked at."""


@dataclass
class Chosen(Message):
    """What is to be looked at has been chosen: a run that was started, or a ledger."""

    opened: Opened
    run: Scoring | None
