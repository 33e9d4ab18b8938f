"""Identify what a field of the load screen names while the user types, without downloading or reading weights."""

from __future__ import annotations

import functools
import json
import re
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from prefscope.data.dialects import DIALECTS, NotAPairError, normalise
from prefscope.data.records import BadRow, SourceRow, readable
from prefscope.data.sources import FileSource, SeveralSources, open_source
from prefscope.errors import DamagedLedgerError, NewerLedgerError, PrefscopeError
from prefscope.ledger.columns import POLICY_LOGPS
from prefscope.ledger.file import open_parquet
from prefscope.scoring.checkpoints import ADAPTER_OFF, Checkpoint, read_json
from prefscope.scoring.headers import num_weights, stored_dtype

SAMPLED_ROWS = 400
CHARACTERS_PER_TOKEN = 3.5
UNIQUE_SHARE = 0.7
"""Typical share of the tokens of both sequences that a packed pass computes, since pairs share their prompt."""
PRODUCT_SIZE = 768
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True, slots=True)
class Recognised:
    """What a field names; `good` is None if that is not known yet."""

    good: bool | None
    text: str


@dataclass(frozen=True, slots=True)
class DataFound(Recognised):
    """A data set, or a ledger."""

    pairs: int = 0
    characters: int = 0
    """Number of characters in all prompts, counted once per response, and responses."""
    is_ledger: bool = False
    has_logps: bool = False
    """Whether its rows have log-probs, so that no model is needed."""


@dataclass(frozen=True, slots=True)
class ModelFound(Recognised):
    """A checkpoint."""

    weights: int | None = None
    dtype: str = ""
    vocabulary: int | None = None
    is_adapter: bool = False


def recognise_data(name: str) -> DataFound:
    """Identify what the data set field names."""
    if not name:
        return DataFound(None, "a file (jsonl, json, csv, parquet, .gz), a hub id, or a ledger")
    if name == "-":
        return DataFound(good=False, text="The screens cannot read standard input: save it to a file first.")
    path = Path(name).expanduser()
    if found := _recognise_ledger(path):
        return found
    if not path.exists() and HUB_ID.fullmatch(name) and not path.suffix:
        return DataFound(None, "not a local path: downloaded from the hub when scoring starts")
    try:
        return _recognise_rows(str(path))
    except PrefscopeError as error:
        return DataFound(good=False, text=error.what + ".")


def _recognise_ledger(path: Path) -> DataFound | None:
    """Describe a ledger; None if the file is not a ledger."""
    if path.suffix != ".parquet" or not path.is_file():
        return None
    try:
        _, manifest = open_parquet(path)
    except (NewerLedgerError, DamagedLedgerError) as error:
        return DataFound(good=False, text=f"{error.what}. {error.hint}")
    except PrefscopeError:
        return None  # a Parquet file of rows
    pairs = manifest.get("data", {}).get("pairs", 0)
    return DataFound(good=True, text=f"a ledger of {pairs:,} scored pairs", is_ledger=True)


