"""A model that is split among processes of one machine: this one, rank 0, and those that do what it does.

No part computes anything alone: all have to run the same pass, on the same tokens, at one time. Rank 0 decides, and
tells the others what it is about to do (rank_process.py). Each says afterwards how that ended, because one that failed
alone would leave its share of a sum behind for the next pass to find; and where one dies, rank 0 dies too, as it may be
waiting for it in the middle of a layer. So rank 0 is always a process that another has started and can start again.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TypeAlias

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch.distributed import TCPStore  # type: ignore[attr-defined]  # exported, but not by name
from torch.distributed.tensor import DTensor

from prefscope.scoring.checkpoints import Checkpoint
from prefscope.scoring.forward_mode import ForwardMode
from prefscope.scoring.head import Measure
from prefscope.scoring.models import LanguageModel, Part, load_model
from prefscope.scoring.sequences import TokenSequence
from prefscope.settings import ModelSettings
from prefscope.subprocesses import Child, start_child

COMMAND = (sys.executable, "-m", "prefscope.scoring.rank_process")
HOST = "127.0.0.1"
LONGEST_LOAD = timedelta(hours=2)
SECONDS_APART = 60.0
"""Between the ends of one pass in two processes, at most."""
EXIT_RANK_LOST = 75


@dataclass(frozen=True, slots=True)
class RankPlace:
    """Which of the processes one is, and how they find each other."""

    rank: int
    ranks: int
    port: int
    device: str
    """The kind of device."""
    threads: int

    def device_here(self) -> torch.device:
        """Return the device of this process: each has one of its own, except for CPUs."""
        return torch.device(self.device) if self.device == "cpu" else torch.device(self.device, self.rank)


@dataclass(frozen=True, slots=True)
class Load:
    """Load a part of a model."""

    checkpoint: Checkpoint
    models: ModelSettings
    dtype: str


@dataclass(frozen=True, slots=True)
class Forward:
    """Run a part of a forward pass; the fields are arguments of `engine.forward`."""

    model: int
    """How many were loaded before."""
    path: ForwardMode
    sequences: Sequence[TokenSequence]
    measure: Measure
    poisoned: NDArray[np.int64] | None


Call: TypeAlias = Load | Forward


class Ranks:
    """The other processes, as rank 0 sees them; they end with it."""

    def __init__(self, ranks: int, device: torch.device) -> None:
        """Start them and meet them.

        Args:
            ranks: How many processes there are, this one included.
            device: The kind of device to compute on.
        """
        store = TCPStore(HOST, 0, ranks, is_master=True, wait_for_workers=False)
        here = RankPlace(0, ranks, store.port, device.type, torch.get_num_threads())
        self._loaded = 0
        self._others: list[Child] = []
        for rank in range(1, ranks):
            child = start_child(COMMAND, None)
            child.connection.send(replace(here, rank=rank))
            threading.Thread(target=_end_with, args=(child,), daemon=True).start()
            self._others.append(child)
        join(here, store)
        self.device = here.device_here()

    def load(self, call: Load) -> LanguageModel:
        """Return this process's part of a model; raises what `load_model` does, and is of no use afterwards."""
        self._tell(call)
        model, part = load_part(call, self.device)
        self._check_ends(has_failed=False)
        number, self._loaded = self._loaded, self._loaded + 1
        return replace(model, part=replace(part, number=number, ranks=self))

    @contextmanager
    def followed(
        self,
        model: int,
        path: ForwardMode,
        sequences: Sequence[TokenSequence],
        measure: Measure,
        poisoned: NDArray[np.int64] | None,
    ) -> Iterator[None]:
        """Let the others run their part of a forward pass while this process runs its own; see `Forward`."""
        self._tell(Forward(model, path, tuple(sequences), measure, poisoned))
        try:
            yield
        except Exception:
            self._check_ends(has_failed=True)
            raise
        self._check_ends(has_failed=False)

    def _tell(self, call: Call) -> None:
        with _ending_if_one_is_gone():
            for child in self._others:
                child.connection.send(call)

    def _check_ends(self, *, has_failed: bool) -> None:
        """End this process unless the same happened in all."""
        for rank, child in enumerate(self._others, start=1):
            with _ending_if_one_is_gone():
                if not child.connection.poll(SECONDS_APART) or child.connection.recv() != has_failed:
                    sys.stderr.write(f"Rank {rank} {'went on' if has_failed else 'failed'} and rank 0 did not.\n")
                    os._exit(EXIT_RANK_LOST)


def join(place: RankPlace, store: TCPStore) -> None:
    """Meet the other processes."""
    os.environ["LOCAL_RANK"] = str(place.rank)  # by which transformers chooses the device
    backend = {"cpu": "gloo", "cuda": "nccl"}[place.device]
    device = place.device_here()
    if place.device == "cuda":
        torch.cuda.set_device(device)
    elif sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # else it looks the host's name up, which may lead nowhere
    dist.init_process_group(
        backend,
        store=store,
        rank=place.rank,
        world_size=place.ranks,
        timeout=LONGEST_LOAD,
        device_id=device if place.device == "cuda" else None,
    )


def load_part(call: Load, device: torch.device) -> tuple[LanguageModel, Part]:
    """Return this process's part of a model, when all processes load theirs; raises what `load_model` does."""
    model = load_model(call.checkpoint, call.models, device=device, dtype=call.dtype)
    weight = getattr(model.module.get_output_embeddings(), "weight", None)
    width = weight.to_local().shape[0] if isinstance(weight, DTensor) else 0
    widths = torch.zeros(dist.get_world_size(), dtype=torch.long, device=device)
    widths[dist.get_rank()] = width
    dist.all_reduce(widths)
    part = Part(slice_start=int(widths[: dist.get_rank()].sum()), slice_width=width)
    return replace(model, part=part), part


@contextmanager
def _ending_if_one_is_gone() -> Iterator[None]:
    try:
        yield
    except (EOFError, OSError):
        os._exit(EXIT_RANK_LOST)


def _end_with(child: Child) -> None:
    """End this process when another rank is gone."""
    child.process.wait()
    os._exit(EXIT_RANK_LOST)
