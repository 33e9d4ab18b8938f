"""Options that several commands share, and the settings they make."""

from __future__ import annotations

from typing import Annotated

import typer

from prefscope.settings import DEFAULT_LOSSES, LossChoice, PreferenceSettings

Beta = Annotated[
    float,
    typer.Option(
        "--beta", envvar="PREFSCOPE_BETA", help="Scale of the rewards, and beta of the losses with a reference."
    ),
]
SimpoBeta = Annotated[float, typer.Option("--simpo-beta", envvar="PREFSCOPE_SIMPO_BETA", help="SimPO's beta.")]
SimpoGamma = Annotated[
    float, typer.Option("--simpo-gamma", envvar="PREFSCOPE_SIMPO_GAMMA", help="SimPO's target margin gamma.")
]
Losses = Annotated[
    list[str] | None,
    typer.Option(
        "--loss",
        envvar="PREFSCOPE_LOSS",
        metavar="NAME[:P=V,...]",
        help="A loss, repeatable: simpo:gamma=0.8. Default: dpo, ipo, simpo. `prefscope losses` lists them.",
        show_default=False,
    ),
]
Weights = Annotated[bool, typer.Option("--weights", help="Give each loss's gradient weight too.")]
Texts = Annotated[bool, typer.Option("--texts", help="Export prompt, chosen and rejected too.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the summary as one JSON object.")]


def read_preferences(
    beta: float, simpo_beta: float, simpo_gamma: float, losses: list[str] | None, *, weights: bool
) -> PreferenceSettings:
    """Return the knobs that the options ask for; a parameter written at a loss goes before the common option.

    Raises:
        UsageError: A loss or parameter is unknown or out of range.
    """
    from prefscope.preference import losses as _losses  # noqa: F401 (registers the losses)
    from prefscope.preference.registry import parse_choice, resolve_parameters

    asked = tuple(parse_choice(text) for text in losses) if losses else DEFAULT_LOSSES
    common = {"simpo": {"beta": simpo_beta, "gamma": simpo_gamma}}
    choices = tuple(LossChoice(c.name, {**common.get(c.name, {}), **c.parameters}) for c in asked)
    preferences = PreferenceSettings(beta=beta, losses=choices, weights=weights)
    for choice in choices:
        resolve_parameters(choice, preferences)
    return preferences
