"""Simulated ledgers with a planted fault, at the strength where it matters, and the same without it.

The columns of a pair follow a policy that was trained on labels by Bradley and Terry: a pair's quality gap gives its
label and, with noise, its margin. Lengths are log-normal with a median of 100 tokens. Every fault is one function that
changes the columns; `absent` is the case that resembles it most without being it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prefscope.preference.diagnostics import DIAGNOSTICS, Conclusion, concentration, token_shares

Values = NDArray[np.float64]
Draw = np.random.Generator
BETA = 0.1
TOKENS = 40
"""Tokens of a response, for the fault that one token decides."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What is planted, and the diagnostic that should find it."""

    diagnostic: str
    planted: str
    """The fault and its strength."""
    absent: str
    """What is there instead."""
    conclude: Callable[[Draw, int, bool], Conclusion]
    """Returns the conclusion for a number of pairs, with or without the fault."""
    pairs: int = 200
    """Number of pairs among which the fault should be found."""


def logratios(
    draw: Draw,
    pairs: int,
    *,
    gap: float = 3.0,
    noise: float = 1.0,
    shift: float = 0.0,
    common: float = 4.0,
    certain: bool = False,
) -> tuple[Values, Values]:
    """Return the log-ratios a and c, in nats.

    Args:
        draw: Random numbers.
        pairs: Number of pairs.
        gap: Standard deviation of h from the qualities of the responses; 0 for a policy that learnt nothing.
        noise: Standard deviation of h from elsewhere.
        shift: Mean of (a + c)/2.
        common: Standard deviation of (a + c)/2.
        certain: Whether labels follow the better response always, rather than with the probability σ(quality gap).
    """
    quality = draw.normal(0, 3, pairs)
    right = (quality > 0) if certain else draw.random(pairs) < 1 / (1 + np.exp(-quality))
    h = np.where(right, 1, -1) * (gap * quality / 3 + draw.normal(0, noise, pairs))
    middle = draw.normal(shift, common, pairs)
    return middle + h / 2, middle - h / 2


def lengths(draw: Draw, pairs: int) -> tuple[Values, Values]:
    """Return n_w and n_l, in tokens."""
    drawn = np.ceil(np.exp(draw.normal(np.log(100), 0.6, (2, pairs))))
    return drawn[0], drawn[1]


def concluded(name: str, *columns: Any, **more: Any) -> Conclusion:
    """Return what a diagnostic concludes from its columns."""
    return DIAGNOSTICS[name].measure(*columns, **more).conclude()


def _exchanged(draw: Draw, pairs: int, fault: bool) -> Conclusion:
    a, c = logratios(draw, pairs, gap=3.0 if fault else 0.0)
    a, c = (-a, -c) if fault else (a, c)
    return concluded("reference", a, c, lengths(draw, pairs)[0])


def _wrong_reference(draw: Draw, pairs: int, fault: bool) -> Conclusion:
    a, c = logratios(draw, pairs)
    n_w, n_l = lengths(draw, pairs)
    gain = 0.4 if fault else 0.1
    return concluded(
        "reference", a + n_w * draw.normal(gain, 0.15, pairs), c + n_l * draw.normal(gain, 0.15, pairs), n_w
    )


def _displacement(draw: Draw, pairs: int, fault: bool) -> Conclusion:
    a, c = logratios(draw, pairs, shift=-6.0) if fault else logratios(draw, pairs, gap=0.0)
    return concluded("displacement", a, c)


def _length_bias(draw: Draw, pairs: int, fault: bool) -> Conclusion:
    a, c = logratios(draw, pairs)
    n_w, n_l = lengths(draw, pairs)
    return concluded("length_bias", BETA * (a - c + fault * 0.025 * (n_w - n_l)), n_w, n_l)


def _ranking(draw: Draw, pairs: int, fault: bool) -> Conclusion:
    a, c = logratios(draw, pairs, gap=6.0 if fault else 0.0)
    n_w, n_l = lengths(draw, pairs)
    ref = (-1.5 * n_w, -1.5 * n_l)
    return concluded("ranking", ref[0] + a, ref[1] + c, *ref, n_w, n_l)


def _calibration(times: float) -> Callable[[Draw, int, bool], Conclusion]:
    def conclude(draw: Draw, pairs: int, fault: bool) -> Conclusion:
        a, c = logratios(draw, pairs, noise=0.0)
        return concluded("calibration", (a - c) * (times if fault else 1.0), beta=1.0)

    return conclude


