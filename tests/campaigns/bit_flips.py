"""Flip one random bit of a fresh ledger, many times: python tests/campaigns/bit_flips.py [FLIPS].

Every flip has to be refused with a sentence, or to change nothing that is read; no other error may come out.
"""

from __future__ import annotations

import random
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import prefscope
from prefscope.errors import PrefscopeError
from prefscope.folders import sample_data
from prefscope.ledger.columns import STORED
from prefscope.ledger.table import load_ledger
from prefscope.report.summary import summarise
from prefscope.settings import PreferenceSettings

FLIPS = 400


def content(path: Path) -> Any:
    """Return everything that can be read from a ledger."""
    ledger = load_ledger(path)
    names = [column.name for column in STORED]
    rows = [ledger.pair(position) for position in range(ledger.num_pairs)]
    summary = summarise(ledger, PreferenceSettings()).to_json()
    return repr(({name: ledger.stored[name].tolist() for name in names}, rows, summary))


def outcome(path: Path, expected: Any) -> str:
    """Return the outcome for a ledger."""
    try:
        return "read alike" if content(path) == expected else "CHANGED"
    except PrefscopeError:
        return "refused"
    except Exception as error:  # noqa: BLE001 (this is what is looked for)
        return f"ERROR {type(error).__name__}"


def main() -> int:
    """Print the number of each outcome; return 1 if a number changed or an error was raised."""
    flips = int(sys.argv[1]) if len(sys.argv) > 1 else FLIPS
    draw = random.Random(15)  # noqa: S311 (no secret)
    found: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        path, samples = Path(folder) / "ledger.parquet", sample_data()
        prefscope.score(samples / "pairs.jsonl", samples / "tiny-policy", samples / "tiny-ref", output=path)
        whole, expected = path.read_bytes(), content(path)
        for _ in range(flips):
            raw = bytearray(whole)
            raw[draw.randrange(len(raw))] ^= 1 << draw.randrange(8)
            path.write_bytes(raw)
            found[outcome(path, expected)] += 1
    for name, times in sorted(found.items()):
        sys.stdout.write(f"{name}: {times}\n")
    return int(bool(found.keys() - {"refused", "read alike"}))


if __name__ == "__main__":
    sys.exit(main())
