"""Environment variables that libraries read on import; set only in the processes of this program.

A notebook or a training that imports prefscope keeps its progress bars, messages and caches as they are.
"""

from __future__ import annotations

import os

QUIET = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "true",  # otherwise a warning about forks
    "TQDM_DISABLE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}
"""Keeps the libraries from writing into the output and over the screens."""


def silence_libraries() -> None:
    """Keep libraries that are imported from now on, and those of child processes, from writing to the terminal."""
    os.environ.update(QUIET)


def limit_caches() -> None:
    """Limit the kernels that oneDNN and PyTorch cache on CPUs; both read the limits at their first product.

    By default, each caches 1,024 kernels of one or two megabytes, some for every batch size that ever occurred. A batch
    needs about ten, the same in each layer.
    """
    for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(name, "24")
