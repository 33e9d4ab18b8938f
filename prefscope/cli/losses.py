"""`prefscope losses`."""

from __future__ import annotations

import typer

from prefscope.cli.options import AsJson


def losses(as_json: AsJson = False) -> None:
    """List every loss with its formula, source and parameters."""
    import json

    from prefscope.preference import losses as _losses  # noqa: F401 (registers the losses)
    from prefscope.preference.registry import listed_losses

    if as_json:
        described = {
            loss.name: {
                "title": loss.title,
                "formula": loss.formula,
                "source": loss.source,
                "convention": loss.convention,
                "needs_reference": loss.needs_reference,
                "population": loss.population or None,
                "parameters": {
                    knob.name: {"default": knob.default, "low": knob.low, "high": knob.high, "scale": knob.scale}
                    for knob in loss.parameters
                },
            }
            for loss in listed_losses()
        }
        typer.echo(json.dumps({"schema": 1, "losses": described}, ensure_ascii=False, indent=2))
        return
    typer.echo(
        "w: chosen, l: rejected; p: log-prob under the policy, q: under the reference, sums over scored tokens, nats;\n"
        "n: scored tokens; a = p_w − q_w, c = p_l − q_l; h = a − c; σ: logistic function; ε: label smoothing\n"
    )
    for loss in listed_losses():
        typer.echo(f"{loss.name}: {loss.title}{'' if loss.needs_reference else ' (no reference needed)'}")
        typer.echo(f"  formula  {loss.formula}")
        typer.echo(f"  source   {loss.source}")
        typer.echo(f"  takes    {loss.convention}")
        if loss.population:
            typer.echo(f"  of all   {loss.population}, over the whole ledger; over a trainer's batch the value differs")
        for knob in loss.parameters:
            typer.echo(f"  {knob.name} = {knob.default:g}, from {knob.low:g} to {knob.high:g}: {knob.meaning}")
        for name in loss.spellings:
            typer.echo(f"  {name}: alternative spelling of one of these")
        typer.echo("")
