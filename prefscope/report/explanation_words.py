"""The explanation of a pair in a few lines that a person can repeat; numbers are in units of the margin."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from prefscope.preference.explanation import Explanation, LengthPart, Region, Sentence, Span, TokenParts
from prefscope.report.explained import ExplainedPair, OtherRun, PairCourse, Similar
from prefscope.report.sparkline import sparkline
from prefscope.report.token_choices import exact_text
from prefscope.report.visible import visible

EXCERPT_CHARACTERS = 28
ROW_CHARACTERS = 80
WORTH_A_WORD = 0.1
"""Sentences are named if they have at least this share of the effect of the strongest one."""
ROUNDS_TO_0 = 0.0005
MOST_BARS = 40


@dataclass(frozen=True, slots=True)
class Line:
    """A statement, and the tokens that it is about."""

    text: str
    """Safe to show."""
    spans: tuple[Span, ...] = ()


def in_words(pair: ExplainedPair, *, brief: bool = False) -> list[Line]:
    """Return the explanation of a pair, the most important statement first.

    Args:
        pair: The explained pair.
        brief: Leave out what was not measured or not found.
    """
    found = pair.explanation
    if found is None:
        lines = [Line(remark) for remark in pair.remarks]
    else:
        lines = [Line(_verdict(found))]
        lines += [] if found.parts is None else [_strongest(found.parts, found.margin), *_regions(found.parts)]
        lines += [] if found.parts is None else [Line(_gross(found.parts, found.margin))]
        lines += [Line(_length(found.length, per_token=found.rule.per_token))]
        lines += [Line(remark) for remark in pair.remarks]
        lines += [] if pair.divergences is None else [Line(_divergences(pair.divergences))]
        lines += [Line(text) for text in _noise(pair, found.margin, brief=brief)]
        lines += [] if pair.other is None else [_other(pair.other, found), *_moved(pair.other)]
        lines += [] if pair.course is None else [Line(_course(pair.course))]
    found_some = pair.similar is not None and (pair.similar or not brief)
    return lines + ([Line(_similar(pair.similar or ()))] if found_some else [])


def _divergences(nats: tuple[float, float]) -> str:
    """Say how far the two models' distributions are from each other along both responses."""
    chosen, rejected = (exact_text(one).removeprefix("KL ") for one in nats)
    return (
        f"KL(policy‖reference) adds up to {chosen} nats over the chosen response and {rejected} over the rejected one."
    )


def amount(value: float) -> str:
    """Format a number in units of the margin, with its sign and three decimals.

    >>> amount(-0.2342), amount(0.5), amount(-0.0001)
    ('−0.234', '+0.500', '0.000')
    """
    if math.isnan(value):
        return "unscored"
    return "0.000" if abs(value) < ROUNDS_TO_0 else f"{value:+.3f}".replace("-", "−")


def name_of(sentence: Sentence, sentences: Sequence[Sentence]) -> str:
    """Return what to call a sentence: its response and its number there."""
    if sentence.number is None:
        return f"the {sentence.span.side} response's end token"
    last = max(one.number or 0 for one in sentences if one.span.side == sentence.span.side)
    return f"the {sentence.span.side} response's {'only' if last == 1 else _ordinal(sentence.number)} sentence"


def excerpt(text: str, most: int = EXCERPT_CHARACTERS) -> str:
    """Return the beginning of a text on one safe line."""
    shown = visible(text[: 4 * most + 4].strip())
    whole = len(shown) <= most and len(text) <= 4 * most
    return shown if whole else f"{shown[: most - 1].rstrip()}…"


def _ordinal(number: int) -> str:
    ending = "th" if number % 100 in {11, 12, 13} else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def _verdict(found: Explanation) -> str:
    margin, chosen, rejected = found.margin, found.chosen_reward, found.rejected_reward
    size = f"{abs(margin):.3f}" if abs(margin) >= ROUNDS_TO_0 else f"{abs(margin):.2g}"
    outcome = f"Ranked {'right' if margin > 0 else 'wrong'} by {size}" if margin else "A tie"
    if not found.has_reference:
        both = f"{amount(chosen)} for the chosen and {amount(rejected)} for the rejected response"
        return f"{outcome}, without a reference: {found.rule.beta:g} × mean log π (SimPO's reward) is {both}."
    return f"{outcome}: {_movement(chosen, rejected)}."


