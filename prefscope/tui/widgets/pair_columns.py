"""Columns of the table of pairs: which are available, which fit a given width, and the text of their cells."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np

from prefscope.flags import FLAGS, split_flags
from prefscope.ledger.columns import NUM_TOKENS
from prefscope.ledger.filters import Names
from prefscope.ledger.marks import Mark
from prefscope.ledger.pairing import OTHER_MARGINS
from prefscope.report.sparkline import sparkline
from prefscope.tui.model.cells import ABSENT, fit, number, one_line
from prefscope.tui.model.session import Session
from prefscope.tui.widgets.beginnings import LENGTH

Kind: TypeAlias = Literal["row", "prompt", "number", "margin", "text", "mark", "flags", "course"]
Cell: TypeAlias = tuple[str, str]
"""Text of a cell, and the component class of its colour (empty: none)."""

WRONG, TIED = "−", "="
"""Shown beside a margin, so that the outcome is not shown only by colour."""
MARK_GLYPHS = {"keep": "✓", "drop": "✗", "swap": "⇄"}
NOTE_GLYPH = "*"

ALWAYS_OR_NEVER = frozenset({"row", "prompt", "mark", "chosen", "rejected", "source_json"})
"""Columns that cannot be chosen: `row`, `prompt` and `mark` are always shown, the others are too long for a cell."""
TO_THE_LEFT = frozenset({"prompt", "text", "mark", "flags", "course"})
"""Kinds of columns whose cells begin at the left."""
COURSE = 10
"""Width in cells of a pair's course; of more runs than this, some are left out."""
OUTCOME = 2
"""Width in cells of the outcome beside a margin, with its space."""
POINTER = 1
"""Width in cells of the cursor glyph at the left."""
MINIMAL_PROMPT = 22
"""Minimum width of the prompt in cells: columns are left out to keep it."""


@dataclass(frozen=True, slots=True)
class PairColumn:
    """A column of the table."""

    name: str
    """Name in the view."""
    title: str
    width: int
    """Width in cells; 0 for the prompt, which gets the remaining width."""
    rank: int
    """Columns of the highest rank are left out first, all together; columns of rank 0 are always shown."""
    kind: Kind = "number"
    decimals: int = 0
    signed: bool = False
    descending: bool = False
    """Whether the first sort by this column is descending, so that the worst or largest values come first."""


FLAGS_COLUMN = PairColumn("flags", "flags", 6, 6, "flags", descending=True)


@dataclass(frozen=True, slots=True)
class Placed:
    """A column with its position and width in the line, in cells."""

    column: PairColumn
    left: int
    width: int


def pair_columns(session: Session) -> list[PairColumn]:
    """Return the columns for a session, in display order; they include the sort column."""
    ledger = session.ledger
    digits = max(len(str(int(ledger.stored["row"].max()))) if ledger.num_pairs else 1, 3)
    columns = [PairColumn("row", "#", digits + 1, 0, "row"), PairColumn("prompt", "prompt", 0, 0, "prompt")]
    last = [PairColumn("mark", "m", 1, 1, "mark", descending=True)]
    if session.columns is None:
        columns += _usual(session)
        last.append(FLAGS_COLUMN)
    else:
        chosen = (column for column in offered(session) if column.name in session.columns)
        columns += [replace(column, rank=rank) for rank, column in enumerate(chosen, start=2)]
    if all(column.name != session.sort.column for column in (*columns, *last)):
        columns.append(_other(session, session.sort.column))
    return columns + last


def offered(session: Session) -> list[PairColumn]:
    """Return all columns that the user can choose."""
    usual = [*_usual(session), FLAGS_COLUMN]
    known = ALWAYS_OR_NEVER | {column.name for column in usual}
    return usual + [_other(session, name) for name in session.view.names.kinds if name not in known]


def _usual(session: Session) -> list[PairColumn]:
    """Return the columns that are shown by default, without the flags."""
    lengths = (PairColumn(name, f"len_{name[0]}", 6, 7, descending=True) for name in NUM_TOKENS)
    return [*_scores(session), *lengths]


def _scores(session: Session) -> list[PairColumn]:
    """Return the columns of rewards (without a reference: log-probs), margins and losses."""
    if session.ledger.has_reference:
        columns = [
            PairColumn("chosen_rewards", "r_chs", 7, 4, decimals=2, signed=True),
            PairColumn("rejected_rewards", "r_rej", 7, 4, decimals=2, signed=True, descending=True),
            PairColumn("margins", "margin", 9, 2, "margin", decimals=2, signed=True),
        ]
    else:
        columns = [
            PairColumn("policy_chosen_logps", "logp_c", 8, 4, decimals=1, signed=True),
            PairColumn("policy_rejected_logps", "logp_r", 8, 4, decimals=1, signed=True, descending=True),
        ]
    if session.runs.compares_margins:
        columns.append(PairColumn(OTHER_MARGINS, "margin_b", 9, 5, "margin", decimals=2, signed=True))
    names_of_courses = {column: name for name, column in session.view.course_names.items()}
    if names_of_courses:
        columns.append(PairColumn(names_of_courses["course"], "course", COURSE, 3, "course"))
    names = [choice.name for choice in session.ledger.usable_losses(session.preferences)]
    return columns + [
        PairColumn(f"{name}_loss", name, max(7, min(len(name) + 1, 9)), rank, decimals=3, descending=True)
        for name, rank in zip(names, (3, *range(9, 9 + len(names))), strict=False)
    ]


