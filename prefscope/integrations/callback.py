"""A callback that scores preference pairs during a training, for transformers' Trainer and all that build on it."""

from __future__ import annotations

import copy
import gc
import json
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from prefscope.errors import ModelError, UsageError
from prefscope.events import Event, Noted
from prefscope.integrations.lending import language_model, lent
from prefscope.integrations.live_scoring import LivePairs, Logps
from prefscope.integrations.ranks import gather
from prefscope.integrations.references import Reference, reference_of_ledger, reference_of_training
from prefscope.ledger.run_folder import RunFolder, Step
from prefscope.ledger.table import load_ledger
from prefscope.pipeline.reader import Vocabulary
from prefscope.private import make_folder, open_file
from prefscope.report.followed import Followed
from prefscope.report.visible import visible
from prefscope.scoring.context import context_of
from prefscope.scoring.models import LanguageModel
from prefscope.settings import (
    ComputeSettings,
    DataSettings,
    ModelSettings,
    PreferenceSettings,
    ScoreSettings,
    TokenizationSettings,
)
from prefscope.training.comparable import differing, recorded, refuse_differing, requested, template_date_of

PAIRS_FILE = "pairs.jsonl"
"""Pairs that were given as rows are written to this file of the run folder."""
SPREAD = "{what} spreads the weights over processes, so the model cannot be scored in place"


