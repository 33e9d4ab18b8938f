"""Ledgers full of values from data sets, models and files that could harm a terminal or a screen."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from prefscope.ledger.file import METADATA_KEY, ExtraKind, build_schema, write_ledger
from prefscope.ledger.marks import marks_path

MARKER = "4242"
"""Occurs in every control sequence of a payload and in nothing that the screens write themselves."""
ENCODED = "NDI0Mg=="
PAYLOADS: Mapping[str, str] = {
    "clear": f"\x1b[2J\x1b[{MARKER};1Hcleared\x1b[{MARKER}m",
    "clipboard, BEL": f"\x1b]52;c;{ENCODED}\x07",
    "clipboard, ST": f"\x1b]52;c;{ENCODED}\x1b\\",
    "link, BEL": f"\x1b]8;;http://{MARKER}\x07link\x1b]8;;\x07",
    "link, ST": f"\x1b]8;;http://{MARKER}\x1b\\link\x1b]8;;\x1b\\",
    "C1": f"\x9b{MARKER}m\x9d52;c;{ENCODED}\x9c\x90{MARKER}\x9c",
    "DEL, CR, BS": "one\x7ftwo\rthree\x08\x08four\x00",
    "breaks": "a\tb\nc\x0bd\x0ce\x85f\u2028g\u2029h\r\n",
    "markup": "[/foo] [bold]x [@click=app.quit]quit[/] [link=http://a]b",
    "bidi": "\u202egnp.exe\u202c \u2066x\u2069 \u200f\u061c",
    "no width": "a\u200bb\u2060c\ufeffd\u00ade",
    "wide": "日本語のテキスト、全角。한국어",
    "families": "👨‍👩‍👧‍👦 👩🏽‍🚀 🏳️‍🌈 ❤️ 🇩🇪",
    "combining": "e" + "\u0301" * 60 + " Z̴̙̤̞͉͚̯̞̠͍͑ͫ̓ͪ̂ͫ̽A̴̵̜̰͔ͫ͗͢",
    "long": "many words " * 4600,
    "long word": "w" * 5000,
}
TOKENS = ["ok", *PAYLOADS.values(), "\\xe2", "\\xf0\\x9f", "", " ", "end"]
SHORT = "".join(text for text in PAYLOADS.values() if len(text) < 200)
FILE = f"\x1b[2J\x9b{MARKER}m\u202e[b] [bold]日\r\x7f👨‍👩‍👧"
"""The beginning of a hostile file name."""
BROKEN = "\ud800"
"""Text that JSON can hold and UTF-8 cannot."""
EXTRA: Mapping[str, ExtraKind] = {SHORT: "text", "[/x]日\x1b[2J": "number"}
INVISIBLE = (
    "\u00ad\u061c\u200b\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff"
)
DANGEROUS = {*INVISIBLE, *map(chr, (*range(0x20), *range(0x7F, 0xA0), *range(0xD800, 0xE000)))}


def write_hostile(path: Path, *, worse: float = 0.0) -> Path:
    """Write a ledger with a pair per payload, which is in all its fields, and marks with notes; return its path."""
    rows = [_pair(row, text, worse) for row, text in enumerate(PAYLOADS.values())]
    models = {role: {"name": f"{BROKEN}{SHORT.replace('/', '')}"} for role in ("policy", "ref")}
    manifest = {"has_reference": True, "models": {}, "data": {"source": SHORT, "pairs": len(rows)}}
    schema = build_schema(EXTRA, manifest, tokens=True)
    content = json.loads(schema.metadata[METADATA_KEY]) | {"models": models}
    schema = schema.with_metadata({METADATA_KEY: json.dumps(content).encode()})
    write_ledger(path, schema, [{name: [row[name] for row in rows] for name in rows[0]}])
    marks = [{"pair_id": row["pair_id"], "occurrence": 0, "decision": "drop", "note": SHORT + BROKEN} for row in rows]
    marks_path(path).write_text(json.dumps({"format": 1, "marks": marks}), encoding="utf-8")
    return path


def _pair(row: int, text: str, worse: float) -> dict[str, Any]:
    """Return a pair with the text in every field."""
    num = len(TOKENS)
    logps = [-1.0 - at % 5 for at in range(num)]
    refs = {"chosen": [-1.5] * num, "rejected": [-2.0 - worse - row / 8] * num}
    pair: dict[str, Any] = {
        "row": row,
        "pair_id": f"{row:x}{text[:40]}",
        "line": row + 1,
        "flags": f"{text[:40]};identical",
    }
    pair |= {"prompt": f"{text} prompt", "source_json": json.dumps({"text": text}, ensure_ascii=False)}
    for side, ref in refs.items():
        pair |= {side: f"{text} {side}", f"{side}_tokens": TOKENS, f"{side}_num_tokens": num}
        pair |= {f"policy_{side}_token_logps": logps, f"ref_{side}_token_logps": ref}
        pair |= {f"policy_{side}_logps": sum(logps), f"ref_{side}_logps": sum(ref)}
    return pair | dict(zip(EXTRA, (text, row / 4), strict=True))


class Step(NamedTuple):
    """Keys that lead from one screen to the next, and text expected there."""

    keys: Sequence[str]
    seen: str


BACK = Step(["escape"], "1 Overview")
STEPS = (
    Step([], "pairs ↑ by margin"),
    Step(["p"], "mean dpo loss"),
    Step(["p"], "pick a bin"),
    Step(["right"], ": 2 pairs"),
    Step(["enter"], "margins < "),
    Step(["escape"], "words to find"),
    Step(["end"], "▶  15 www"),
    Step(["s"], "#▼"),
    Step(["slash", *"nope ~ 1"], "There is no column"),
    Step(["escape"], "Open"),
    Step(["escape"], "words to find"),
    Step(["f"], "quick filters"),
    BACK,
    Step(["m"], "enter saves it"),
    BACK,
    Step(["space"], "⇄"),
    Step(["enter"], "1/16  row 15"),
    Step(["tab"], "1/16  row 15"),
    Step(["end"], "tok 22/22 'end'"),
    Step(["v", "d", "s", "c", "J"], "2/16  row 14"),
    Step(["t"], "top tokens"),
    BACK,
    Step(["2"], "words to find"),
    Step(["end"], "▶   0"),
    Step(["enter"], "16/16  row 0"),
    Step(["p"], "source row"),
    Step(["tab"], "cleared␛[4242m chosen"),
    Step(["tab"], "cleared␛[4242m rejected"),
    Step(["tab"], "[/x]日␛[2J = 0.0"),
    Step(["tab"], "pair_id"),
    Step(["tab"], '{"text":'),
    BACK,
    Step(["home", "right", "Y"], "Copied: ␛[2J"),
    Step(["y"], "Copied: 0␛[2J"),
    Step(["4"], "no knob changes it"),
    Step(["L"], "ipo loss ◀"),
    Step(["5"], "McNemar"),
    Step(["tab", "left"], "Pairs of the quadrant"),
    Step(["shift+tab", "down"], "Show it"),
    Step(["enter"], "0.7.parquet"),
    Step(["6", *["down"] * 8], "For example, row 0"),
    Step(["v"], "double_bos"),
    Step(["question_mark"], "Cursor up"),
    Step(["question_mark"], "flags occur on no pair (v shows them)"),
    Step(["e"], "in ledger order"),
    Step(["tab", "tab", "down", "space"], "16 dropped, 0 swapped"),
    Step(["y"], "Copied: the command line"),
    BACK,
    Step(["o"], "recently opened"),
    BACK,
    Step(["1"], "pairs ↑ by margin"),
)
"""Every screen and dialog of two hostile ledgers."""
