"""Ranks of a distributed training share the scoring of a sample."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch.distributed
from torch.multiprocessing.spawn import spawn

from prefscope.integrations.ranks import gather

pytestmark = pytest.mark.slow
RANKS = 3


def share(rank: int, ranks: int) -> dict[int, int]:
    return {number: number**2 for number in range(10)[rank::ranks]}


def in_rank(rank: int, file: str, fails: bool) -> None:
    """Run in each rank: check what it gets."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=RANKS)
    if not fails:
        assert gather(share) == {number: number**2 for number in range(10)}
    elif rank == 1:
        with pytest.raises(ZeroDivisionError):
            gather(lambda *_: {0: 1 // 0})
    else:
        with pytest.raises(RuntimeError, match="rank 1 could not score its share"):
            gather(share)
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("fails", [False, True])
def test_every_rank_gets_all_shares_or_knows_that_one_failed(tmp_path: Path, fails: bool) -> None:
    spawn(in_rank, args=(str(tmp_path / "ranks"), fails), nprocs=RANKS)  # type: ignore[no-untyped-call]


def test_without_ranks_a_process_does_it_all() -> None:
    assert gather(share) == {number: number**2 for number in range(10)}
