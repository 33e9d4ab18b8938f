"""The reference: whether policy and reference are exchanged, or the reference is not what training started from."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from prefscope.preference.diagnostics.diagnostic import CHANCE, NOTHING, Conclusion, Diagnostic, Values
from prefscope.statistics import upper_tail, wilson_interval

SFT_NATS = 0.5
"""DPO moves a response by less than this per token: by 0.02 to 0.15 nats on the bundled models, more often down than
up. Supervised fine-tuning, which separates a base model from the right reference, raises the chosen responses by
more."""
MUCH_NATS = 0.2
"""The same, where it is worth a look."""


@dataclass(frozen=True, slots=True)
class Reference:
    """How policy and reference compare with the labels and with each other."""

    pairs: int
    """Number of pairs."""
    right: int
    """Pairs with a > c."""
    wrong: int
    """Pairs with a < c."""
    accuracy: float
    """Share of a > c among all pairs."""
    accuracy_low: float
    accuracy_high: float
    """95% Wilson interval."""
    shift: float
    """Median a/n_w: what a chosen token has gained over the reference, in nats; nan if no length is known."""
    counted: int
    """Pairs of known length."""
    shifted: int
    """Pairs with a/n_w above 0.2 nats."""
    is_exchanged: bool
    """Whether the policy is the base of the reference, which is an adapter."""
    is_part: bool
    """Whether these are some pairs of a run: a selection can have any accuracy, so it says nothing about the models."""

    def conclude(self) -> Conclusion:
        """Conclude whether the margins have the wrong sign or the wrong reference."""
        if not self.pairs:
            return NOTHING
        bounds = f"{100 * self.accuracy_low:.0f}–{100 * self.accuracy_high:.0f}"
        figure = f"{self.accuracy:.1%} ({bounds}) right"
        if self.is_exchanged:
            sentence = "The policy is the base of the reference, an adapter: exchange them, every margin is negated"
            return Conclusion(figure, sentence, warns=True)
        if self.is_part:
            return Conclusion(figure, "Judged over all pairs only: a selection can have any accuracy")
        if upper_tail(self.wrong, self.right + self.wrong, 0.5) < CHANCE:
            flipped = f"with policy and reference exchanged, {self.wrong / self.pairs:.0%} would be right"
            sentence = f"The policy prefers the rejected responses: {flipped}; with the labels exchanged, too"
            return Conclusion(figure, sentence, warns=True)
        if upper_tail(self.shifted, self.counted, 0.5) < CHANCE:
            sentence = (
                f"A chosen token gains {self.shift:.2f} nats, which points to supervised fine-tuning: is the reference "
                "the checkpoint that training started from?"
            )
            return Conclusion(figure, sentence, warns=True)
        gained = "" if math.isnan(self.shift) else f": a chosen token gains {self.shift:+.3f} nats"
        return Conclusion(figure, f"Policy and reference look like before and after preference training{gained}")


def reference(
    chosen_logratios: Values,
    rejected_logratios: Values,
    chosen_num_tokens: Values,
    *,
    is_exchanged: bool = False,
    is_part: bool = False,
) -> Reference:
    """Measure how often the policy agrees with the labels, and how much it gained on chosen tokens.

    Args:
        chosen_logratios: a, in nats; only finite values. Shape (pairs,).
        rejected_logratios: c, the same.
        chosen_num_tokens: n_w; pairs with nan or 0 (unknown) are excluded from the shift.
        is_exchanged: Whether the policy is known to be the base of the reference.
        is_part: Whether the pairs were selected.
    """
    a, c = chosen_logratios, rejected_logratios
    right, wrong = int(np.count_nonzero(a > c)), int(np.count_nonzero(a < c))
    low, high = wilson_interval(right, a.size)
    counted = chosen_num_tokens > 0
    per_token = a[counted] / chosen_num_tokens[counted]
    return Reference(
        pairs=a.size,
        right=right,
        wrong=wrong,
        accuracy=right / a.size if a.size else math.nan,
        accuracy_low=low,
        accuracy_high=high,
        shift=float(np.median(per_token)) if per_token.size else math.nan,
        counted=per_token.size,
        shifted=int(np.count_nonzero(per_token > MUCH_NATS)),
        is_exchanged=is_exchanged,
        is_part=is_part,
    )


REFERENCE = Diagnostic(
    name="reference",
    title="Reference",
    formula=f"right: a > c; gain of a chosen token: median a/n_w, and the pairs where it is above {MUCH_NATS:g} nats",
    source=(
        "derived; DPO moves chosen responses little per token, and mostly down: Razin et al. 2024, arXiv 2410.08847; "
        "Pal et al. 2024, arXiv 2402.13228"
    ),
    rule=(
        "a warning if the policy is the base of the reference, if fewer than half of the pairs are right, or if most "
        f"chosen responses gain above {MUCH_NATS:g} nats per token, both over all pairs and beyond chance (exact "
        "binomial tests); an unrelated reference under which chosen responses are as likely cannot be seen in a ledger"
    ),
    basis=(
        'DPO moves the bundled models by 0.02 to 0.15 nats per token; simulations "exchanged models" and "wrong '
        'reference"'
    ),
    measure=reference,
)
