"""A log-prob store that several runs of one command share, so that the reference is computed once."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from prefscope.settings import ScoreSettings


@contextmanager
def shared_store(settings: ScoreSettings) -> Iterator[ScoreSettings]:
    """Provide settings with a store that the runs share; without caching, it is temporary."""
    if settings.compute.use_cache:
        yield settings
        return
    with tempfile.TemporaryDirectory(prefix="prefscope-") as folder:
        yield replace(settings, compute=replace(settings.compute, use_cache=True, cache_dir=folder))
