"""These tests run in a process of their own, in which Triton's kernels are interpreted on the CPU.

    TRITON_INTERPRET=1 pytest -n 0 tests/interpreted

They need triton and liger-kernel (`pip install '.[cuda]'`). tests/numerics/test_interpreted.py starts them.
"""

from __future__ import annotations

import os

if os.environ.get("TRITON_INTERPRET") != "1":
    collect_ignore_glob = ["*.py"]
