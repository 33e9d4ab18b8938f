"""Run the doctor: score a sample of pairs as `score` would, and run the checks on the result."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from prefscope.errors import PrefscopeError, TemplateError, UsageError, VocabularyError
from prefscope.events import Event
from prefscope.ledger.table import load_ledger
from prefscope.pipeline import run
from prefscope.pipeline.doctor.verdict import Evidence, Tokenizers, Verdict, judge
from prefscope.preference.registry import resolve_parameters
from prefscope.settings import LossChoice, PreferenceSettings, ScoreSettings

JSON_SCHEMA = 1
NOISE_PAIRS = 4
"""Pairs computed twice. A few are enough, as the noise floor only has to be distinguished from the margins."""
MOST_PAIRS, FEWEST_PAIRS = 32, 8
"""Limits of the sample size if none is requested."""
FIRST_ROWS = 64
OPERATIONS_A_CORE = 1.5e12
"""Operations of one CPU core in half a minute, or a little less."""


@dataclass(frozen=True, slots=True)
class DoctorReport:
    """The results of the doctor's checks on a data set, a policy and a reference."""

    data: str
    policy: str
    ref: str
    pairs: int
    verdicts: tuple[Verdict, ...]

    @property
    def has_failed(self) -> bool:
        """Whether any check failed."""
        return any(verdict.state == "fail" for verdict in self.verdicts)

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "schema": JSON_SCHEMA,
            "data": self.data,
            "policy": self.policy,
            "ref": self.ref,
            "pairs": self.pairs,
            "checks": {
                one.name: {
                    "state": one.state,
                    "detail": one.detail,
                    "told": one.detail,  # the old name of `detail`, kept for scripts
                    "advice": one.advice,
                }
                for one in self.verdicts
            },
        }


def examine(settings: ScoreSettings, pairs: int | None, beta: float, emit: Callable[[Event], None]) -> DoctorReport:
    """Run the checks on a random sample of pairs.

    Args:
        settings: What to score and how.
        pairs: Size of the sample; None for as many pairs as take about a minute, from 8 to 32.
        beta: The beta of the DPO loss.
        emit: Called with every event of the run.

    Raises:
        UsageError: If there is to be no reference, or beta is out of range.
        PrefscopeError: As in `run.score`, except that a vocabulary mismatch and a missing chat template are reported by
            the checks.
    """
    if settings.models.ref == "none":
        raise UsageError("The doctor needs a reference, so it cannot run with --ref none", hint="Pass one with --ref.")
    resolve_parameters(LossChoice("dpo"), PreferenceSettings(beta))  # rejects an invalid beta before scoring
    settings = run.with_models(settings, emit)
    from prefscope.pipeline.doctor import checks as _checks  # noqa: F401 (registers the checks)

    pairs = pairs or _affordable(settings)
    asked = replace(
        settings,
        data=replace(settings.data, sample=pairs, skip_bad_rows=True),
        compute=replace(settings.compute, noise_pairs=min(pairs, NOISE_PAIRS), keep_tokens=False),
    )
    with tempfile.TemporaryDirectory(prefix="prefscope-") as folder:
        path, refusal = Path(folder) / "sample.parquet", None
        try:
            run.score(asked, lambda _: path, emit)
        except (VocabularyError, TemplateError) as error:
            refusal = error
        ledger = None if refusal is not None else load_ledger(path)
        verdicts = judge(Evidence(_compare_tokenizers(asked), _oddities(asked), refusal, ledger, beta))
        found = 0 if ledger is None else ledger.num_pairs
    models = asked.models
    return DoctorReport(asked.data.source, models.policy, models.ref or "its base model", found, verdicts)


def _affordable(settings: ScoreSettings) -> int:
    """Return how many pairs a CPU scores in half a minute, estimated from the length of the first rows."""
    from prefscope.pipeline.reader import read_pairs
    from prefscope.pipeline.spool import Spool
    from prefscope.scoring import models as loading
    from prefscope.scoring.checkpoints import resolve
    from prefscope.scoring.headers import num_weights

    few = replace(settings, data=replace(settings.data, limit=FIRST_ROWS, skip_bad_rows=True))
    try:
        if settings.data.source == "-" or loading.pick_device(settings.models.device).type != "cpu":
            return MOST_PAIRS  # standard input can only be read once
        policy, ref = resolve(settings.models, lambda _: None)
        with closing(Spool(None)) as spool:
            read_pairs(few, policy, ref, spool, lambda _: None)
            tokens = float(spool.facts.tokens.mean())
    except PrefscopeError:  # the run itself will raise and report it
        return MOST_PAIRS
    weights = sum(num_weights(one.full) or 0 for one in (policy, ref) if one is not None)
    room = OPERATIONS_A_CORE * (settings.compute.threads or os.cpu_count() or 1)
    return int(min(max(room / max(2 * weights * tokens, 1) - NOISE_PAIRS, FEWEST_PAIRS), MOST_PAIRS))


def _oddities(settings: ScoreSettings) -> dict[str, str]:
    """Return what is unusual about the checkpoints, by the name of the check that reports it."""
    from prefscope.scoring.checkpoints import resolve
    from prefscope.scoring.inspection import inspect

    return {oddity.name: oddity.what for oddity in inspect(*resolve(settings.models, lambda _: None))}


def _compare_tokenizers(settings: ScoreSettings) -> Tokenizers:
    """Compare the tokenizers and chat templates of the two models."""
    from prefscope.scoring import models as loading
    from prefscope.scoring.checkpoints import resolve

    policy, ref = resolve(settings.models, lambda _: None)
    ours = loading.load_tokenizer(policy, settings.models)
    theirs = None if ref is None else loading.load_tokenizer(ref, settings.models)
    if settings.tokenization.chat_template is not None:
        templates = "from option"
    elif ours is None or theirs is None:
        templates = "same"
    elif not theirs.chat_template:
        templates = "none in the reference"
    else:
        hashes = {loading.template_hash(tokenizer, None) for tokenizer in (ours, theirs)}
        templates = "same" if len(hashes) == 1 else "differing"
    differing = {} if ours is None or theirs is None else loading.differing_ids(ours, theirs)
    return Tokenizers(len(differing), templates)  # type: ignore[arg-type]
