"""`prefscope score` with several policies: one ledger each, the reference computed once, and a comparison."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path, PurePath

import typer

from prefscope.errors import UsageError
from prefscope.settings import PreferenceSettings, ScoreSettings


def score_several(
    settings: ScoreSettings,
    policies: Sequence[str],
    outputs: Sequence[str],
    preferences: PreferenceSettings,
    *,
    as_json: bool,
) -> None:
    """Score the data set with each policy in turn, then print a comparison.

    Args:
        settings: Settings shared by all runs; the policy is replaced.
        policies: Two or more checkpoints, in the order of training.
        outputs: The folder to write ledgers to; empty for the default location.
        preferences: Beta and losses of the comparison.
        as_json: Print the comparison as one JSON object.

    Raises:
        UsageError: A policy is repeated, the output is not a folder, or the data are on standard input.
    """
    from prefscope.cli.output import print_compared
    from prefscope.cli.progress import RunProgress
    from prefscope.ledger.pairing import load_runs
    from prefscope.pipeline import run
    from prefscope.pipeline.shared_store import shared_store
    from prefscope.report.compared import compare_runs

    folder = _folder(outputs)
    if len({*policies}) < len(policies):
        raise UsageError("A policy is named twice", hint="Name each once.")
    if settings.data.source == "-":
        raise UsageError("Standard input can be read only once, not for several policies", hint="Save it to a file.")
    ledgers = []
    with shared_store(settings) as shared:
        for policy, name in zip(policies, ledger_names(policies), strict=True):
            own = replace(shared, models=replace(shared.models, policy=policy))
            with RunProgress() as progress:
                ledgers.append(run.score(own, _place(settings, folder, name), progress))
    print_compared(compare_runs(load_runs(ledgers), preferences), as_json=as_json)
    paths = " ".join(shlex.quote(str(path)) for path in ledgers)
    typer.echo(f"\nopen them: prefscope view {paths}", err=True)


def _folder(outputs: Sequence[str]) -> Path | None:
    """Return the folder named by -o, or None without it.

    Raises:
        UsageError: It is not a folder, or there are several.
    """
    if not outputs:
        return None
    if len(outputs) > 1 or PurePath(outputs[0]).suffix or outputs[0] == "-":
        raise UsageError(
            f"Several policies write several ledgers, but {outputs[-1]!r} is not a folder",
            hint="Pass one folder with -o; `prefscope export` writes tables.",
        )
    return Path(outputs[0])


def _place(settings: ScoreSettings, folder: Path | None, name: str) -> Callable[[str], Path]:
    from prefscope.folders import unnamed_ledger

    if folder is not None:
        return lambda _: folder / f"{name}.parquet"
    return lambda run_name: unnamed_ledger(settings.data.source, run_name)


def ledger_names(policies: Sequence[str]) -> list[str]:
    """Return a file name for each policy: the last parts of its path, as many as it takes to be unique.

    >>> ledger_names(["run/ckpt-1", "run/ckpt-2"]), ledger_names(["a/final", "b/final"])
    (['ckpt-1', 'ckpt-2'], ['a-final', 'b-final'])
    """
    parts = [[part for part in PurePath(policy).parts if part not in ("/", ".", "..")] for policy in policies]
    names = []
    for policy, one in zip(policies, parts, strict=True):
        tails = (one[-depth:] for depth in range(1, len(one) + 1))
        unlike = (tail for tail in tails if sum(other[-len(tail) :] == tail for other in parts) == 1)
        names.append("-".join(next(unlike, [policy.replace("/", "-")])))
    return names