def _movement(chosen: float, rejected: float) -> str:
    """Describe how the policy moved both responses against the reference."""
    both = f"chosen {amount(chosen)}, rejected {amount(rejected)}"
    if chosen == rejected == 0:
        return "the policy gives both responses the reference's log-probs"
    if chosen == rejected:
        return f"the policy moved both responses alike ({both})"
    if chosen * rejected > 0:
        verb = "raised" if chosen > 0 else "lowered"
        more = "chosen" if abs(chosen) > abs(rejected) else "rejected"
        return f"the policy {verb} both responses, the {more} one more ({both})"
    verbs = {1: "raised", 0: "left", -1: "lowered"}
    moves = [
        f"{verbs[(value > 0) - (value < 0)]} the {side} {'response' if side == 'chosen' else 'one'} ({amount(value)})"
        for side, value in (("chosen", chosen), ("rejected", rejected))
    ]
    return f"the policy {' and '.join(moves)}"


def _strongest(parts: TokenParts, margin: float) -> Line:
    """Name the sentences with the largest effects: two in the margin's direction, one against it."""
    sign = -1 if margin < 0 else 1
    ranked = sorted((one for one in parts.sentences if one.effect), key=lambda one: -abs(one.effect))
    worth = [one for one in ranked if abs(one.effect) >= WORTH_A_WORD * abs(ranked[0].effect)]
    with_it = [one for one in worth if one.effect * sign > 0][:2]
    against = [one for one in worth if one.effect * sign < 0][:1]
    words = (
        {-1: "against the chosen response", 1: "for it"}
        if sign < 0
        else {1: "for the chosen response", -1: "against it"}
    )
    said = []
    for some, direction in ((with_it, sign), (against, -sign)):
        if some:
            names = " and ".join(
                _quoted(one, parts.sentences, again=at > 0 and one.span.side == some[0].span.side)
                for at, one in enumerate(some)
            )
            said.append(f"most {words[direction]}: {names}")
    text = "; ".join(said) or "no token has an effect"
    return Line(f"{text[0].upper()}{text[1:]}.", tuple(one.span for one in (*with_it, *against)))


def _quoted(sentence: Sentence, sentences: Sequence[Sentence], *, again: bool) -> str:
    """Return the name of a sentence with its beginning and effect; `again` if its response was just named."""
    name = name_of(sentence, sentences)
    name = name.replace(f"the {sentence.span.side} response's", "its", 1) if again else name
    quote = "" if sentence.number is None else f" “{excerpt(sentence.text)}”"
    return f"{name}{quote} {amount(sentence.effect)}"


def _regions(parts: TokenParts) -> Iterator[Line]:
    """Yield what each region adds."""
    regions = [one for one in parts.regions if any(span.start < span.stop for span in one.spans)]
    if regions:
        spans = max(regions, key=lambda one: abs(one.effect)).spans
        yield Line(f"By region: {', '.join(map(_region, regions))}.", spans)


def _region(region: Region) -> str:
    tokens = max(span.stop - span.start for span in region.spans)
    if region.name == "shared beginning":
        why = ", which cancels" if abs(region.effect) < ROUNDS_TO_0 else ""
        return f"shared beginning of {tokens} token{'s' * (tokens > 1)} {amount(region.effect)}{why}"
    return f"{region.name} {amount(region.effect)}"


def _gross(parts: TokenParts, margin: float) -> str:
    total = parts.plus - parts.minus
    cancelled = f": {1 - abs(margin) / total:.0%} cancels" if total else ""
    return f"Gross plus {amount(parts.plus)}, gross minus {amount(parts.minus)}{cancelled}."


