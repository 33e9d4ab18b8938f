"""`prefscope losses`."""

from __future__ import annotations

from typing import Annotated

import typer


def losses(as_json: Annotated[bool, typer.Option("--json", help="Print them as one JSON object.")] = False) -> None:
    """List every loss with its formula, source and parameters."""
    import json

    from prefscope.preference import losses as _losses  # noqa: F401 (registers the losses)
    from prefscope.preference.registry import LOSSES

    if as_json:
        described = {
            loss.name: {
                "title": loss.title,
                "formula": loss.formula,
                "source": loss.source,
                "needs_reference": loss.needs_reference,
                "parameters": {
                    knob.name: {"default": knob.default, "low": knob.low, "high": knob.high, "scale": knob.scale}
                    for knob in loss.parameters
                },
            }
            for loss in LOSSES.values()
        }
        typer.echo(json.dumps({"schema": 1, "losses": described}, ensure_ascii=False, indent=2))
        return
    typer.echo(
        "a, c: log-ratios of chosen and rejected (policy − reference, nats); h = a − c; n: scored tokens;\n"
        "σ: logistic function; ε: label smoothing\n"
    )
    for loss in LOSSES.values():
        typer.echo(f"{loss.name}: {loss.title}{'' if loss.needs_reference else ' (no reference needed)'}")
        typer.echo(f"  formula  {loss.formula}")
        typer.echo(f"  source   {loss.source}")
        for knob in loss.parameters:
            typer.echo(f"  {knob.name} = {knob.default:g}, from {knob.low:g} to {knob.high:g}: {knob.meaning}")
        typer.echo("")
