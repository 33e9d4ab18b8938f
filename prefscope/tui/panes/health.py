"""Health: every flag with its count and what it means; a flag opens its pairs."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import DataTable, Static

from prefscope.ledger.columns import FLAGS
from prefscope.report.visible import visible
from prefscope.tui.messages import PairsAsked
from prefscope.tui.panes.pane import Pane

SERIOUS = frozenset({"non_finite", "nothing_scored", "empty", "identical", "prefix_mismatch"})
"""Flags of pairs whose numbers say little or nothing."""
CLEAN = "✓"


class HealthPane(Pane):
    """What is odd about the pairs."""

    HELP = "Every flag with how many pairs carry it. Enter lists these pairs; v shows the flags that no pair carries."
    BINDINGS: ClassVar[list[BindingType]] = [Binding("v", "turn", "Clean flags", id="health-clean")]
    DEFAULT_CSS = """
    HealthPane {
        DataTable { height: auto; max-height: 1fr; background: $background; overflow-x: hidden; }
        #example { height: auto; max-height: 12; padding: 1; color: $foreground; }
        #clean { height: 1; padding: 0 1; color: $quiet; }
    }
    """

    _all = False

    def compose(self) -> ComposeResult:
        """Make the table and the example."""
        yield DataTable[Text](cursor_type="row", zebra_stripes=False, id="flags")
        yield Static(id="clean", markup=False)
        yield Static(id="example", markup=False)

    def on_mount(self) -> None:
        """Name the columns."""
        self.query_one(DataTable).add_columns("", "flag", "pairs", "share", "what it means")

    def draw(self) -> None:
        """List the flags, those that occur first."""
        view, table = self.session.view, self.query_one(DataTable)
        counts = {flag: int(view.flagged(flag).sum()) for flag in FLAGS}
        total = max(view.ledger.num_pairs, 1)
        table.clear()
        for flag in sorted(FLAGS, key=lambda flag: (-counts[flag], flag)):
            count = counts[flag]
            if not count and not self._all:
                continue
            glyph = CLEAN if not count else "✗" if flag in SERIOUS else "⚠"
            cells = (glyph, flag, f"{count:,}".rjust(9), f"{count / total:.1%}".rjust(6), FLAGS[flag])
            table.add_row(*map(Text, cells), key=flag)
        clean = sum(not count for count in counts.values())
        self.query_one("#clean", Static).update(f"{CLEAN} {clean} of {len(FLAGS)} checks found nothing (v shows them)")
        if not table.row_count:
            self.query_one("#example", Static).update("No pair carries a flag.")

    @property
    def copied(self) -> tuple[str, str]:
        """What `y` copies: how many pairs carry each flag."""
        counts = {flag: int(self.session.view.flagged(flag).sum()) for flag in FLAGS}
        return "\n".join(f"{flag}: {count:,}" for flag, count in counts.items()), "the flags"

    def action_turn(self) -> None:
        """Show or hide the flags that no pair carries."""
        self._all = not self._all
        self.draw()

    @on(DataTable.RowHighlighted)
    def _show_example(self, event: DataTable.RowHighlighted) -> None:
        """Show the first pair that carries the flag."""
        flag = event.row_key.value
        found = np.flatnonzero(self.session.view.flagged(flag)) if flag else np.empty(0)
        if not found.size:
            self.query_one("#example", Static).update("")
            return
        pair = self.session.ledger.pair(int(found[0]))
        texts = (("prompt", pair["prompt"]), ("+ chosen", pair["chosen"]), ("− rejected", pair["rejected"]))
        lines = [f"{flag}: {FLAGS[str(flag)]}", f"for example row {pair['row']}, line {pair['line']}"]
        lines += [f"{name:<11} {visible(text[:400])}" for name, text in texts]
        self.query_one("#example", Static).update("\n".join(lines))

    @on(DataTable.RowSelected)
    def _open(self, event: DataTable.RowSelected) -> None:
        event.stop()
        if event.row_key.value:
            self.post_message(PairsAsked(f"flag({event.row_key.value})"))
