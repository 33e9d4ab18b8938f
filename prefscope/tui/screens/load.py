"""The load screen: open a ledger, or score a data set with two checkpoints. Identifies paths while the user types."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, cast, get_args

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import Screen
from textual.suggester import Suggester
from textual.timer import Timer
from textual.widgets import Button, HelpPanel, Input, OptionList, Static
from textual.widgets.option_list import Option

from prefscope.events import Failed, Finished
from prefscope.folders import demo_ledgers
from prefscope.report.visible import visible
from prefscope.settings import Dtype, ScoreSettings
from prefscope.tui.messages import Chosen
from prefscope.tui.model.recognition import DataFound, ModelFound, Recognised, estimate, recognise_data, recognise_model
from prefscope.tui.model.state import Opened, recall
from prefscope.tui.model.worker_run import Scoring
from prefscope.tui.screens.error import ErrorScreen
from prefscope.tui.widgets.choices import Tick
from prefscope.tui.widgets.footer import Footer
from prefscope.tui.widgets.scoring_strip import step

DELAY = 0.25
"""Seconds to wait after the last key before the paths are examined."""
PATHS = {"data": "data set", "policy": "policy", "ref": "reference"}
OPTIONS = {"device": "auto", "dtype": "auto", "max-length": "model's", "batch-tokens": "auto"}
"""Option fields and what they use if empty."""
SIGNS = {True: "✓", False: "✗", None: "·"}


class LoadScreen(Screen[None]):
    """Fields for the data set and checkpoints, what they name, and a list of recently opened ones."""

    HELP = (
        "Enter a data set and two checkpoints to score, or a ledger to open. → accepts a suggestion, enter moves to "
        "the next field. Leave both checkpoints empty to use the bundled tiny models."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "back", "Stop or go back", show=False, id="load-back"),
        Binding("f1", "help", "Help", id="load-help"),
        Binding("ctrl+q", "app.quit", "Quit", id="load-quit"),
    ]
    DEFAULT_CSS = """
    LoadScreen {
        #title { height: 1; padding: 0 1; background: $panel; }
        #fields { height: auto; padding: 0 1; }
        .field { height: 1; }
        .label { width: 11; }
        .found { height: 1; padding-left: 11; color: $quiet; text-wrap: nowrap; text-overflow: ellipsis; }
        .found.-bad { color: $negative; }
        .found.-good { color: $positive; }
        Input { width: 1fr; border: none; height: 1; padding: 0 1; background: $surface; }
        Input:focus { background: $primary 30%; }
        #options { height: 1; margin-top: 1; padding: 0 1; }
        #options .label { width: auto; padding-right: 1; }
        #options Input { max-width: 12; margin-right: 2; }
        #estimate { height: 1; padding: 0 1; }
        #buttons { height: auto; padding: 0 1; margin-top: 1; }
        Button { margin-right: 2; min-width: 12; }
        #state { height: auto; max-height: 4; padding: 0 1; color: $accent; }
        #recent-title { height: 1; padding: 0 1; margin-top: 1; color: $quiet; }
        #recent { height: 1fr; border: none; background: $background; padding: 0 1; }
        &.-tall .found { margin-bottom: 1; }
    }
    """

    def __init__(self, settings: ScoreSettings, ledger: Path | None = None) -> None:
        """Set up the screen.

        Args:
            settings: Initial values of the fields, and all settings without a field.
            ledger: Path of the ledger that a run writes; None: the default path.
        """
        super().__init__()
        self._settings = settings
        self._ledger = ledger
        self._recent: Sequence[Opened] = ()
        self._found: dict[str, Recognised] = {}
        self._timer: Timer | None = None
        self.scoring: Scoring | None = None
        self._opened: Opened | None = None

    def compose(self) -> ComposeResult:
        """Create the fields, the buttons and the list of recently opened files."""
        yield Static(" prefscope   open or score", id="title", markup=False)
        values = self._initial_values()
        with Vertical(id="fields"):
            for name, label in PATHS.items():
                with Horizontal(classes="field"):
                    yield Static(label, classes="label", markup=False)
                    yield Input(visible(values[name]), id=name, suggester=PathSuggester(), compact=True)
                yield Static(id=f"{name}-found", classes="found", markup=False)
        with Horizontal(id="options"):
            for name, empty in OPTIONS.items():
                yield Static(name.replace("-", " "), classes="label", markup=False)
                yield Input(values[name], id=name, placeholder=empty, compact=True)
        yield Static(id="estimate", markup=False)
        with Horizontal(id="buttons"):
            yield Button("Score", id="score", variant="primary", compact=True)
            yield Button("Demo: no model needed", id="demo", compact=True)
            yield Tick("skip bad rows", self._settings.data.skip_bad_rows, id="skip", compact=True)
        yield Static(id="state", markup=False)
        yield Static("recently opened: enter opens", id="recent-title", markup=False)
        yield OptionList(id="recent", markup=False, compact=True)
        yield Footer()

    def _initial_values(self) -> dict[str, str]:
        settings = self._settings
        return {
            "data": settings.data.source,
            "policy": settings.models.policy,
            "ref": settings.models.ref or "",
            "device": "" if settings.models.device == "auto" else settings.models.device,
            "dtype": "" if settings.models.dtype == "auto" else settings.models.dtype,
            "max-length": str(settings.tokenization.max_length or ""),
            "batch-tokens": str(settings.compute.batch_tokens or ""),
        }

    def on_mount(self) -> None:
        """Examine the initial values of the fields."""
        self._examine()
        self.query_one("#recent-title").display = False
        self._find_recent()
        self.set_interval(0.2, self._follow_run)

    @work(thread=True, group="recent", exit_on_error=False)
    def _find_recent(self) -> None:
        """List what was opened recently and still exists, in a thread because disks can be slow."""
        found = recall().still_there
        self.app.call_from_thread(self._list_recent, found)

    def _list_recent(self, found: Sequence[Opened]) -> None:
        self._recent = found
        self.query_one(OptionList).set_options(map(_option, found))
        self.query_one("#recent-title").display = bool(found)

    async def on_unmount(self) -> None:
        """End a run that is still starting when the screen closes."""
        if self.scoring is not None:
            await self.scoring.finish()

    # What the fields name

    @on(Input.Changed)
    def _examine_soon(self) -> None:
        if self._timer is not None:
            self._timer.stop()
        self._timer = self.set_timer(DELAY, self._examine)

    @work(thread=True, exclusive=True, group="examine", exit_on_error=False)
    def _examine(self) -> None:
        """Identify what the fields name, in a thread because disks can be slow."""
        value = self._value
        data = recognise_data(value("data"))
        policy, ref = (recognise_model(value(role), role=role) for role in ("policy", "ref"))
        self.app.call_from_thread(self._show_found, data, policy, ref)

    def _value(self, name: str) -> str:
        return self.query_one(f"#{name}", Input).value.strip()

    def _show_found(self, data: DataFound, policy: ModelFound, ref: ModelFound) -> None:
        both = (policy.vocabulary, ref.vocabulary)
        if None not in both and both[0] != both[1]:
            ref = replace(ref, good=None, text=f"{ref.text} · vocabulary {both[1]:,} ≠ {both[0]:,}")
        self._found = {"data": data, "policy": policy, "ref": ref}
        needs_models = not (data.is_ledger or data.has_logps)
        for name, found in self._found.items():
            line = self.query_one(f"#{name}-found", Static)
            shown = found if name == "data" or needs_models else Recognised(None, "not needed")
            line.update(Content(visible(f"{SIGNS[shown.good]} {shown.text}")))
            line.set_class(shown.good is True, "-good")
            line.set_class(shown.good is False, "-bad")
        guess = estimate(data, policy, ref) if needs_models else ""
        self.query_one("#estimate", Static).update(Content(guess and f"estimate   {guess}"))
        self.query_one("#score", Button).label = "Open" if not needs_models else "Score"

    # Opening and scoring

    @on(Input.Submitted)
    def _focus_next_field(self) -> None:
        self.focus_next()

    @on(Button.Pressed, "#demo")
    def _open_demo(self) -> None:
        try:
            first, *_ = demo_ledgers()
        except OSError as error:
            problem = f"The demo cannot be copied to your data folder ({error.strerror or error})."
            self.notify(visible(problem), severity="error", markup=False)
            return
        self._open(Opened(str(first)))

    @on(OptionList.OptionSelected)
    def _open_recent(self, selected: OptionList.OptionSelected) -> None:
        opened = self._recent[selected.option_index]
        for name, text in (("data", opened.data), ("policy", opened.policy), ("ref", opened.ref)):
            self.query_one(f"#{name}", Input).value = visible(text)
        self._open(opened)

    @on(Button.Pressed, "#score")
    def _start(self) -> None:
        self._open(Opened(self._value("data"), self._value("policy"), self._value("ref")))

    def _open(self, opened: Opened) -> None:
        """Open a ledger or start a run; report a problem if there is one."""
        problem = next(self._problems(opened), None)
        if problem is not None:
            self.notify(visible(problem), severity="error", markup=False)
            return
        if recognise_data(opened.data).is_ledger:
            self.post_message(Chosen(opened, None))
        elif self.scoring is None or not self.scoring.is_running:
            self._opened = opened
            self.scoring = Scoring(self._settings_of(opened), self._ledger)
            self.app.run_worker(self.scoring.run(), group="scoring", exit_on_error=False)

    def _problems(self, opened: Opened) -> Iterator[str]:
        """Yield the problems that keep a run from starting."""
        data = recognise_data(opened.data)
        if not opened.data or (data.good is False and not data.pairs):
            yield f"data set: {data.text}"
        if data.is_ledger:
            return
        for role, name in (("policy", opened.policy), ("ref", opened.ref)):
            found = recognise_model(name, role=role)
            if found.good is False:
                yield f"{PATHS[role]}: {found.text}"
        if opened.ref and not opened.policy:
            yield "A reference needs a policy: enter both, or neither to use the bundled tiny models."
        if self._value("dtype") not in {"", *get_args(Dtype)}:
            yield f"dtype must be one of {', '.join(get_args(Dtype))}."
        for name in ("max-length", "batch-tokens"):
            if (text := self._value(name)) and not (text.isdecimal() and int(text)):
                yield f"{name.replace('-', ' ')} must be a whole number of tokens, or empty."

    def _settings_of(self, opened: Opened) -> ScoreSettings:
        """Return the settings with the values of the fields."""
        settings = self._settings
        lengths = {name: int(self._value(name) or 0) or None for name in ("max-length", "batch-tokens")}
        models = replace(
            settings.models,
            policy=_expanded(opened.policy),
            ref=_expanded(opened.ref) or None,
            device=self._value("device") or "auto",
            dtype=cast("Dtype", self._value("dtype") or "auto"),
        )
        return replace(
            settings,
            data=replace(settings.data, source=_expanded(opened.data), skip_bad_rows=self.query_one(Tick).value),
            models=models,
            tokenization=replace(settings.tokenization, max_length=lengths["max-length"]),
            compute=replace(settings.compute, batch_tokens=lengths["batch-tokens"]),
        )

    def _follow_run(self) -> None:
        """Show the progress of a run, and switch to its pairs as soon as they are available."""
        scoring = self.scoring
        if scoring is None or self._opened is None:
            return
        notes = "\n".join(visible(note) for note in scoring.notes[-2:])
        self.query_one("#state", Static).update(Content(f"{step(scoring)} · esc stops\n{notes}"))
        if scoring.live is not None or isinstance(scoring.ended, Finished):
            self.scoring = None
            self.post_message(Chosen(self._opened, scoring))
        elif isinstance(scoring.ended, Failed):
            self.scoring = None
            self.app.push_screen(ErrorScreen("Scoring failed", scoring.ended.message, log=scoring.last_words))
            scoring.close()
        if self.scoring is None:
            self.query_one("#state", Static).update("")

    def action_back(self) -> None:
        """Stop a run that is starting, or go back to the previous screen."""
        if self.scoring is not None:
            self.scoring.close()
            self.scoring = None
            self.query_one("#state", Static).update("Stopped. What was scored is kept.")
        elif len(self.app.screen_stack) > 2:  # noqa: PLR2004 (Textual's default screen is below)
            self.dismiss()

    def action_help(self) -> None:
        """Show or hide the help panel with the keys."""
        if self.query(HelpPanel):
            self.app.action_hide_help_panel()
        else:
            self.app.action_show_help_panel()


class PathSuggester(Suggester):
    """Completes a path to the first path with this prefix."""

    def __init__(self) -> None:
        super().__init__(use_cache=False, case_sensitive=True)

    async def get_suggestion(self, value: str) -> str | None:
        """Return the first existing path that starts with the typed text, or None."""
        return await asyncio.to_thread(_completed, value)


def _completed(value: str) -> str | None:
    path = Path(value).expanduser()
    if not value or value.endswith("/"):
        return None
    try:
        names = sorted(one.name for one in path.parent.iterdir())
    except OSError:
        return None
    safe = (name for name in names if visible(name) == name)
    longer = (name for name in safe if name.startswith(path.name) and name != path.name)
    return next((value + name[len(path.name) :] for name in longer), None)


def _option(opened: Opened) -> Option:
    models = f"   {opened.policy or 'bundled'} against {opened.ref or 'its base'}" if opened.policy else ""
    return Option(Content(visible(f"{opened.data}{models}")))


def _expanded(name: str) -> str:
    return str(Path(name).expanduser()) if name.startswith("~") else name