def flipped_margins(
    draw: Draw, pairs: int, share: float, *, scale: float = 0.1, noise: float = 0.0
) -> tuple[Values, NDArray[np.bool_]]:
    """Return margins of pairs with a share of flipped labels, and which are flipped; see `logratios` for the noise."""
    a, c = logratios(draw, pairs, noise=noise)
    flipped = draw.random(pairs) < share
    return scale * (a - c) * np.where(flipped, -1, 1), flipped


def _flips(draw: Draw, pairs: int, fault: bool) -> Conclusion:
    margins, _ = flipped_margins(draw, pairs, 0.2 if fault else 0.0)
    return concluded("flips", margins, *lengths(draw, pairs))


def _few_pairs(draw: Draw, pairs: int, fault: bool) -> Conclusion:
    a, c = logratios(draw, pairs, certain=fault)
    margins = (a - c) / 4 + fault * 8.0
    margins[draw.random(pairs) < fault * 0.05] = -2.0
    return _weights(margins)


def _saturated(draw: Draw, pairs: int, fault: bool) -> Conclusion:
    return _weights(draw.normal(9.0 if fault else 3.0, 1.0, pairs))


def _weights(margins: Values) -> Conclusion:
    return concluded("gradient_weights", BETA / (1 + np.exp(margins)), initial=BETA / 2)


def _tokens(where: str) -> Callable[[Draw, int, bool], Conclusion]:
    """Return a fault where some tokens decide: the first that differ, the shared last, or a few anywhere.

    Without it, the change of every token is drawn alike, and the policy has learnt next to nothing, so that any token's
    share of the mean margin is as good as undefined.
    """

    def conclude(draw: Draw, pairs: int, fault: bool) -> Conclusion:
        found = []
        for _ in range(pairs):
            changes = draw.normal(0, 0.3, (2, TOKENS))
            changes[0] += 0.02
            if fault and where == "first":
                changes[0, 0] += draw.normal(3.0, 1.0)
            if fault and where == "last":
                changes[0, -1] += draw.normal(1.5, 0.5)
            if fault and where == "few":
                changes[draw.integers(2, size=4), draw.integers(TOKENS, size=4)] += draw.normal(0, 12.0, 4)
            words = [[f"{side}{at}" for at in range(TOKENS - 1)] + ["."] for side in "wl"]
            found.append(token_shares(words[0], words[1], changes[0], changes[1]))
        return concentration([one for one in found if one is not None]).conclude()

    return conclude


FAULTS: Mapping[str, Fault] = {
    "exchanged models": Fault(
        "reference", "policy and reference exchanged, 81% would be right", "a policy that learnt nothing", _exchanged
    ),
    "wrong reference": Fault(
        "reference", "chosen tokens gain 0.4 nats over a base model", "they gain 0.1 nats", _wrong_reference
    ),
    "displacement": Fault(
        "displacement", "both responses fall by 6 nats (sd 4)", "both move at random, alike", _displacement
    ),
    "length bias": Fault(
        "length_bias", "a token of difference adds 0.025 nats, r about 0.6", "no effect of length", _length_bias
    ),
    "ranking": Fault("ranking", "the reference ranks by length, h is small beside it", "nothing learnt", _ranking),
    "small margins": Fault("calibration", "a tenth of the log-odds", "margins are the log-odds", _calibration(0.1)),
    "large margins": Fault("calibration", "five times the log-odds", "margins are the log-odds", _calibration(5.0)),
    "flipped labels": Fault("flips", "20% flipped", "labels by Bradley and Terry", _flips, pairs=1000),
    "few pairs decide": Fault(
        "gradient_weights", "5% of the pairs are wrong, the others far right", "margins of 0.75 (sd)", _few_pairs
    ),
    "saturated loss": Fault("gradient_weights", "margins of 9 (sd 1)", "margins of 3 (sd 1)", _saturated),
    "first tokens": Fault("concentration", "3 nats of 3.8 in the first token", "all tokens alike", _tokens("first")),
    "shared ending": Fault("concentration", "1.5 nats of 2.3 in the last token", "all tokens alike", _tokens("last")),
    "few tokens": Fault("concentration", "4 of 80 tokens change by 12 nats (sd)", "all tokens alike", _tokens("few")),
}
"""The planted faults by name."""


def warnings(fault: Fault, *, seed: int, times: int, pairs: int, planted: bool) -> float:
    """Return the share of simulations in which the diagnostic warns."""
    draws = [np.random.default_rng((seed, at)) for at in range(times)]
    return sum(fault.conclude(draw, pairs, planted).warns for draw in draws) / times
