"""The diagnosis of a ledger: every diagnostic's figures, conclusion, and the pairs it is about."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prefscope.ledger.table import Ledger
from prefscope.ledger.view import View
from prefscope.preference.diagnostics import DIAGNOSTICS, Conclusion, Diagnostic, Figures, Flips, token_shares
from prefscope.report.summary import finite_pairs

WEIGHTS = "weights"
"""Name of an input: the gradient weights of the first loss."""
MOST_READ = 2000
"""Limit of pairs whose tokens are read; in a larger ledger they are spread evenly."""
SIDES = ("chosen", "rejected")


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one diagnostic."""

    diagnostic: Diagnostic
    figures: Figures
    conclusion: Conclusion
    about: str
    """Describes the pairs it is about; empty if there are none."""
    expression: str
    """Filter expression for these pairs."""

    def to_json(self) -> dict[str, Any]:
        """Return the figures and the conclusion as JSON values."""
        meaning = asdict(self.conclusion) | {"about": self.about, "where": self.expression}
        return asdict(self.figures) | meaning  # type: ignore[call-overload,no-any-return]  # figures are dataclasses


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All findings, over the pairs with finite log-probs."""

    pairs: int
    left_out: int
    """Pairs with a log-prob that is not finite; they are flagged."""
    findings: tuple[Finding, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the figures of every finding, by name."""
        found = {one.diagnostic.name: one.to_json() for one in self.findings}
        return {"pairs": self.pairs, "left_out": self.left_out, **found}


def diagnose(view: View, *, tokens: bool = True) -> Diagnosis:
    """Return the findings of every diagnostic whose columns this ledger has.

    Args:
        view: The ledger with beta and losses.
        tokens: Whether to read tokens, for the diagnostics that need them.
    """
    finite = finite_pairs(view.ledger)
    found = [_finding(view, one, finite) for one in DIAGNOSTICS.values() if _is_possible(view, one)]
    if tokens and (read := token_finding(view.ledger)) is not None:
        found.append(read)
    left_out = int(np.count_nonzero(view.ledger.is_known & ~finite))
    return Diagnosis(int(np.count_nonzero(finite)), left_out, tuple(found))


def finding_of(view: View, diagnostic: Diagnostic) -> Finding | None:
    """Return the finding of one diagnostic that needs no tokens; None if this ledger does not have its columns."""
    return _finding(view, diagnostic, finite_pairs(view.ledger)) if _is_possible(view, diagnostic) else None


def _is_possible(view: View, diagnostic: Diagnostic) -> bool:
    needed = set(diagnostic.inputs) - {WEIGHTS}
    has_loss = bool(view.ledger.usable_losses(view.preferences))
    return needed <= view.names.kinds.keys() and (has_loss or WEIGHTS not in diagnostic.inputs)


def _finding(view: View, diagnostic: Diagnostic, finite: NDArray[np.bool_]) -> Finding:
    columns = [view.column(_weight(view) if name == WEIGHTS else name) for name in diagnostic.inputs]
    known = finite & np.isfinite(columns[0]) if WEIGHTS in diagnostic.inputs else finite
    more = _MORE.get(diagnostic.name, _nothing)(view, known)
    figures = diagnostic.measure(*(column[known] for column in columns), **more)
    about, expression = _PAIRS.get(diagnostic.name, _no_pairs)(view, figures)
    return Finding(diagnostic, figures, figures.conclude(), about, expression)


def _weight(view: View) -> str:
    return f"{view.ledger.usable_losses(view.preferences)[0].name}_weight"


def _nothing(_: View, __: NDArray[np.bool_]) -> dict[str, Any]:
    return {}


def _beta(view: View, _: NDArray[np.bool_]) -> dict[str, Any]:
    return {"beta": view.preferences.beta}