def _recognise_rows(path: str) -> DataFound:
    """Identify the layout of a file from its first rows, and estimate the number of pairs from its size."""
    dialects: Counter[str] = Counter()
    bad, characters, rows, has_logps = 0, 0, 0, False
    with closing(open_source(path)) as source:
        for row in islice(source.rows(), SAMPLED_ROWS):
            rows += 1
            if isinstance(row, BadRow):
                bad += 1
                continue
            has_logps |= rows == 1 and all(name in row.value for name in POLICY_LOGPS)
            try:
                pair, dialect = normalise(row)
            except NotAPairError:
                bad += 1
            else:
                dialects[dialect] += 1
                texts = [readable(text) for text in (pair.prompt, pair.chosen, pair.rejected)]
                characters += 2 * len(texts[0]) + len(texts[1]) + len(texts[2])
        total, is_exact = (rows, True) if rows < SAMPLED_ROWS else _num_rows(source)
    if has_logps:
        return DataFound(good=True, text="rows with log-probs: no model needed", pairs=total, has_logps=True)
    if not dialects:
        return DataFound(good=False, text="None of the first rows is a preference pair.")
    layout = DIALECTS[key].title if (key := dialects.most_common(1)[0][0]) in DIALECTS else key
    good = rows - bad
    pairs = total * good // rows
    count = f"{pairs:,}" if is_exact else f"about {pairs:,}"
    text = f"{count} pairs · {layout}" + (f" · {bad:,} of {rows:,} rows are not pairs" if bad else "")
    return DataFound(not bad, text, pairs, characters * pairs // good)


def _num_rows(source: object) -> tuple[int, bool]:
    """Return the number of rows of a source longer than the sample, and whether the number is exact."""
    if isinstance(source, SeveralSources):
        counts = [_num_rows(part) for part in source.parts]
        return sum(count for count, _ in counts), all(is_exact for _, is_exact in counts)
    if not isinstance(source, FileSource):
        return SAMPLED_ROWS, False
    if source.format == "parquet" and source.compression is None:
        import pyarrow.parquet as pq

        return int(pq.read_metadata(source.path).num_rows), True
    values = [row.value for row in islice(source.rows(), SAMPLED_ROWS) if isinstance(row, SourceRow)]
    sampled = max(sum(len(json.dumps(value)) for value in values), 1)
    size = source.path.stat().st_size * (source.compression.ratio if source.compression else 1)
    if len(values) < SAMPLED_ROWS:
        return len(values), True
    return max(round(size / sampled * len(values) / 100) * 100, SAMPLED_ROWS), False


REFERENCE_WORDS = {
    "none": "no reference: only SimPO and log-probs",
    "base": "the base model of the policy's adapter",
    ADAPTER_OFF: "the policy with its adapter disabled",
}
"""Values of the reference field that do not name a checkpoint."""


def recognise_model(name: str, *, role: str) -> ModelFound:
    """Identify what a checkpoint field names; the role is `policy` or `ref`."""
    if not name:
        default = "the bundled tiny policy" if role == "policy" else "an adapter's base, or the bundled tiny reference"
        return ModelFound(None, f"empty: {default}")
    if role == "ref" and name in REFERENCE_WORDS:
        return ModelFound(good=True, text=REFERENCE_WORDS[name])
    path = Path(name).expanduser()
    if not path.exists():
        if HUB_ID.fullmatch(name) and not name.startswith((".", "~")):
            return ModelFound(None, "not a local path: downloaded from the hub when scoring starts")
        return ModelFound(good=False, text="This checkpoint does not exist.")
    try:
        return _recognise_checkpoint(Checkpoint(name, path))
    except (PrefscopeError, OSError) as error:
        return ModelFound(good=False, text=str(error))


def _recognise_checkpoint(checkpoint: Checkpoint) -> ModelFound:
    path = checkpoint.path
    if path.suffix == ".gguf":
        return ModelFound(good=True, text=f"GGUF, {_size(path.stat().st_size)}")
    if (path / "adapter_config.json").is_file():
        config = read_json(path / "adapter_config.json")
        base = config.get("base_model_name_or_path")
        kind = str(config.get("peft_type", "")).replace("LORA", "LoRA")
        return ModelFound(good=True, text=f"{kind} adapter on {base}", is_adapter=True)
    if not (path / "config.json").is_file():
        return ModelFound(good=False, text="Not a checkpoint: it has neither config.json nor adapter_config.json.")
    config = read_json(path / "config.json")
    weights, dtype = num_weights(checkpoint), stored_dtype(checkpoint)
    size = f", {_count(weights)} weights, {dtype}" if weights else ", no safetensors files"
    vocabulary = config.get("vocab_size")
    return ModelFound(
        bool(weights), f"{config.get('model_type', 'unknown')}{size}", weights, dtype, vocabulary, is_adapter=False
    )


def estimate(data: DataFound, policy: ModelFound, ref: ModelFound) -> str:
    """Return an estimate of the tokens and memory per model and, without a GPU, the total time on this CPU."""
    if not data.characters:
        return ""
    tokens = data.characters / CHARACTERS_PER_TOKEN * UNIQUE_SHARE
    parts = [f"about {_count(tokens)} tokens per model"]
    weights = policy.weights or ref.weights
    if weights is None:
        return parts[0]
    width = 4 if "32" in (policy.dtype or ref.dtype) else 2
    parts.append(f"{_size(weights * width)} of memory each")
    if not has_gpu():
        models = 1 if ref.text.startswith("no reference") else 2
        parts.append(f"about {_duration(models * 2 * weights * tokens / operations_per_second())} on this CPU")
    return " · ".join(parts)


def has_gpu() -> bool:
    """Return whether there is a CUDA device, judging by its device file."""
    return Path("/dev/nvidia0").exists()


@functools.cache
def operations_per_second() -> float:
    """Measure the operations per second that a forward pass reaches on this CPU, from float32 matrix products."""
    matrix = np.ones((PRODUCT_SIZE, PRODUCT_SIZE), dtype=np.float32)
    taken = []
    for _ in range(3):
        start = time.perf_counter()
        matrix @ matrix
        taken.append(time.perf_counter() - start)
    return float(2 * PRODUCT_SIZE**3 / min(taken)) * 0.7  # a forward pass reaches about this share of it


def _count(number: float) -> str:
    """Format a number with three significant digits.

    >>> _count(134_515_008), _count(70_123), _count(1_100_000_000)
    ('135 M', '70.1 k', '1.1 G')
    """
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.0f}"


def _size(size: float) -> str:
    return f"{_count(size)}B"


def _duration(seconds: float) -> str:
    """Format a time span in its largest unit.

    >>> _duration(3), _duration(400), _duration(20_000)
    ('3 s', '7 min', '5.6 h')
    """
    if seconds < 90:  # noqa: PLR2004 (a minute and a half)
        return f"{max(round(seconds), 1)} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"  # noqa: PLR2004 (the same)
