"""The footer: the keys that are currently active.

Textual's own footer mounts a widget for every key whenever the focus moves, which takes longer than everything else
that a key press causes, and clips keys that do not fit. This footer draws a single line.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.binding import ActiveBinding
from textual.events import Click
from textual.screen import Screen
from textual.strip import Strip
from textual.widget import Widget

KEPT = frozenset({"dismiss", "dismiss(None)", "help", "quit"})
"""Actions whose keys are always shown, at the right end, however narrow the line is."""
GAP = 2


@dataclass(frozen=True, slots=True)
class Key:
    """A key in the footer and the description of its action."""

    key: str
    shown: str
    description: str
    is_kept: bool
    enabled: bool

    @property
    def width(self) -> int:
        """Width in cells."""
        return cell_len(self.shown) + 1 + cell_len(self.description)


class Footer(Widget):
    """Shows keys in the order of their bindings, the focused widget's first; clicking a key presses it."""

    COMPONENT_CLASSES = {"footer--key", "footer--off"}  # noqa: RUF012 (as Textual declares it)
    DEFAULT_CSS = """
    Footer {
        dock: bottom;
        height: 1;
        width: 100%;
        background: $panel;
        color: $foreground;
        & > .footer--key { color: $accent; text-style: bold; }
        & > .footer--off { color: $quiet; }
    }
    """

    def __init__(self) -> None:
        super().__init__()
        self._keys: list[Key] = []

    def on_mount(self) -> None:
        """Update the footer whenever the active bindings change."""
        self.screen.bindings_updated_signal.subscribe(self, self._follow)
        self._follow(self.screen)

    def _follow(self, screen: Screen[object]) -> None:
        """Redraw the footer if the active keys have changed."""
        found = [*self._find(screen)]
        if found != self._keys:
            self._keys = found
            self.refresh()

    def _find(self, screen: Screen[object]) -> Iterator[Key]:
        """Yield one key for every visible action, the command palette last."""
        active = screen.active_bindings
        first: dict[str, ActiveBinding] = {}
        shown = [one for one in active.values() if one.binding.show]
        for one in (*shown, *filter(None, [active.get(self.app.COMMAND_PALETTE_BINDING)])):
            first.setdefault(one.binding.action.removeprefix("app."), one)
        for action, (_, binding, enabled, _) in first.items():
            yield Key(
                binding.key, self.app.get_key_display(binding), binding.description, action in KEPT, enabled=enabled
            )

    @property
    def placed(self) -> list[tuple[int, Key]]:
        """The keys that fit, each with its first column."""
        width = self.size.width - 2  # a space at either end
        kept = [key for key in self._keys if key.is_kept]
        right = sum(key.width + GAP for key in kept) - GAP if kept else -GAP
        places, left = [], 1
        for key in (key for key in self._keys if not key.is_kept):
            if left - 1 + key.width + GAP + right > width:
                break
            places.append((left, key))
            left += key.width + GAP
        left = max(left, width - right + 1)
        for key in kept:
            places.append((left, key))
            left += key.width + GAP
        return places

    def render_line(self, y: int) -> Strip:
        """Render the keys."""
        del y
        base = self.rich_style
        name, off = (base + self.get_component_rich_style(f"footer--{one}", partial=True) for one in ("key", "off"))
        segments: list[Segment] = []
        end = 0
        for left, key in self.placed:
            styles: tuple[Style, Style] = (name, base) if key.enabled else (off, off)
            segments += [
                Segment(" " * (left - end), base),
                Segment(key.shown, styles[0]),
                Segment(f" {key.description}", styles[1]),
            ]
            end = left + key.width
        return Strip(segments).adjust_cell_length(self.size.width, base)

    def on_click(self, event: Click) -> None:
        """Press the key under the mouse."""
        for left, key in self.placed:
            if left <= event.x < left + key.width:
                self.app.simulate_key(key.key)
