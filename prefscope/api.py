"""The Python API: `prefscope.score`, for notebooks and scripts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from prefscope.events import Event
from prefscope.folders import unnamed_ledger
from prefscope.ledger.table import Ledger, load_ledger
from prefscope.settings import (
    ComputeSettings,
    DataSettings,
    DispatchSettings,
    ModelSettings,
    ScoreSettings,
    TokenizationSettings,
)


def score(
    data: str | Path,
    policy: str | Path | None = None,
    ref: str | Path | None = None,
    *,
    data_settings: DataSettings | None = None,
    model_settings: ModelSettings | None = None,
    tokenization: TokenizationSettings | None = None,
    compute: ComputeSettings | None = None,
    dispatch: DispatchSettings | None = None,
    output: str | Path | None = None,
    emit: Callable[[Event], None] = lambda _: None,
) -> Ledger:
    """Score a preference data set and return its ledger.

    Args:
        data: A file or a hub id.
        policy: A checkpoint folder, an adapter folder, a GGUF file or a hub id. None: the models of `model_settings`;
            if they name none, the log-probs in the file, or the bundled tiny models if it has none.
        ref: The same, or `base`, `adapter-off` or `none`; None means the base of an adapter.
        data_settings: Which rows to read, and how; its source is replaced by `data`.
        model_settings: How to load models; `policy` and `ref` replace its policy and reference if either is passed.
        tokenization: How to convert texts to tokens.
        compute: Batches, caching and other settings of the computation.
        dispatch: Where to compute: in several processes, or on a Ray cluster.
        output: Path of the ledger; None for a file in the user's data folder.
        emit: Called with every event of the run.

    Raises:
        PrefscopeError: Anything that a user can fix; the message says how.

    >>> from prefscope import sample_data, score
    >>> folder = sample_data()
    >>> ledger = score(folder / "pairs.jsonl", folder / "tiny-policy", folder / "tiny-ref")  # doctest: +SKIP
    """
    from prefscope.pipeline import run

    models = model_settings or ModelSettings("")
    if policy is not None or ref is not None:
        models = replace(models, policy=str(policy or ""), ref=None if ref is None else str(ref))
    settings = ScoreSettings(
        data=replace(data_settings or DataSettings(""), source=str(data)),
        models=models,
        tokenization=tokenization or TokenizationSettings(),
        compute=compute or ComputeSettings(),
        dispatch=dispatch or DispatchSettings(),
    )

    def place(run_name: str) -> Path:
        return Path(output) if output is not None else unnamed_ledger(str(data), run_name)

    return load_ledger(run.score(settings, place, emit))
