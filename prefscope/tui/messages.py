"""Messages from panes to the main screen, and from screens to the app."""

from __future__ import annotations

from dataclasses import dataclass

from textual.message import Message

from prefscope.settings import PreferenceSettings
from prefscope.tui.model.state import Opened
from prefscope.tui.model.worker_run import Scoring


class SessionChanged(Message):
    """The filter, sort order, knobs or marks have changed."""


class PairOpened(Message):
    """A request to show the pair under the cursor on the Pair screen."""


@dataclass
class PairsRequested(Message):
    """A request to list those pairs of the scope that match a filter expression; empty for all of them."""

    expression: str


class OpenRequested(Message):
    """A request to show the load screen."""


@dataclass
class Chosen(Message):
    """The user has chosen what to show: a ledger, or a run that was started."""

    opened: Opened
    run: Scoring | None
    preferences: PreferenceSettings | None = None
    """Beta and losses; None: those of the app."""