def _other(session: Session, name: str) -> PairColumn:
    """Return the layout of a column that is not shown by default."""
    is_text = session.view.names.kinds[name] != "number"
    title = one_line(short_name(session.view.names, name))
    width = min(max(len(title) + 1, 10), 14)
    return PairColumn(name, title, width, 2, "text" if is_text else "number", decimals=3)


def arrange(columns: Sequence[PairColumn], width: int, wanted: Collection[str]) -> list[Placed]:
    """Return the columns that fit a width, with their positions; wanted columns take priority."""
    room = width - POINTER - MINIMAL_PROMPT
    kept: set[str] = set()
    for needed in sorted({_need(column, wanted) for column in columns}):
        names = {column.name for column in columns if _need(column, wanted) == needed}
        cost = sum(column.width + 1 for column in columns if column.name in names and column.width)
        if cost > room and needed > 0:
            break
        kept |= names
        room -= cost
    placed, left = [], POINTER
    for column in columns:
        if column.name in kept:
            cells = column.width or max(MINIMAL_PROMPT + room, 1)
            placed.append(Placed(column, left, cells))
            left += cells + 1
    return placed


def _need(column: PairColumn, wanted: Collection[str]) -> int:
    """Return the rank by which columns are left out: the highest first, 0 and below never."""
    return -1 if column.name in wanted else column.rank


def short_name(names: Names, full: str) -> str:
    """Return the alias of a column, or its name if it has none."""
    return names.short(full)


def heading(placed: Placed, session: Session) -> str:
    """Return a column's title, padded to its width, with an arrow if the pairs are sorted by it."""
    sort, column = session.sort, placed.column
    arrow = ("▼" if sort.descending else "▲") if sort.column == column.name else ""
    title = fit(column.title, min(len(column.title), placed.width - len(arrow))) + arrow
    if column.kind == "margin":
        return fit(title.rjust(placed.width - OUTCOME), placed.width)
    return fit(
        title if column.kind in {"prompt", "text", "mark", "flags", "course"} else title.rjust(placed.width),
        placed.width,
    )


def cell(placed: Placed, session: Session, position: int) -> Cell:
    """Return the text and colour of a cell in any column except the prompt."""
    column, width = placed.column, placed.width
    if column.kind == "mark":
        return fit(mark_glyph(session.mark_of(position)), width), ""
    value = session.view.column(column.name)[position]
    if column.kind == "row":
        return str(value).rjust(width), "quiet"
    if column.kind == "flags":
        return fit(flag_letters(str(value)), width), "quiet"
    if column.kind in {"course", "text"}:
        text = course(session, position) if column.kind == "course" else one_line(str(value)[:LENGTH])
        return fit(text, width), ""
    if column.kind == "margin":
        glyph, colour = outcome(float(value))
        return f"{number(float(value), width - OUTCOME, column.decimals, signed=True)} {glyph}", colour
    text = number(float(value), width, column.decimals, signed=column.signed)
    return text, "quiet" if text.strip() == ABSENT else ""


def course(session: Session, position: int) -> str:
    """Return a pair's margins over the runs as bars, wrong below the middle; empty if a run does not have the pair."""
    courses = session.view.courses
    heights = np.empty(0) if courses is None else courses.heights(position)
    if not heights.size:
        return ""
    shown = np.unique(np.linspace(0, len(heights) - 1, COURSE).round().astype(np.int64))
    return sparkline(heights[shown])


def outcome(margin: float) -> Cell:
    """Return the glyph and the colour of a margin."""
    if margin < 0:
        return WRONG, "negative"
    if margin > 0:
        return " ", "positive"
    return (TIED, "") if margin == 0 else (" ", "quiet")


def flag_letters(flags: str) -> str:
    """Return the letters of the flags, in the order of `FLAGS`, and a `?` for each unknown flag."""
    present = set(split_flags(flags))
    letters = "".join(flag.letter for flag in FLAGS.values() if flag.name in present)
    return letters + "?" * len(present - set(FLAGS))


def mark_glyph(mark: Mark) -> str:
    """Return the glyph of a mark: its decision, a note without a decision, or a space."""
    if mark.decision is not None:
        return MARK_GLYPHS[mark.decision]
    return NOTE_GLYPH if mark.note else " "
