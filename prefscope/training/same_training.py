"""Whether the checkpoints that were scored are still those in the folder, or a new training is replacing them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from prefscope.errors import PrefscopeError, UsageError
from prefscope.events import Event, Progressed
from prefscope.folders import store_path
from prefscope.ledger.file import open_parquet
from prefscope.scoring.checkpoints import Checkpoint, fingerprint, locate
from prefscope.scoring.store import LogpStore
from prefscope.settings import ScoreSettings
from prefscope.training.checkpoints import model_folder
from prefscope.training.comparable import policy_of
from prefscope.training.completeness import stamp_of

MODEL_FILES = (".safetensors", ".bin", "config.json")

Emit = Callable[[Event], None]


class SameTraining:
    """Compares scored checkpoints with their ledgers at the start, and whenever one has come back."""

    def __init__(self, output: Path, score: ScoreSettings, emit: Emit) -> None:
        self._output = output
        self._score = score
        self._emit = emit
        self._same: dict[str, int] = {}
        """The inodes of the folders of the checkpoints that are known to be those that were scored."""

    def check(self, inodes: Mapping[str, int], ledgers: Mapping[str, Path]) -> None:
        """Check the checkpoints that are there.

        Args:
            inodes: The inodes of their folders, by name.
            ledgers: The ledgers of those that were scored, by name.

        Raises:
            UsageError: If one is another than the one of its name that was scored.
        """
        self._same = {name: inode for name, inode in self._same.items() if inodes.get(name) == inode}
        for name in ledgers.keys() & inodes.keys() - self._same.keys():
            if self._is_same(self._output / name, ledgers[name]):
                self._same[name] = inodes[name]

    def _is_same(self, checkpoint: Path, ledger: Path) -> bool:
        """Return whether a checkpoint is the one that was scored; false if it cannot be read at the moment.

        Raises:
            UsageError: If it is another one.
        """
        path = model_folder(checkpoint)
        if path is None:
            return False
        try:
            name, known = policy_of(open_parquet(ledger)[1])
            changes = [changed for name, _, changed in stamp_of(path) if name.endswith(MODEL_FILES)]
            is_older = max(changes, default=0) <= ledger.stat().st_mtime_ns
            if is_older and Path(name).resolve() == path.resolve():
                return True
            found = locate(str(path), self._score.models)
            with LogpStore(store_path(self._score.compute.cache_dir)) as store:
                now = fingerprint_of(found, store, self._score, self._emit)
        except (PrefscopeError, OSError):
            return False
        if now == known:
            return True
        raise UsageError(
            "This checkpoint is not the one of that name that was scored: it is of another training",
            where=str(checkpoint),
            hint="Watch it with another run folder: -o FOLDER.",
        )


def fingerprint_of(checkpoint: Checkpoint, store: LogpStore, score: ScoreSettings, emit: Emit) -> str:
    """Return the fingerprint of a model, emitting progress while its files are read."""
    return fingerprint(
        checkpoint,
        store,
        allow_pickle=score.models.allow_pickle,
        progress=lambda done, total: emit(Progressed(f"reading {checkpoint.name}", done, total)),
    )