def _length(length: LengthPart | None, *, per_token: bool) -> str:
    if per_token:
        return "Length has no part in it: the reward is a mean over tokens."
    if length is None:
        return "The numbers of tokens are unknown, and so is the part of length."
    difference = length.chosen_tokens - length.rejected_tokens
    if not difference:
        return f"Length has no part in it: both responses have {length.chosen_tokens:,} tokens."
    longer = "chosen" if difference > 0 else "rejected"
    each = f"{length.mean:+.4f}".replace("-", "−")
    more = f"{abs(difference):,} more token{'s' * (abs(difference) > 1)}"
    return (
        f"Length: {amount(length.by_count)} comes from the {longer} response's {more} ({each} each on average), "
        f"{amount(length.by_mean)} from the difference per token."
    )


def _noise(pair: ExplainedPair, margin: float, *, brief: bool) -> Iterator[str]:
    if not pair.has_reference:
        return
    if pair.floor is None:
        if not brief:
            yield "The noise floor of this ledger was not measured (score --noise-floor)."
    elif abs(margin) <= pair.floor:
        yield f"It lies within the noise floor of ±{pair.floor:.3g}: it may be rounding."
    else:
        yield f"The noise floor is ±{pair.floor:.3g}: it is not rounding."


def _other(other: OtherRun, found: Explanation) -> Line:
    name = visible(other.name)
    if other.why_not:
        return Line(f"Run B ({name}) {other.why_not}.")
    apart = found.margin - other.margin
    text = f"Run B ({name}) has {amount(other.margin)}; the difference is {amount(apart)}"
    if found.parts is None or not other.changes or abs(apart) < ROUNDS_TO_0:
        return Line(f"{text}.")
    sign = 1 if apart > 0 else -1
    at = max(range(len(other.changes)), key=lambda one: sign * other.changes[one])
    sentence = found.parts.sentences[at]
    most = f", most of all in {name_of(sentence, found.parts.sentences)} ({amount(other.changes[at])})"
    return Line(f"{text}{most}.", (sentence.span,))


def _moved(other: OtherRun) -> Iterator[Line]:
    """Yield the tokens that moved most since run B."""
    if other.moved:
        named = (f"{one.side} “{excerpt(one.text) or visible(one.text)}” {amount(one.change)}" for one in other.moved)
        spans = tuple(Span(one.side, one.number, one.number + 1) for one in other.moved)
        yield Line(f"Tokens that moved most since run B: {', '.join(named)}.", spans)


def _course(course: PairCourse) -> str:
    """Describe the course of a pair over the checkpoints."""
    scale = max(map(abs, course.margins)) or 1.0
    bars = sparkline([0.5 + 0.5 * margin / scale for margin in course.margins[-MOST_BARS:]])
    rank = "right" if course.margins[-1] > 0 else "wrong"
    flips = f"{course.flips} change{'' if course.flips == 1 else 's'} of rank"
    ends = f"{amount(course.margins[0])} at step {course.steps[0]:,} to {amount(course.margins[-1])}"
    return f"Course {bars}: {rank} from step {course.since:,} on, {flips}, {ends} at step {course.steps[-1]:,}."


def _similar(similar: Sequence[Similar]) -> str:
    if not similar:
        return "No other prompt is similar."
    pairs = ", ".join(f"row {one.row} {amount(one.margin)} ({one.similarity:.0%} alike)" for one in similar)
    return f"Margins of the nearest prompts: {pairs}."


def sentence_lines(pair: ExplainedPair) -> list[Line]:
    """Return a line per sentence and end token, the largest effect on the margin first."""
    parts = None if pair.explanation is None else pair.explanation.parts
    sentences = () if parts is None else parts.sentences
    ranked = sorted(sentences, key=lambda one: -abs(one.effect))
    return [Line(_row(one), (one.span,)) for one in ranked]


def _row(sentence: Sentence) -> str:
    number = "end" if sentence.number is None else str(sentence.number)
    return f"{amount(sentence.effect)}  {sentence.span.side} {number}  {excerpt(sentence.text, ROW_CHARACTERS)}"