class PreferenceCallback(TrainerCallback):
    """Scores the same pairs every so many steps, and writes a run folder that `prefscope view` opens.

    The model is scored as it is in memory and given back exactly as it was: a training ends with the same weights with
    and without the callback. Figures are logged through the trainer, as `prefscope/accuracy` and so on.

    >>> from prefscope.integrations import PreferenceCallback
    >>> callback = PreferenceCallback("pairs.jsonl", every=100, sample=256, folder="runs/dpo")
    >>> trainer.add_callback(callback)  # doctest: +SKIP
    """

    def __init__(
        self,
        pairs: str | Path | Iterable[Mapping[str, Any]],
        *,
        every: int = 100,
        sample: int | None = 256,
        seed: int = 0,
        folder: str | Path = "runs",
        ref_model: Any = None,
        ref_ledger: str | Path | None = None,
        by: str = "",
        beta: float | None = None,
        profile: str = "trl",
        max_length: int | None = None,
        batch_tokens: int | None = None,
    ) -> None:
        """Set up the callback; nothing is read before the training begins.

        Args:
            pairs: A data set as `prefscope score` reads it: a file, a folder, a hub id; or rows.
            every: Score at every step that is a multiple of this, and at evaluations.
            sample: Number of pairs, drawn with the seed; None for all.
            seed: Seed of the sample.
            folder: The run folder.
            ref_model: The reference; None: the trainer's own `ref_model`, the model with its adapter switched off, or
                the model before its first step.
            ref_ledger: A ledger of the same pairs, whose reference is used instead.
            by: A column of the data set, such as `split`, whose values are followed apart.
            beta: Scale of the rewards; None: that of the training, or 0.1.
            profile: Tokenization rules, as in `prefscope score --profile`.
            max_length: Maximum number of tokens of a sequence; None: the model's context.
            batch_tokens: Tokens of a forward pass; None: 2,048 on CPUs, 8,192 on GPUs.

        Raises:
            UsageError: `every` or `sample` is not positive.
        """
        if every < 1 or (sample is not None and sample < 1):
            raise UsageError("every and sample of a PreferenceCallback have to be at least 1")
        self.every = every
        self.folder = RunFolder(Path(folder).expanduser())
        self.by, self.beta = by, beta
        self.seconds = 0.0
        """Time spent on scoring so far."""
        self._rows = pairs
        self._given_model, self._given_ledger = ref_model, ref_ledger
        self._data = DataSettings("", sample=sample, seed=seed)
        self._tokenization = TokenizationSettings(profile=profile, max_length=max_length)
        self._compute = ComputeSettings(use_cache=False, batch_tokens=batch_tokens)
        self._work: _Work | None = None
        self._began = 0.0

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,  # noqa: ARG002 (transformers' signature)
        **others: Any,
    ) -> None:
        """Read the pairs, check the model and score the reference.

        Raises:
            PrefscopeError: The pairs cannot be read, or the model or its reference cannot be scored.
        """
        self._began, started = time.monotonic(), time.monotonic()
        trainer = _trainer_of(self)
        _refuse_spread(trainer, args)
        model = language_model(others["model"])
        with lent(model):
            pairs = LivePairs.read(self._settings(state), _vocabulary(model, others["processing_class"]), _say(state))
            self._refuse_others(pairs, state)
            beta = self.beta if self.beta is not None else float(getattr(args, "beta", 0.1))
            reference = self._reference(trainer, model, pairs, is_new=state.global_step == 0)
        self._work = _Work(trainer, pairs, model, reference, Followed(PreferenceSettings(beta), self.by))
        if state.is_world_process_zero:
            _write(f"following {pairs.data.pairs:,} pairs; reference: {reference.name}")
            if dropped := self.folder.drop_after(state.global_step):
                _write(f"{dropped} later steps of the interrupted training are no longer listed in {self.folder.path}")
            for step, path in self.folder.scored().items():
                self._work.figures.add(load_ledger(path), step)
        self.seconds += time.monotonic() - started

    def _refuse_others(self, pairs: LivePairs, state: TrainerState) -> None:
        """Refuse a run folder of other pairs or of another training.

        Raises:
            UsageError: It is one.
        """
        ledgers = self.folder.ledgers()
        for ledger in ledgers[:1]:
            asked = requested(pairs.settings, pairs.data.content_hash, None)
            refuse_differing(self.folder.path, differing(asked, recorded(load_ledger(ledger).manifest)))
        if ledgers and state.global_step == 0:
            raise UsageError(
                "This run folder has the checkpoints of another training",
                where=str(self.folder.path),
                hint="Choose another folder for the PreferenceCallback, or delete this one.",
            )

    def _reference(self, trainer: Any, model: LanguageModel, pairs: LivePairs, *, is_new: bool) -> Reference:
        if self._given_ledger is not None:
            return reference_of_ledger(pairs, Path(self._given_ledger))
        ref_model = self._given_model if self._given_model is not None else getattr(trainer, "ref_model", None)
        return reference_of_training(pairs, model, ref_model, self.folder.ledgers(), is_new=is_new)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Score the model at every step that is a multiple of `every`."""
        if state.global_step % self.every == 0:
            self._score(args, state, control)

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Score the model at evaluations."""
        self._score(args, state, control)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Score the last step, and say what share of the training the scoring took."""
        self._score(args, state, control)
        whole = time.monotonic() - self._began
        if state.is_world_process_zero:
            share = self.seconds / whole if whole else 0.0
            _write(f"scoring took {self.seconds:.1f} s, {share:.1%} of the training's {whole:.0f} s")
            _write(f"look at the training: prefscope view {self.folder.path}")

    def _settings(self, state: TrainerState) -> ScoreSettings:
        """Return the settings of the run; rows that were given are written to a file, which `score` can read, too."""
        if isinstance(self._rows, (str, Path)):
            source = str(self._rows)
        else:
            path = self.folder.path / PAIRS_FILE
            if state.is_local_process_zero:
                make_folder(self.folder.path)
                with open_file(path) as stream:
                    stream.writelines(f"{json.dumps(row, ensure_ascii=False)}\n".encode() for row in self._rows)
            gather(lambda *_: {})  # the other ranks wait for it
            source = str(path)
        data = DataSettings(source, sample=self._data.sample, seed=self._data.seed)
        dates = [template_date_of(load_ledger(path).manifest) for path in self.folder.ledgers()[:1]]
        tokenization = replace(self._tokenization, template_date=next(filter(None, dates), None))  # as before a break
        return ScoreSettings(data, ModelSettings("live"), tokenization, self._compute)

    def _score(self, args: TrainingArguments, state: TrainerState, control: TrainerControl) -> None:
        """Score the model, write its ledger, and log its figures; a failure is reported, and the training goes on."""
        work = self._work
        if work is None or work.last == state.global_step:
            return
        started, work.last = time.monotonic(), state.global_step
        try:
            with lent(work.model):
                policy = work.pairs.score(work.model)
            if state.is_world_process_zero:
                self._keep(work, policy, state)
                work.log(args, state, control, time.monotonic() - started)
        except Exception as error:  # noqa: BLE001 (hours of training must not end because they could not be watched)
            if state.is_world_process_zero:
                problem = str(error).partition("\n")[0]
                self.folder.record(Step(state.global_step, "", problem=problem, epoch=state.epoch))
                _write(f"step {state.global_step:,} is not scored: {problem}")
        self.seconds += time.monotonic() - started

    def _keep(self, work: _Work, policy: Logps, state: TrainerState) -> None:
        """Write the ledger of a step to the run folder."""
        path = self.folder.ledger_path(state.global_step)
        name = str(getattr(work.model.module.config, "_name_or_path", "") or type(work.model.module).__name__)
        described = work.pairs.describe(work.model, f"{name} at step {state.global_step}", policy)
        models = {"policy": described, "ref": work.reference.described}
        work.pairs.write(path, policy, work.reference.logps, models, work.model.device)
        self.folder.record(Step(state.global_step, "", path.name, epoch=state.epoch))
        work.figures.add(load_ledger(path), state.global_step)


@dataclass(slots=True)
class _Work:
    """What belongs to one training."""

    trainer: Any
    pairs: LivePairs
    model: LanguageModel
    reference: Reference
    figures: Followed
    last: int | None = None
    """The step that was scored last."""

    def log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, seconds: float) -> None:
        """Log the figures of the last step through the trainer, so that its reporters show them, and print them."""
        logs = self.figures.logged()
        state.log_history.append({**logs, "step": state.global_step})
        wants_log = control.should_log  # the handler resets it, and the trainer's own figures may be due
        self.trainer.callback_handler.on_log(args, state, control, logs)
        control.should_log = wants_log
        for line in self.figures.lines(seconds):
            _write(line)


def _trainer_of(callback: PreferenceCallback) -> Any:
    """Return the trainer that a callback was added to, which trainers do not tell their callbacks.

    Raises:
        UsageError: It is not that of transformers, or not based on it.
    """
    for one in gc.get_objects():
        if isinstance(one, Trainer) and callback in one.callback_handler.callbacks:
            return one
    raise UsageError("A PreferenceCallback belongs to transformers' Trainer, or one that is based on it")


def _refuse_spread(trainer: Any, args: TrainingArguments) -> None:
    """Refuse trainings in which no process has the whole model.

    Raises:
        ModelError: The training is one of them.
    """
    plugin = getattr(trainer.accelerator.state, "deepspeed_plugin", None)
    stage = getattr(plugin, "zero_stage", 0) or 0
    fsdp = getattr(trainer, "is_fsdp_enabled", False) or bool(getattr(args, "fsdp", None))
    if stage >= 3 or fsdp:  # noqa: PLR2004 (ZeRO-3 splits the weights)
        raise ModelError(
            SPREAD.format(what="FSDP" if fsdp else "ZeRO-3"),
            hint="Remove the PreferenceCallback, and follow the training's checkpoints with `prefscope watch`.",
        )


def _vocabulary(model: LanguageModel, processing_class: Any) -> Vocabulary:
    """Return the tokenizer of a training, with the tokens that end a response and the model's context.

    Raises:
        UsageError: The trainer has no tokenizer.
    """
    tokenizer = getattr(processing_class, "tokenizer", processing_class)
    if tokenizer is None:
        raise UsageError("The trainer has no tokenizer", hint="Pass processing_class=… to the trainer.")
    ends = getattr(getattr(model.module, "generation_config", None), "eos_token_id", None)
    every = [tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])]
    end_tokens = frozenset(token for token in every if isinstance(token, int))
    own = copy.deepcopy(tokenizer)  # reading the pairs fixes the date of the chat template, which the trainer saves
    return Vocabulary(own, end_tokens, context_of(model.module.config))


def _say(state: TrainerState) -> Any:
    """Return a function that prints the notes of a run, on one rank."""

    def emit(event: Event) -> None:
        if isinstance(event, Noted) and state.is_world_process_zero:
            _write(event.text)

    return emit


def _write(text: str) -> None:
    sys.stderr.write(f"prefscope: {visible(text)}\n")
