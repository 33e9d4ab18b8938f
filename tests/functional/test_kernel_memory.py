"""Kernels that are compiled for every new batch size must not accumulate over a long run."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

SIZES = 250
MOST_MB = 200
"""Kept for all sizes, the kernels would take more than 400 MB."""
PROGRAM = f"""
import torch
from torch.nn import functional
from prefscope.scoring.linear import matrix_products

def resident_mb():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 1e6

values, weight = torch.ones(700, 256), torch.ones(1024, 256)
_, products = matrix_products(torch.device("cpu"), "float32")
with torch.inference_mode(), products:
    functional.linear(values, weight)
    before = resident_mb()
    for size in range({SIZES}):
        functional.linear(values[: 300 + size], weight)
print(resident_mb() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")
@pytest.mark.skipif(not torch._C._has_mkldnn, reason="this torch has no oneDNN")
def test_batches_of_many_sizes_do_not_fill_memory_with_kernels() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert float(done.stdout) < MOST_MB
