"""Ledgers of known numbers, written without a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from prefscope.ledger.columns import ALTERNATIVES, DIVERGENCES, TOKEN_DIVERGENCES
from prefscope.ledger.file import ExtraKind, build_schema, write_ledger

MORE = (*ALTERNATIVES, *DIVERGENCES, *TOKEN_DIVERGENCES)
"""Columns that a ledger has only on request."""
MANIFEST: dict[str, Any] = {
    "created": "2026-01-02T03:04:05+00:00",
    "bundled": False,
    "has_reference": True,
    "data": {"source": "pairs.jsonl", "content_hash": "00", "pairs": 0, "bad_rows": 0, "dialects": {}},
    "models": {
        "policy": {"name": "policy", "base": None, "fingerprint": "aa", "stored_dtype": "float32", "attention": "sdpa"},
        "ref": {"name": "reference", "base": None, "fingerprint": "bb", "stored_dtype": "float32", "attention": "sdpa"},
    },
    "compute": {"dtype": "float32", "device": "cpu", "matrix_products": "torch", "numerics_version": 2},
    "versions": {},
}
LOGPS = ("policy_chosen_logps", "policy_rejected_logps", "ref_chosen_logps", "ref_rejected_logps")


@pytest.fixture
def write_pairs(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a ledger of pairs, with defaults for missing values, and returns its path.

    `logps` of a pair are its four sums in the ledger's order; without a reference the last two are None.
    """

    def write(
        pairs: list[dict[str, Any]],
        *,
        extra: Mapping[str, tuple[ExtraKind, list[Any]]] | None = None,
        manifest: Mapping[str, Any] | None = None,
        groups: int = 1,
        name: str = "ledger.parquet",
    ) -> Path:
        rows = [_filled(i, pair) for i, pair in enumerate(pairs)]
        columns = {key: [row[key] for row in rows] for key in rows[0]}
        columns |= {key: values for key, (_, values) in (extra or {}).items()}
        schema = build_schema(
            {key: kind for key, (kind, _) in (extra or {}).items()},
            {**MANIFEST, **(manifest or {})},
            tokens="chosen_tokens" in columns,
            more=[one for one in MORE if one.name in columns and one.name not in (extra or {})],
        )
        size = -(-len(rows) // groups)
        parts = [{key: column[i : i + size] for key, column in columns.items()} for i in range(0, len(rows), size)]
        write_ledger(tmp_path / name, schema, parts)
        return tmp_path / name

    return write


def _filled(row: int, pair: Mapping[str, Any]) -> dict[str, Any]:
    sums = dict(zip(LOGPS, pair["logps"], strict=True))
    given = {key: value for key, value in pair.items() if key != "logps"}
    return {
        "row": row,
        "line": row + 1,
        "pair_id": f"{row:016x}",
        **sums,
        "chosen_num_tokens": 20,
        "rejected_num_tokens": 30,
        "flags": "",
        "prompt": f"prompt {row}",
        "chosen": f"chosen {row}",
        "rejected": f"rejected {row}",
        "source_json": "{}",
        **given,
    }
