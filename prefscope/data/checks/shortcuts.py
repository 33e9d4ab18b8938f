"""Find shortcuts that predict the label without reading the text: length, and white space at the ends."""

from __future__ import annotations

import numpy as np

from prefscope.data.checks.check import EXAMPLES, NOTHING, Example, Found, check_of_data
from prefscope.data.checks.text_index import TextIndex
from prefscope.statistics import upper_tail, wilson_interval

LEAST_PAIRS = 10
LEAST_SHARE = 0.02
PRECISION = 0.9
SIGNIFICANCE = 0.001
BIASED = 0.6
"""Length is biased if the interval of its accuracy lies above this, or below its complement."""


@check_of_data(
    "white_space",
    "fail",
    "white space at the start or end of responses predicts which one is chosen",
    "Strip both responses in the same way; otherwise a model can learn the white space.",
    rule=(
        f"right in at least {PRECISION:.0%} of the pairs in which only one response has it (at least {LEAST_PAIRS} "
        f"pairs and {LEAST_SHARE:.0%} of all); binomial test against ½, Bonferroni, p ≤ {SIGNIFICANCE:g}"
    ),
)
def find_white_space(data: TextIndex, _against: TextIndex | None) -> Found:
    """Find out whether white space at the start or end of only one response predicts the label."""
    details, figures = [], {}
    places = np.zeros(len(data.rows), dtype=np.bool_)
    least = max(LEAST_PAIRS, LEAST_SHARE * len(data.rows))
    for edge, name in enumerate(("starts", "ends")):
        chosen, rejected = (data.spaced[:, side, edge] for side in (0, 1))
        only = (chosen & ~rejected, rejected & ~chosen)
        counts = [int(mask.sum()) for mask in only]
        pairs, telling = sum(counts), max(counts)
        p_value = min(4 * upper_tail(telling, pairs, 0.5), 1.0)  # two rules, two sides
        if pairs < least or telling < PRECISION * pairs or p_value > SIGNIFICANCE:
            continue
        side = counts.index(telling)
        places |= only[side]
        details.append(f"only {('chosen', 'rejected')[side]} {name} with it in {telling:,} of {pairs:,} pairs")
        figures[name] = {"chosen": counts[0], "rejected": counts[1], "p_value": p_value}
    if not details:
        return NOTHING
    found = np.flatnonzero(places)
    examples = tuple(
        Example(int(data.lines[i]), data.beginnings[i], file=data.files[i]) for i in found[:EXAMPLES].tolist()
    )
    return Found(data.rows[found], examples, "; ".join(details), figures)


@check_of_data(
    "length_bias",
    "note",
    "length alone predicts the label",
    "Compare this with the policy's accuracy; a length-controlled loss or more balanced pairs can help.",
    rule=f"the 95% Wilson interval lies above {BIASED:.0%} or below {1 - BIASED:.0%}; a tie counts as half",
)
def find_length_bias(data: TextIndex, _against: TextIndex | None) -> Found:
    """Measure how often the longer response is the chosen one; a tie counts as half."""
    differences = data.lengths[:, 0] - data.lengths[:, 1]
    pairs = len(differences)
    if not pairs:
        return NOTHING
    right = float(np.sum(differences > 0) + np.sum(differences == 0) / 2)
    low, high = wilson_interval(right, pairs)
    accuracy = right / pairs
    figures = {"unit": data.unit, "longer_is_chosen": accuracy, "low": low, "high": high, "pairs": pairs}
    if low <= BIASED and high >= 1 - BIASED:
        return Found(NOTHING.rows, figures=figures)
    longer = low > BIASED
    word = "longer" if longer else "shorter"
    share, bounds = (accuracy, (low, high)) if longer else (1 - accuracy, (1 - high, 1 - low))
    detail = f"the {word} is chosen in {share:.1%} (95%: {bounds[0]:.1%} to {bounds[1]:.1%}), by {data.unit}"
    return Found(NOTHING.rows, detail=detail, figures=figures)