def _first_weight(view: View, known: NDArray[np.bool_]) -> dict[str, Any]:
    """Return the mean gradient weight for a policy that equals the reference."""
    if not view.ledger.has_reference or not known.any():
        return {}
    weights = view.ledger.first_loss_weight(view.ledger.usable_losses(view.preferences)[0], view.preferences)
    return {"initial": float(np.abs(weights[known]).mean())}


def _models(view: View, _: NDArray[np.bool_]) -> dict[str, Any]:
    """Return whether the manifest names the policy as the base of the reference, and whether pairs were selected."""
    models = view.ledger.manifest.get("models", {})
    policy, ref = models.get("policy", {}), models.get("ref", {})
    base = ref.get("base")
    exchanged = base is not None and policy.get("base") is None and base == policy.get("name")
    return {"is_exchanged": exchanged, "is_part": view.ledger.num_pairs < view.ledger.num_pairs_in_file}


_MORE: Mapping[str, Callable[[View, NDArray[np.bool_]], dict[str, Any]]] = {
    "calibration": _beta,
    "gradient_weights": _first_weight,
    "reference": _models,
}
"""Further arguments of a diagnostic, from the view and the pairs that it is measured over."""


def token_finding(ledger: Ledger) -> Finding | None:
    """Return the finding about tokens, over all pairs or a sample, or None if the ledger has no tokens."""
    if not (ledger.has_reference and ledger.has_tokens):
        return None
    names = [f"{role}_{side}_token_logps" for side in SIDES for role in ("policy", "ref")]
    shares = []
    for group in ledger.read([*names, "chosen_tokens", "rejected_tokens"], MOST_READ):
        if not {*names} <= group.keys():  # while a run is in progress, they are only in the store
            return None
        for at, (chosen, rejected) in enumerate(zip(group["chosen_tokens"], group["rejected_tokens"], strict=True)):
            logps = [np.array(group[name][at] or (), dtype=np.float64) for name in names]
            with np.errstate(invalid="ignore"):
                found = token_shares(chosen or (), rejected or (), logps[0] - logps[1], logps[2] - logps[3])
            shares += [found] if found else []
    diagnostic = DIAGNOSTICS["concentration"]
    figures = diagnostic.measure(shares)
    return Finding(diagnostic, figures, figures.conclude(), "", "")


def _no_pairs(_: View, __: Any) -> tuple[str, str]:
    return "", ""


def _suspects(view: View, figures: Any) -> tuple[str, str]:
    if not figures.suspects:
        return "", ""
    is_whole = view.ledger.num_pairs == view.ledger.num_pairs_in_file  # which is what the column is computed from
    return "more likely flipped than not", "flip_posterior > 0.5" if is_whole else _below(figures)


def _below(figures: Flips) -> str:
    """Return the expression for the suspects of a fit to some of the pairs."""
    longer = f" + {figures.per_token!r} * (chosen_num_tokens - rejected_num_tokens)" if figures.per_token else ""
    return f"margins{longer} < {figures.threshold!r}"


def _won_by_length(_: View, figures: Any) -> tuple[str, str]:
    known = not math.isnan(figures.slope)
    return ("right only by length", "margins > 0 and residual_margins <= 0") if known else ("", "")


def _carriers(view: View, figures: Any) -> tuple[str, str]:
    known = figures.carriers > 0
    return ("with half of the gradient", f"abs({_weight(view)}) >= {figures.threshold!r}") if known else ("", "")


_PAIRS: Mapping[str, Callable[[View, Any], tuple[str, str]]] = {
    "displacement": lambda *_: ("won by lowering both", "margins > 0 and chosen_logratios < 0"),
    "length_bias": _won_by_length,
    "ranking": lambda *_: (
        "right by reward alone",
        "margins > 0 and policy_chosen_logps <= policy_rejected_logps",
    ),
    "calibration": lambda *_: ("ranked wrong", "margins < 0"),
    "flips": _suspects,
    "gradient_weights": _carriers,
}
"""Describes the pairs that each finding is about, and the expression that selects them."""
