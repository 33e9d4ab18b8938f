"""The load screen: open a ledger, or score a data set with two checkpoints. Identifies paths while the user types."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.events import DescendantFocus
from textual.screen import Screen
from textual.timer import Timer
from textual.widgets import Button, HelpPanel, Input, OptionList, Static
from textual.widgets.option_list import Option

from prefscope.errors import UsageError
from prefscope.events import Failed, Finished
from prefscope.folders import demo_ledgers
from prefscope.report.visible import visible
from prefscope.tui.messages import Chosen
from prefscope.tui.model.estimate import estimate
from prefscope.tui.model.model_recognition import recognise_models
from prefscope.tui.model.nearby import find_checkpoints
from prefscope.tui.model.recognition import DataFound, Recognised, recognise_data
from prefscope.tui.model.run_form import RunRequest
from prefscope.tui.model.state import Opened, recall
from prefscope.tui.model.worker_run import Scoring, leaving_a_core
from prefscope.tui.screens.error import ErrorScreen
from prefscope.tui.widgets.choices import Tick
from prefscope.tui.widgets.footer import Footer
from prefscope.tui.widgets.path_suggester import PathSuggester
from prefscope.tui.widgets.scoring_strip import step

DELAY = 0.25
"""Seconds to wait after the last key before the paths are examined."""
PATHS = {"data": "data set", "policy": "policy", "ref": "reference"}
CHECKPOINTS = frozenset({"policy", "ref", "base"})
"""Fields for which checkpoints are offered."""
MORE: tuple[Mapping[str, str], ...] = (
    {"base": "recorded by the adapter", "output": "in your data folder"},
    {"loss": "dpo ipo simpo", "beta": "0.1"},
    {"limit": "all pairs", "sample": "all pairs", "workers": "none", "device": "auto"},
    {"dtype": "auto", "max-length": "model's", "batch-tokens": "auto"},
)
"""Rows of further fields, and what they use if empty."""
SIGNS = {True: "✓", False: "✗", None: "·"}
RECENT, NEARBY = "recently opened · ↓ then enter opens", "checkpoints nearby · ↓ then enter fills in the field"


class LoadScreen(Screen[None]):
    """Fields for the data set and checkpoints, what they name, and a list of recently opened ones."""

    HELP = (
        "Enter a data set and two checkpoints to score, or a ledger to open. → accepts a suggestion, enter moves to "
        "the next field, ↓ goes to the list of checkpoints or recently opened files. ctrl+enter starts from any field; "
        "s does outside of fields. Leave both checkpoints empty to use the bundled tiny models."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "back", "Stop or go back", show=False, id="load-back"),
        Binding("ctrl+enter,ctrl+j,s", "start", "Start", key_display="ctrl+enter", id="load-start"),
        Binding("f2", "more", "More", id="load-more"),
        Binding("f3", "exchange", "Exchange policy and reference", show=False, id="load-exchange"),
        Binding("down", "to_list", "List", show=False, id="load-list"),
        Binding("f1", "help", "Help", id="load-help"),
        Binding("ctrl+q", "app.quit", "Quit", id="load-quit"),
    ]
    DEFAULT_CSS = """
    LoadScreen {
        #title { height: 1; padding: 0 1; background: $panel; }
        #form { height: auto; max-height: 70%; padding: 0 1; }
        #fields, #more { height: auto; }
        #more { display: none; margin-top: 1; }
        #more.-shown { display: block; }
        .field { height: 1; }
        .label { width: 11; }
        .found { height: 1; padding-left: 11; color: $quiet; text-wrap: nowrap; text-overflow: ellipsis; }
        .found.-bad { color: $negative; }
        .found.-good { color: $positive; }
        .found.-long { height: auto; max-height: 2; text-wrap: wrap; }
        Input { width: 1fr; border: none; height: 1; padding: 0 1; background: $surface; }
        Input:focus { background: $primary 30%; }
        #more .label { width: auto; padding-right: 1; }
        #more Input { margin-right: 2; }
        #more .-wide-label { width: 11; padding-right: 0; }
        #estimate { height: auto; max-height: 2; padding: 0 1; }
        #buttons { height: auto; padding: 0 1; margin-top: 1; }
        Button { margin-right: 2; min-width: 12; }
        #state { height: auto; max-height: 4; padding: 0 1; color: $accent; }
        #list-title { height: 1; padding: 0 1; margin-top: 1; color: $quiet; }
        #list { height: 1fr; border: none; background: $background; padding: 0 1; }
        &.-tall .found { margin-bottom: 1; }
    }
    """

    def __init__(self, request: RunRequest) -> None:
        """Set up the screen with the initial values of its fields, and all settings without a field."""
        super().__init__()
        self._request = request
        self._initial = request.texts()
        self._found: dict[str, Recognised] = {}
        self._timer: Timer | None = None
        self.scoring: Scoring | None = None
        self._opened: Opened | None = None
        self._started = request
        self._recent: Sequence[Opened] = ()
        self._nearby: Sequence[str] = ()
        self._field = "data"
        """The field that had the focus last."""

    def compose(self) -> ComposeResult:
        """Create the fields, the buttons and the list of recently opened files."""
        yield Static(" prefscope   open or score", id="title", markup=False)
        with VerticalScroll(id="form", can_focus=False):
            with Vertical(id="fields"):
                for name, label in PATHS.items():
                    with Horizontal(classes="field"):
                        yield Static(label, classes="label", markup=False)
                        yield self._input(name)
                    yield Static(id=f"{name}-found", classes="found", markup=False)
            with Vertical(id="more", classes="-shown" if self._uses_more else ""):
                for row in MORE:
                    with Horizontal(classes="field"):
                        for place, (name, empty) in enumerate(row.items()):
                            classes = "label" if place else "label -wide-label"
                            yield Static(name.replace("-", " "), classes=classes, markup=False)
                            yield self._input(name, empty)
        yield Static(id="estimate", markup=False)
        with Horizontal(id="buttons"):
            yield Button("Score", id="score", variant="primary", compact=True)
            yield Button("More: f2", id="show-more", compact=True)
            yield Button("Demo: no model needed", id="demo", compact=True)
            yield Tick("skip bad rows", self._request.settings.data.skip_bad_rows, id="skip", compact=True)
        yield Static(id="state", markup=False)
        yield Static(id="list-title", markup=False)
        yield OptionList(id="list", markup=False, compact=True)
        yield Footer()

    def _input(self, name: str, empty: str = "") -> Input:
        suggester = PathSuggester() if name in {*PATHS, "base", "output"} else None
        return Input(visible(self._initial[name]), id=name, placeholder=empty, suggester=suggester, compact=True)

    @property
    def _uses_more(self) -> bool:
        """Whether a further field has a value of its own."""
        return any(self._initial[name] not in {"", "0.1"} for row in MORE for name in row)

    def on_mount(self) -> None:
        """Examine the initial values of the fields."""
        self._examine()
        self._find_recent()
        self.set_interval(0.2, self._follow_run)

    async def on_unmount(self) -> None:
        """End a run that is still starting when the screen closes."""
        if self.scoring is not None:
            await self.scoring.finish()

    # What the fields name

    @on(Input.Changed)
    @on(Tick.Changed)
    def _examine_soon(self) -> None:
        if self._timer is not None:
            self._timer.stop()
        self._timer = self.set_timer(DELAY, self._examine)

    def _texts(self) -> dict[str, str]:
        """Return the text of every field."""
        return {name: self.query_one(f"#{name}", Input).value.strip() for name in self._initial}

    def _read(self, texts: Mapping[str, str]) -> RunRequest:
        """Return the run that the fields stand for.

        Raises:
            UsageError: If a text is no valid value.
        """
        return self._request.changed(texts, skip_bad_rows=self.query_one("#skip", Tick).value)

    def _examine(self) -> None:
        texts = self._texts()
        try:
            self._recognise(self._read(texts))
        except UsageError as error:
            self.query_one("#estimate", Static).update(Content(visible(f"✗ {error}")))

    @work(thread=True, exclusive=True, group="examine", exit_on_error=False)
    def _recognise(self, request: RunRequest) -> None:
        """Identify what the fields name, in a thread because disks can be slow."""
        settings = request.settings
        data = recognise_data(settings.data.source)
        policy, ref = recognise_models(settings.models)
        needs_models = not (data.is_ledger or data.has_logps)
        cost = estimate(leaving_a_core(settings), data, policy, ref) if needs_models else ""
        nearby = find_checkpoints(settings.data.source)
        found = {"data": data, "policy": policy, "ref": ref}
        self.app.call_from_thread(self._show_found, found, cost, nearby, needs_models=needs_models)

    def _show_found(
        self, found: dict[str, Recognised], cost: str, nearby: Sequence[str], *, needs_models: bool
    ) -> None:
        self._found, self._nearby = found, nearby
        for name, one in found.items():
            line = self.query_one(f"#{name}-found", Static)
            shown = one if name == "data" or needs_models else Recognised(None, "not needed")
            line.update(Content(visible(f"{SIGNS[shown.good]} {shown.text}")))
            line.set_class(shown.good is True, "-good")
            line.set_class(shown.good is False, "-bad")
            line.set_class(shown.good is False, "-long")
        self.query_one("#estimate", Static).update(Content(cost and f"estimate   {cost}"))
        self.query_one("#score", Button).label = "Score" if needs_models else "Open"
        self._show_list()

    # The list below: checkpoints for a field of one, otherwise recently opened files

    @work(thread=True, group="recent", exit_on_error=False)
    def _find_recent(self) -> None:
        """List what was opened recently and still exists, in a thread because disks can be slow."""
        self._recent = recall().still_there
        self.app.call_from_thread(self._show_list)

    def on_descendant_focus(self, event: DescendantFocus) -> None:
        """Offer what fits the field."""
        if isinstance(event.widget, Input):
            self._field = event.widget.id or "data"
            self._show_list()

    @property
    def _offers_checkpoints(self) -> bool:
        return self._field in CHECKPOINTS and bool(self._nearby)

    def _show_list(self) -> None:
        options = self.query_one(OptionList)
        if options.has_focus:
            return
        shown = [visible(name) for name in self._nearby] if self._offers_checkpoints else map(_described, self._recent)
        options.set_options(Option(Content(text)) for text in shown)
        title = NEARBY if self._offers_checkpoints else RECENT
        self.query_one("#list-title", Static).update(Content(title if options.option_count else ""))

    def action_to_list(self) -> None:
        """Move the focus to the list."""
        options = self.query_one(OptionList)
        if options.option_count:
            options.focus()
            options.highlighted = 0

    @on(OptionList.OptionSelected)
    def _pick(self, selected: OptionList.OptionSelected) -> None:
        """Fill in a checkpoint, or open what was opened before."""
        if self._offers_checkpoints:
            field = self.query_one(f"#{self._field}", Input)
            field.value = visible(self._nearby[selected.option_index])
            field.focus()
            return
        opened = self._recent[selected.option_index]
        for name, text in (("data", opened.data), ("policy", opened.policy), ("ref", opened.ref)):
            self.query_one(f"#{name}", Input).value = visible(text)
        self._open(opened)

    # Opening and scoring

    @on(Input.Submitted)
    def _focus_next_field(self) -> None:
        self.focus_next()

    @on(Button.Pressed, "#show-more")
    def action_more(self) -> None:
        """Show or hide the further fields."""
        more = self.query_one("#more")
        more.toggle_class("-shown")
        if more.has_class("-shown"):
            self.query_one("#base", Input).focus()
        elif self._field not in PATHS:
            self.query_one("#data", Input).focus()

    def action_exchange(self) -> None:
        """Exchange policy and reference."""
        policy, ref = (self.query_one(f"#{name}", Input) for name in ("policy", "ref"))
        policy.value, ref.value = ref.value, policy.value

    @on(Button.Pressed, "#demo")
    def _open_demo(self) -> None:
        try:
            first, *_ = demo_ledgers()
        except OSError as error:
            self._refuse(f"The demo cannot be copied to your data folder ({error.strerror or error}).")
            return
        self._open(Opened(str(first)))

    @on(Button.Pressed, "#score")
    def action_start(self) -> None:
        """Score the data set, or open it if it is a ledger."""
        texts = self._texts()
        self._open(Opened(texts["data"], texts["policy"], texts["ref"]))

    def _open(self, opened: Opened) -> None:
        """Open a ledger or start a run; report a problem if there is one."""
        texts = self._texts() | {"data": opened.data, "policy": opened.policy, "ref": opened.ref}
        data = recognise_data(opened.data)
        try:
            request = self._read(texts)
        except UsageError as error:
            self._refuse(str(error))
            return
        problem = next(_problems(request, data), None)
        if problem is not None:
            self._refuse(problem)
        elif data.is_ledger:
            self.post_message(Chosen(opened, None, request.preferences))
        elif self.scoring is None or not self.scoring.is_running:
            self._opened, self._started = opened, request
            self.scoring = Scoring(request.settings, request.ledger)
            self.app.run_worker(self.scoring.run(), group="scoring", exit_on_error=False)

    def _refuse(self, problem: str) -> None:
        self.notify(visible(problem), severity="error", markup=False)

    def _follow_run(self) -> None:
        """Show the progress of a run, and switch to its pairs as soon as they are available."""
        scoring = self.scoring
        if scoring is None or self._opened is None:
            return
        notes = "\n".join(visible(note) for note in scoring.notes[-2:])
        self.query_one("#state", Static).update(Content(f"{step(scoring)} · esc stops\n{notes}"))
        if scoring.live is not None or isinstance(scoring.ended, Finished):
            self.scoring = None
            self.post_message(Chosen(self._opened, scoring, self._started.preferences))
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


def _problems(request: RunRequest, data: DataFound) -> Iterator[str]:
    """Yield the problems that keep a data set from being opened or scored."""
    settings = request.settings
    if not settings.data.source or (data.good is False and not data.pairs):
        yield f"data set: {data.text}"
    if data.is_ledger or (data.has_logps and not settings.models.policy):
        return
    if settings.models.ref and not settings.models.policy:
        yield "A reference needs a policy: enter both, or neither to use the bundled tiny models."
    for label, found in zip(("policy", "reference"), recognise_models(settings.models), strict=True):
        if found.good is False:
            yield f"{label}: {found.text}"


def _described(opened: Opened) -> str:
    models = f"   {opened.policy or 'bundled'} against {opened.ref or 'its base'}" if opened.policy else ""
    return visible(f"{opened.data}{models}")
