"""Models split among processes on one machine: rank 0, which is this process, and the ranks that follow it.

No part computes anything alone: all ranks must run the same pass, on the same tokens, at the same time. Rank 0 decides,
and announces each call to the others (rank_process.py). Each rank then reports whether the call failed, because a rank
that failed alone would leave its share of a reduction behind for the next pass. If a rank dies, rank 0 exits too, as it
may be waiting for that rank in the middle of a layer. So rank 0 must be a process that another one starts and restarts.
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
from prefscope.subprocesses import Child, module_command, start_child

COMMAND = module_command("prefscope.scoring.rank_process")
HOST = "127.0.0.1"
LONGEST_LOAD = timedelta(hours=2)
SECONDS_APART = 60.0
"""Maximum time between the ends of one pass in two processes."""
EXIT_RANK_LOST = 75


@dataclass(frozen=True, slots=True)
class RankPlace:
    """The rank of a process, and how the processes connect to each other."""

    rank: int
    ranks: int
    port: int
    device: str
    """Type of the device."""
    threads: int

    def device_here(self) -> torch.device:
        """Return the device of this process: on GPUs, each process has its own."""
        return torch.device(self.device) if self.device == "cpu" else torch.device(self.device, self.rank)


@dataclass(frozen=True, slots=True)
class Load:
    """Loads a part of a model."""

    checkpoint: Checkpoint
    models: ModelSettings
    dtype: str


@dataclass(frozen=True, slots=True)
class Forward:
    """Runs a part of a forward pass; most fields are arguments of `engine.forward`."""

    model: int
    """Number of the model, in the order of loading."""
    path: ForwardMode
    sequences: Sequence[TokenSequence]
    measure: Measure
    poisoned: NDArray[np.int64] | None
    is_fused: bool
    """Whether the model uses fused kernels."""


Call: TypeAlias = Load | Forward


class Ranks:
    """The other ranks, as seen by rank 0; they exit when rank 0 does."""

    def __init__(self, ranks: int, device: torch.device) -> None:
        """Start the other ranks and connect to them.

        Args:
            ranks: Number of processes, including this one.
            device: The type of device to compute on.
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
        """Load this process's part of a model; raises as `load_model`, and cannot be used again if it does."""
        self._send(call)
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
        *,
        is_fused: bool,
    ) -> Iterator[None]:
        """Make the others run their part of a forward pass while this process runs its own; see `Forward`."""
        self._send(Forward(model, path, tuple(sequences), measure, poisoned, is_fused))
        try:
            yield
        except Exception:
            self._check_ends(has_failed=True)
            raise
        self._check_ends(has_failed=False)

    def _send(self, call: Call) -> None:
        with _ending_if_one_is_gone():
            for child in self._others:
                child.connection.send(call)

    def _check_ends(self, *, has_failed: bool) -> None:
        """Exit this process unless the call ended in the same way in all processes."""
        for rank, child in enumerate(self._others, start=1):
            with _ending_if_one_is_gone():
                if not child.connection.poll(SECONDS_APART) or child.connection.recv() != has_failed:
                    sys.stderr.write(f"Rank {rank} {'succeeded' if has_failed else 'failed'}, but rank 0 did not.\n")
                    os._exit(EXIT_RANK_LOST)


def join(place: RankPlace, store: TCPStore) -> None:
    """Connect to the other processes."""
    os.environ["LOCAL_RANK"] = str(place.rank)  # transformers chooses the device by this
    backend = {"cpu": "gloo", "cuda": "nccl"}[place.device]
    device = place.device_here()
    if place.device == "cuda":
        torch.cuda.set_device(device)
    elif sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # else gloo looks up the host name, which may fail
    dist.init_process_group(
        backend,
        store=store,
        rank=place.rank,
        world_size=place.ranks,
        timeout=LONGEST_LOAD,
        device_id=device if place.device == "cuda" else None,
    )


def load_part(call: Load, device: torch.device) -> tuple[LanguageModel, Part]:
    """Load this process's part of a model, while all other processes load theirs; raises as `load_model`."""
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
    """Exit this process when another rank has exited."""
    child.process.wait()
    os._exit(EXIT_RANK_LOST)
