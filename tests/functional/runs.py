"""Runs of the bundled tiny models in this process, with their events, results and loaded models."""

from __future__ import annotations

import gc
import itertools
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import nn

from prefscope.events import BatchScored, Event, Halved, Noted, Planned
from prefscope.folders import sample_data, store_path
from prefscope.ledger.table import load_ledger
from prefscope.pipeline.run import score
from prefscope.scoring import models as loading
from prefscope.scoring.models import LanguageModel
from prefscope.scoring.store import LogpStore
from prefscope.settings import ComputeSettings, DataSettings, ModelSettings, ScoreSettings

Kind = TypeVar("Kind", bound=Event)
NATS_A_TOKEN = 1e-4
POLICY, REF = sample_data() / "tiny-policy", sample_data() / "tiny-ref"


@dataclass(frozen=True)
class Outcome:
    """The events and results of a finished run."""

    events: tuple[Event, ...]
    table: pa.Table
    """The columns of the ledger."""
    manifest: dict[str, Any]

    def all(self, kind: type[Kind]) -> list[Kind]:
        """Return the events of a type."""
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def plans(self) -> dict[str, Planned]:
        """The plans, by role."""
        return {event.role: event for event in self.all(Planned)}

    @property
    def batches(self) -> list[BatchScored]:
        """The batches in the order of their scoring."""
        return self.all(BatchScored)

    @property
    def halvings(self) -> list[Halved]:
        """The batches that were halved."""
        return self.all(Halved)

    @property
    def notes(self) -> list[str]:
        """The messages for the user."""
        return [event.text for event in self.all(Noted)]

    def token_logps(self, role: str) -> NDArray[np.float32]:
        """Return a role's log-probs of all tokens of the data set, concatenated."""
        sides = [self.table[f"{role}_{side}_token_logps"].combine_chunks() for side in ("chosen", "rejected")]
        return np.concatenate([side.flatten().to_numpy() for side in sides])


def settings_of(
    policy: Path = POLICY,
    ref: Path | str | None = REF,
    *,
    data: Path | None = None,
    limit: int | None = None,
    batch_tokens: int | None = None,
    cache: str = "cache",
    **models: Any,
) -> ScoreSettings:
    """Return the settings of a run of one thread that keeps its store in a folder below the current one."""
    return ScoreSettings(
        data=DataSettings(str(data or sample_data() / "pairs.jsonl"), limit=limit),
        models=ModelSettings(str(policy), None if ref is None else str(ref), **models),
        compute=ComputeSettings(cache_dir=cache, batch_tokens=batch_tokens, threads=1),
    )


def run(settings: ScoreSettings, emit: Callable[[Event], None] = lambda _: None) -> Outcome:
    """Score in the current folder."""
    events: list[Event] = []

    def listen(event: Event) -> None:
        events.append(event)
        emit(event)

    path = score(settings, lambda _: Path("ledger.parquet"), listen)
    table = pq.read_table(path).replace_schema_metadata(None)
    return Outcome(tuple(events), table, load_ledger(path).manifest)


def interrupt_after(batches: int) -> Callable[[Event], None]:
    """Return a listener that interrupts a run, as ctrl+C does, after a number of batches."""
    scored = itertools.count(1)

    def listen(event: Event) -> None:
        if isinstance(event, BatchScored) and next(scored) == batches:
            raise KeyboardInterrupt

    return listen


def committed(cache: Path | str = "cache") -> int:
    """Return the number of sequences in a store."""
    path = store_path(str(cache))
    if not path.is_file():
        return 0
    with LogpStore(path) as store:
        return store.counts()[0]


def largest_difference(some: NDArray[np.float32], others: NDArray[np.float32]) -> float:
    """Return the largest difference of any token, in nats."""
    assert len(some) == len(others) > 0
    return float(np.abs(some - others).max())


@dataclass
class Loads:
    """A record of loaded weights and of how many models were alive at the same time."""

    names: list[str] = field(default_factory=list)
    """The names of the loaded checkpoints, in order."""
    most_alive: int = 0
    weight_bytes: list[int] = field(default_factory=list)
    """Of each loaded model."""
    hooks: list[Callable[[nn.Module], None]] = field(default_factory=list)
    """Called with the decoder of each model that is loaded."""
    _modules: list[weakref.ref[nn.Module]] = field(default_factory=list)

    @property
    def alive(self) -> int:
        """The number of models in memory now."""
        gc.collect()
        return sum(module() is not None for module in self._modules)

    def watched(self, load: Callable[..., LanguageModel]) -> Callable[..., LanguageModel]:
        """Return a loader that records what it loads."""

        def watch(checkpoint: Any, *args: Any, **kwargs: Any) -> LanguageModel:
            model = load(checkpoint, *args, **kwargs)
            module: nn.Module = model.module
            decoder: nn.Module = model.module.get_decoder()
            self.names.append(checkpoint.name)
            self._modules.append(weakref.ref(module))
            self.most_alive = max(self.most_alive, self.alive)
            self.weight_bytes.append(sum(weights.nbytes for weights in module.parameters()))
            for hook in self.hooks:
                hook(decoder)
            return model

        return watch


def watch_loads(patch: Any) -> Loads:
    """Return a record of all models that are loaded while a monkeypatch is active."""
    loads = Loads()
    patch.setattr(loading, "load_model", loads.watched(loading.load_model))
    return loads


def full_above(tokens: int, sizes: list[int]) -> Callable[[nn.Module], None]:
    """Return a hook with which batches of more tokens do not fit into memory; it records all sizes that are tried."""

    def limit(_module: nn.Module, _args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        sizes.append(int(kwargs["input_ids"].numel()))
        if sizes[-1] > tokens:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")

    def add(decoder: nn.Module) -> None:
        decoder.register_forward_pre_hook(limit, with_kwargs=True)

    return add


def roles(batches: Iterable[BatchScored]) -> list[str]:
    """Return whose batches these are."""
    return [batch.role for batch in batches]
