"""Print the doctor's verdicts; all names and texts of models are made safe."""

from __future__ import annotations

from collections import Counter
from typing import Any

from rich.console import Console
from rich.text import Text

from prefscope.report.indented import print_indented
from prefscope.report.visible import visible

MARKS = {"fail": ("FAIL", "bold red"), "warn": ("warn", "bold yellow"), "ok": ("ok", "green"), "skip": ("skip", "dim")}
NAME_CELLS = 15


def print_verdicts(console: Console, diagnosis: dict[str, Any]) -> None:
    """Print a diagnosis, as returned by its `to_json`: a verdict per check, and what to do."""
    for name in ("policy", "ref"):
        console.print(Text(f"{'reference' if name == 'ref' else name} {visible(diagnosis[name])}"), soft_wrap=True)
    states = Counter(check["state"] for check in diagnosis["checks"].values())
    tally = ", ".join(f"{states[state]} {state}" for state in MARKS if states[state])
    noun = "pair" if diagnosis["pairs"] == 1 else "pairs"
    console.print(Text(f"{diagnosis['pairs']:,} {noun} of {visible(diagnosis['data'])}: {tally}\n"), soft_wrap=True)
    for name, check in diagnosis["checks"].items():
        mark, style = MARKS[check["state"]]
        head = Text.assemble((f"{mark:<4}", style), "  ", (f"{name:<{NAME_CELLS}}", "bold"), "  ")
        print_indented(console, Text(visible(check["detail"])), head)
        if check["advice"]:
            print_indented(console, Text(f"→ {check['advice']}"), Text(" " * len(head)))
