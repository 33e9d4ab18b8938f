"""Environment variables that libraries read: what they write, and how many kernels they cache.

Progress bars and messages are silenced only in the processes of this program: a notebook or a training that imports
prefscope keeps its own.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

QUIET = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TQDM_DISABLE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}
"""Keeps the libraries, which read these on import, from writing into the output and over the screens."""
UNLESS_SET = {"TOKENIZERS_PARALLELISM": "true"}
"""Otherwise tokenizers warns of forks; a user may have chosen fewer threads."""


def quieted(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which libraries write nothing to the terminal."""
    return {**UNLESS_SET, **environment, **QUIET}


def silence_libraries() -> None:
    """Keep libraries that are imported from now on, and those of child processes, from writing to the terminal."""
    os.environ.update(quieted(os.environ))


def limit_caches() -> None:
    """Limit the kernels that oneDNN and PyTorch cache on CPUs, unless the user does; both read this at their first use.

    By default, each caches 1,024 kernels of one or two megabytes, some for every batch size that ever occurred. A batch
    needs about ten, the same in each layer.
    """
    for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(name, "24")
