"""Power and false alarms of every diagnostic, on planted faults.

    python -m tests.benchmarks.power [--times 200] [--ledgers LEDGER ...]

Method: `tests/unit/preference/planted.py` simulates data sets with a fault and without it, at the strength that its
table states; each cell is the share of `--times` simulations in which the diagnostic warns. Power is that share with
the fault, a false alarm a warning without it, also in small samples. The share of flipped labels is recovered on
simulated margins, and on the bundled ledgers (SmolLM2-135M-Instruct, its DPO adapter after 12 and 36 steps, 170 pairs),
where labels are flipped by exchanging the log-probs of chosen and rejected responses; the pairs that are known to be
flipped or contradicting are left out. The adapter was not trained on the flipped labels. Precision and recall are those
of a posterior above one half. Duplicates are planted in texts, for `prefscope lint`. With `--ledgers`, nothing else is
done than to flip labels in all pairs of these ledgers together.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prefscope.data.checks import lint_pairs
from prefscope.data.records import PreferencePair
from prefscope.ledger.table import load_ledger
from prefscope.ledger.view import View
from prefscope.preference.diagnostics import fit_noise
from prefscope.settings import PreferenceSettings
from tests.unit.data.checked import pair
from tests.unit.preference.planted import FAULTS, Values, flipped_margins, warnings

SMALL = (2, 3, 5, 10, 30)
NOISES = (0.0, 0.02, 0.05, 0.1, 0.2)
SIMULATED: Mapping[str, Mapping[str, float]] = {
    "strong policy": {"scale": 5.0, "noise": 0.0},
    "trained lightly": {"scale": 0.05, "noise": 0.0},
    "weak policy": {"scale": 0.05, "noise": 3.0},
}
"""Policies by the size of their margins and by their noise, as large as the margins in the weak one; 3,000 pairs."""
SAMPLES = Path(__file__).parents[2] / "sample_data"


def faults(times: int) -> Iterator[str]:
    """Yield the table of power and false alarms."""
    sizes = (*SMALL, 200)
    yield f"| fault | planted | absent | pairs | power | false alarms, {', '.join(map(str, sizes))} pairs |"
    yield "|---|---|---|---:|---:|---:|"
    for name, fault in FAULTS.items():
        power = warnings(fault, seed=1, times=times, pairs=fault.pairs, planted=True)
        alarms = [warnings(fault, seed=2, times=times, pairs=size, planted=False) for size in sizes]
        listed = ", ".join(f"{one:.1%}" for one in alarms)
        yield f"| {name} | {fault.planted} | {fault.absent} | {fault.pairs:,} | {power:.1%} | {listed} |"


def duplicates(times: int, pairs: int = 200) -> str:
    """Return a line about duplicated pairs, found by their texts."""

    def found(seed: int, copies: int) -> tuple[set[int], set[int]]:
        draw = np.random.default_rng(seed)
        rows = [pair(row + 1000 * seed) for row in range(pairs)]
        data = [PreferencePair(at, at + 1, one.prompt, one.chosen, one.rejected) for at, one in enumerate(rows)]
        copied = draw.choice(pairs, copies, replace=False)
        data += [
            PreferencePair(pairs + at, pairs + at + 1, rows[row].prompt, rows[row].chosen, rows[row].rejected)
            for at, row in enumerate(copied.tolist())
        ]
        return set(lint_pairs(data).rows_of("duplicate_pairs").tolist()), set(range(pairs, pairs + copies))

    hits = [found(seed, 4) for seed in range(times)]
    power = np.mean([rows == copied for rows, copied in hits])
    alarms = np.mean([bool(found(seed, 0)[0]) for seed in range(times)])
    return f"Duplicated pairs, 4 of {pairs}: exactly these are found in {power:.1%}, false alarms {alarms:.1%}"


def noise(times: int) -> Iterator[str]:
    """Yield the recovery of planted flips in simulated margins and in the bundled ledgers."""
    yield "| margins | flipped | estimate | error | within 3 points | in the interval | precision | recall |"
    yield "|---|---:|---:|---:|---:|---:|---:|---:|"
    for name, knobs in SIMULATED.items():
        for share in NOISES:
            drawn = [flipped_margins(np.random.default_rng((3, at)), 3000, share, **knobs) for at in range(times)]
            yield _recovered(f"simulated, {name}", share, drawn)
    for name in ("demo-early", "demo"):
        margins, longer = clean_demo(name)
        for share in NOISES:
            yield _recovered(name, share, [flip(margins, longer, share, seed) for seed in range(times)])


def least_errors(pairs: int = 3000) -> Iterator[str]:
    """Yield the smallest standard deviation that any unbiased estimate of the rate can have (Cramér and Rao's bound).

    The simulated labels follow σ(g), g ~ N(0, 3²); margins are a multiple of x = g + e, e ~ N(0, noise²). So the label
    agrees with the sign of x with the probability (1 − 2ε)·E[σ(g) | x] + ε. The bound is that for unknown ε and scale.
    """
    yield "| noise of h | flipped | least error |"
    yield "|---|---:|---:|"
    for name in ("strong policy", "weak policy"):
        for share in NOISES[1:]:
            yield f"| {name} | {share:.0%} | {_least_error(SIMULATED[name]['noise'], share, pairs):.1%} |"


def _least_error(noise: float, share: float, pairs: int, quality: float = 3.0, step: float = 1e-4) -> float:
    total = np.hypot(quality, noise)
    x = np.linspace(-6 * total, 6 * total, 4001)
    density = np.exp(-(x**2) / (2 * total**2))
    points, weights = np.polynomial.hermite_e.hermegauss(60)
    spread = quality * noise / total

    def right(scale: float) -> Values:
        g = scale * (quality / total) ** 2 * x + spread * points[:, None]
        return np.asarray((weights[:, None] / weights.sum() / (1 + np.exp(-g))).sum(0))

    agrees = (1 - 2 * share) * right(1.0) + share
    slopes = [1 - 2 * right(1.0), (1 - 2 * share) * (right(1 + step) - right(1 - step)) / (2 * step)]
    each = pairs * density / density.sum() / (agrees * (1 - agrees))
    information = np.array([[(each * one * other).sum() for one in slopes] for other in slopes])
    return float(np.sqrt(np.linalg.inv(information)[0, 0]))


def flips_in(ledgers: Sequence[str], times: int) -> Iterator[str]:
    """Yield the recovery of labels flipped in all pairs of some ledgers together."""
    views = [View(load_ledger(path), PreferenceSettings()) for path in ledgers]
    names = ("margins", "chosen_num_tokens", "rejected_num_tokens")
    margins, chosen, rejected = (np.concatenate([view.column(one) for view in views]) for one in names)
    known = np.isfinite(margins)
    yield f"{known.sum()} pairs, accuracy {(margins[known] > 0).mean():.1%}"
    for share in NOISES:
        drawn = [flip(margins[known], (chosen - rejected)[known], share, seed) for seed in range(times)]
        yield _recovered("ledgers", share, drawn)


def clean_demo(name: str) -> tuple[Values, Values]:
    """Return margins and differences in length of a bundled ledger, without the pairs that are known to be bad."""
    view = View(load_ledger(SAMPLES / f"{name}.parquet"), PreferenceSettings())
    bad = ("flipped label", "contradiction", "identical responses")
    notes = [json.loads(line)["note"] for line in (SAMPLES / "pairs.jsonl").read_text(encoding="utf-8").splitlines()]
    kept = np.array([not note.startswith(bad) for note in notes])
    margins, chosen, rejected = (view.column(one) for one in ("margins", "chosen_num_tokens", "rejected_num_tokens"))
    return margins[kept], (chosen - rejected)[kept]


def flip(margins: Values, longer: Values, share: float, seed: int) -> tuple[NDArray[Any], ...]:
    """Return margins and differences in length with some pairs exchanged, and which."""
    exchanged = np.random.default_rng((4, seed)).permutation(margins.size) < round(share * margins.size)
    sign = np.where(exchanged, -1.0, 1.0)
    return margins * sign, longer * sign, exchanged


def _recovered(name: str, share: float, drawn: Sequence[tuple[NDArray[Any], ...]]) -> str:
    rows = []
    for margins, *more, flipped in drawn:
        longer = more[0] if more else None
        fit = fit_noise(margins, longer)
        suspected = fit.posteriors(margins, longer) > 0.5
        hits, true = int((suspected & flipped).sum()), float(flipped.mean())
        precision = hits / suspected.sum() if suspected.any() else np.nan
        recall = hits / flipped.sum() if flipped.any() else np.nan
        within = abs(fit.noise - true) <= 0.03
        rows.append(
            (fit.noise, fit.noise - true, within, fit.low - 1e-9 <= share <= fit.high + 1e-9, precision, recall)
        )
    table = np.array(rows, dtype=np.float64)
    figures = [f"{100 * np.nanmean(column):.1f}%" if np.isfinite(column).any() else "–" for column in table.T]
    return f"| {name} | {share:.0%} | {' | '.join(figures)} |"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--times", type=int, default=200)
    parser.add_argument("--ledgers", nargs="*", default=[])
    asked = parser.parse_args()
    times = asked.times
    if asked.ledgers:
        print("\n".join(flips_in(asked.ledgers, times)))
        return
    for lines in (faults(times), [duplicates(times)], noise(times), least_errors()):
        print("\n".join(lines), end="\n\n", flush=True)


if __name__ == "__main__":
    main()
