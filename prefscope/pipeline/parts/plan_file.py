"""The plan of a folder of parts: the tokenized pairs, and how they are divided into shards.

It is written atomically and never changed, so all slices use the same plan. Reading it takes neither a tokenizer nor
torch.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from prefscope.errors import UNREADABLE, ResourceError, UsageError
from prefscope.pipeline.parts.folder import FORMAT_VERSION, PartsFolder, sealed_json, unsealed
from prefscope.pipeline.parts.places import Fill
from prefscope.pipeline.parts.validation import is_order, is_plan
from prefscope.pipeline.shards import Plan, make_plan
from prefscope.pipeline.spool import SavedSpool, Spool
from prefscope.settings import DataSettings, ScoreSettings
from prefscope.version import __version__

if TYPE_CHECKING:
    from prefscope.pipeline.reader import DataSummary

PLAN = "plan"
_BLOCK_BYTES = 1 << 20
INDEX, PAIRS, ORDER, TEXTS = "plan.json", "pairs.arrow", "order.npz", "tokens.json"


@dataclass(frozen=True, slots=True)
class OpenedPlan:
    """A plan that has been opened."""

    spool: SavedSpool
    plan: Plan
    content: Mapping[str, Any]
    """Content of plan.json."""
    texts: Sequence[str]
    """The text of each token, by id."""


def publish_plan(
    folder: PartsFolder, settings: ScoreSettings, spool: Spool, data: DataSummary, texts: Sequence[str]
) -> None:
    """Write the plan of tokenized pairs, unless a plan already exists.

    Args:
        folder: The folder of parts.
        settings: How the pairs were selected and tokenized.
        spool: The tokenized pairs; it must be finished.
        data: Summary of the data.
        texts: The text of each token, by id.

    Raises:
        ResourceError: If the plan cannot be written.
    """
    facts = spool.facts
    plan = make_plan(facts, settings.data.seed)
    files: dict[str, Fill] = {
        PAIRS: spool.save,
        ORDER: lambda stream: np.savez(stream, order=plan.order, starts=plan.starts, owners=plan.owners),
        TEXTS: lambda stream: stream.write(json.dumps(texts).encode()),
    }
    content = {
        "format": FORMAT_VERSION,
        "prefscope": __version__,
        "asked": planned_options(settings),
        "source": {"name": settings.data.source, "size": size_of(settings.data)},
        "data": _plain(data),
        "columns": spool.extra_kinds,
        "chunk_pairs": spool.chunk_pairs,
        "digests": {name: _digest_of(fill) for name, fill in files.items()},
        "shards": [
            {
                "name": name,
                "pairs": len(plan.pairs(number)),
                "sequences": len(plan.owned(number)),
                "tokens": int(facts.tokens[plan.pairs(number)].sum()),
            }
            for number, name in enumerate(plan.names)
        ],
    }
    files[INDEX] = lambda stream: stream.write(sealed_json(content))
    folder.place.publish_together(PLAN, INDEX, files)


def has_plan(folder: PartsFolder) -> bool:
    """Return whether the plan of a folder has been published."""
    return INDEX in folder.place.files(PLAN)


def plan_content(folder: PartsFolder) -> Mapping[str, Any]:
    """Return the content of plan.json, which describes the shards; does not read the pairs.

    Raises:
        UsageError: If there is no plan, or it was made by a newer version.
        ResourceError: If the plan is damaged.
    """
    return _read_index(folder)[0]


def open_plan(folder: PartsFolder) -> OpenedPlan:
    """Open the plan of a folder; temporary copies are deleted when its spool is closed.

    Raises:
        UsageError: If there is no plan, or it was made by a newer version.
        ResourceError: If the plan is damaged or cannot be fetched.
    """
    content, content_folder = _read_index(folder)
    place = folder.place
    try:
        _check_files(folder, content_folder, content)
        with place.open(f"{content_folder}/{ORDER}") as stream, np.load(stream, allow_pickle=False) as arrays:
            names = tuple(shard["name"] for shard in content["shards"])
            plan = Plan(arrays["order"], arrays["starts"], arrays["owners"], names)
        with place.open(f"{content_folder}/{TEXTS}") as stream:
            texts = json.loads(stream.read())
        spool = SavedSpool(place.open(f"{content_folder}/{PAIRS}"), content["chunk_pairs"], content["columns"])
        sound = spool.num_pairs == content["data"]["pairs"] and is_order(plan, spool.num_pairs)
        sound &= isinstance(texts, list) and all(isinstance(text, str) for text in texts)
    except (
        OSError,
        EOFError,
        KeyError,
        TypeError,
        zipfile.BadZipFile,
        zlib.error,
        pa.ArrowException,
        *UNREADABLE,
    ) as error:
        raise _damaged(folder) from error
    if not sound:
        raise _damaged(folder)
    return OpenedPlan(spool, plan, content, texts)


def _check_files(folder: PartsFolder, content_folder: str, content: Mapping[str, Any]) -> None:
    """Compare the files of a plan with their digests, if it has digests.

    Raises:
        ResourceError: If a file is not as it was written.
    """
    for name, written in content.get("digests", {}).items():
        with folder.place.open(f"{content_folder}/{name}") as stream:
            if _digest(stream) != written:
                raise _damaged(folder, name)


def _digest_of(fill: Fill) -> str:
    """Return the digest of a file's content before it is published.

    Raises:
        ResourceError: If the temporary folder cannot hold the file.
    """
    try:
        with tempfile.TemporaryFile(prefix="prefscope-") as stream:
            fill(stream)
            stream.seek(0)
            return _digest(stream)
    except OSError as error:
        raise ResourceError(
            f"The plan of these parts cannot be written to a temporary file ({error.strerror or error})",
            where=tempfile.gettempdir(),
            hint="Free disk space, or set TMPDIR to another folder.",
        ) from error


def _digest(stream: IO[bytes]) -> str:
    found = hashlib.blake2b(digest_size=16)
    while block := stream.read(_BLOCK_BYTES):
        found.update(block)
    return found.hexdigest()


def _read_index(folder: PartsFolder) -> tuple[Mapping[str, Any], str]:
    """Return the content of plan.json, and the folder of the plan's other files."""
    place, index = folder.place, f"{PLAN}/{INDEX}"
    try:
        with place.open(index) as stream:
            written = stream.read()
    except FileNotFoundError as error:
        hint = "Make one with `prefscope parts plan DIR DATA --policy P --ref R`."
        raise UsageError("This folder has no plan of parts", where=place.shown(), hint=hint) from error
    except OSError as error:
        raise _damaged(folder) from error
    try:
        content = unsealed(json.loads(written))
        newer = content["format"] > FORMAT_VERSION
    except (KeyError, TypeError, AttributeError, *UNREADABLE) as error:
        raise _damaged(folder) from error
    if newer:
        raise UsageError("This plan was made by a newer prefscope", where=place.shown(PLAN), hint="Update prefscope.")
    if not is_plan(content):
        raise _damaged(folder)
    return content, place.content_folder(index, written)


def _damaged(folder: PartsFolder, name: str = "") -> ResourceError:
    hint = "Delete this folder and plan again: parts keep their names, so finished parts are still used."
    return ResourceError(
        "The plan of these parts is damaged", where=folder.place.shown(f"{PLAN}/{name}".rstrip("/")), hint=hint
    )


def planned_options(settings: ScoreSettings) -> dict[str, Any]:
    """Return the options that determine which tokens are scored, as JSON values."""
    asked = asdict(settings.data) | asdict(settings.tokenization)
    del asked["source"], asked["more"]  # paths may differ between machines
    return dict(json.loads(json.dumps(asked)))


def size_of(data: DataSettings) -> int | None:
    """Return the size of the data files in bytes, or None if a source is not a local file."""
    paths = [Path(name) for name in (data.source, *data.more)]
    return sum(path.stat().st_size for path in paths) if all(path.is_file() for path in paths) else None


def _plain(data: DataSummary) -> dict[str, Any]:
    """Return the summary without the tokenizer, for plan.json."""
    return {field.name: getattr(data, field.name) for field in fields(data) if field.name != "tokenizer"}
