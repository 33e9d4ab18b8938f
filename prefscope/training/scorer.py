"""Scores one checkpoint of a training, with the reference and on the pairs of all others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from prefscope.errors import ModelError
from prefscope.events import Event
from prefscope.ledger.file import open_parquet
from prefscope.ledger.run_folder import RunFolder
from prefscope.scoring.checkpoints import locate
from prefscope.settings import ScoreSettings
from prefscope.training.checkpoints import Found
from prefscope.training.comparable import TOKENIZER, differing, refuse_differing, scored
from prefscope.training.reference import find_reference


class CheckpointScorer:
    """Writes the ledgers of a run folder."""

    def __init__(
        self,
        settings: ScoreSettings,
        output: Path,
        folder: RunFolder,
        note: Callable[[str], None],
        emit: Callable[[Event], None],
    ) -> None:
        """Prepare to score.

        Args:
            settings: The settings of every run; the policy is replaced.
            output: The folder that the trainer writes to.
            folder: The run folder.
            note: Called with sentences for the user, perhaps repeatedly.
            emit: Called with the events of the runs.
        """
        self._settings = settings
        self._output = output
        self._folder = folder
        self._note = note
        self._emit = emit
        self._reference: str | None = None
        self._is_base_noted = False

    def score(self, found: Found) -> Path:
        """Score a checkpoint and return the path of its ledger.

        Raises:
            ModelError: If the checkpoint cannot be loaded, or has another tokenizer than the others.
            UsageError: If its reference is not known, or the ledgers are not comparable.
            PrefscopeError: As for every run.
        """
        from prefscope.pipeline import run

        models = replace(self._settings.models, policy=str(found.path.absolute()), ref=self._reference_of(found))
        path = self._folder.ledger_path(found.step)
        run.score(replace(self._settings, models=models), lambda _: path, self._emit)
        self._check(path)
        return path

    def _check(self, path: Path) -> None:
        """Delete a new ledger that cannot be compared with those that are in the run folder by now, and say why."""
        other = next((one for one in self._folder.ledgers() if one != path), None)
        if other is None:
            return
        names = differing(scored(open_parquet(path)[1]), scored(open_parquet(other)[1]))
        if names:
            path.unlink()
        if names == [TOKENIZER]:
            raise ModelError(
                f"Its {TOKENIZER} differs from that of the other checkpoints, so its figures cannot be compared with "
                "theirs"
            )
        refuse_differing(self._folder.path, names)

    def _reference_of(self, found: Found) -> str | None:
        """Return the reference to score a checkpoint with; None for the base of an adapter."""
        asked = self._settings.models.ref
        if asked is not None:
            return asked
        if (found.path / "adapter_config.json").is_file():
            self._note_base(found)
            return None
        if self._reference is None:
            named = find_reference(found.path, self._output)
            self._reference = named.model
            self._note(f"The reference is {named.model}: the {named.key} of {named.file}.")
        return self._reference

    def _note_base(self, found: Found) -> None:
        """Note once which base the adapters have; looking for it may ask the hub."""
        if not self._is_base_noted:
            base = locate(str(found.path), self._settings.models).full
            self._note(f"The reference is {base.name}: the base of the adapters.")
            self._is_base_noted = True
