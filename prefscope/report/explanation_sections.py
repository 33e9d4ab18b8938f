"""The explanation of a pair as tables and as JSON."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from prefscope.preference.explanation import Region, Sentence, Span
from prefscope.report.explained import ExplainedPair, OtherRun, Similar, TokenChoices
from prefscope.report.explanation_words import amount, excerpt, in_words
from prefscope.report.nearest import MEASURE
from prefscope.report.sections import Table
from prefscope.report.token_choices import NAMES, at_least, divergence_text, rank_text, said
from prefscope.report.visible import visible

MOST_SENTENCES = 12
SENTENCE_CHARACTERS = 60


def explanation_headline(pair: ExplainedPair) -> list[str]:
    """Return the pair's place and the explanation in words, as lines of safe text."""
    return [f"row {pair.row}, line {pair.line}, pair {pair.pair_id}", *(line.text for line in in_words(pair))]


def explanation_tables(pair: ExplainedPair) -> list[Table]:
    """Return the regions, the sentences with the largest effects, and the pairs with similar prompts."""
    tables = []
    if pair.explanation is not None and pair.explanation.parts is not None:
        tables += [_region_table(pair.explanation.parts.regions), _sentence_table(pair)]
    tables += [_token_table(pair.tokens)] if pair.tokens else []
    return tables + ([_similar_table(pair.similar)] if pair.similar else [])


def _token_table(tokens: tuple[TokenChoices, ...]) -> Table:
    """Return what each model would have said at some tokens."""
    roles = [role for role in NAMES if role in tokens[0].choices]
    both = len(roles) == len(NAMES)
    is_exact = all("policy" in one.choices and one.choices["policy"].divergence is not None for one in tokens)
    header = ("response", "token", "text", "effect", *(["KL" if is_exact else "KL at least"] if both else []))
    rows = []
    for one in tokens:
        place = (one.side, str(one.number + 1), f"“{visible(one.text)}”", amount(one.effect))
        divergence = [divergence_text(one.choices["policy"], one.choices["ref"]).split()[-1]] if both else []
        rows.append(
            (
                *place,
                *divergence,
                *(f"{rank_text(one.choices[role].rank)}: {said(one.choices[role])}" for role in roles),
            )
        )
    note = "KL(policy‖reference) in nats" + ("" if is_exact else ": a lower bound from the tokens kept") if both else ""
    return Table(
        "Alternatives", (*header, *(NAMES[role] for role in roles)), tuple(rows), (1, 3, *([4] if both else [])), note
    )


def _region_table(regions: tuple[Region, ...]) -> Table:
    rows = [(one.name, *map(_size, one.spans), amount(one.effect)) for one in regions]
    return Table("By region", ("region", "chosen", "rejected", "effect"), tuple(rows), (1, 2, 3))


def _size(span: Span) -> str:
    return f"{span.stop - span.start:,}"


def _sentence_table(pair: ExplainedPair) -> Table:
    """Return the sentences by their effect on the margin, in the order of the responses."""
    parts = pair.explanation.parts if pair.explanation is not None else None
    sentences = () if parts is None else parts.sentences
    changes = () if pair.other is None else pair.other.changes
    strongest = sorted(range(len(sentences)), key=lambda at: -abs(sentences[at].effect))[:MOST_SENTENCES]
    rows = [_sentence_row(sentences[at], changes[at] if changes else None) for at in sorted(strongest)]
    header = ("response", "sentence", "tokens", "effect", *(["A − B"] if changes else []), "text")
    left = [one for at, one in enumerate(sentences) if at not in strongest]
    note = ""
    if left:
        effect = amount(math.fsum(one.effect for one in left))
        note = f"{len(left):,} others add up to {effect}; --json prints all of them"
    return Table("By sentence", header, tuple(rows), (1, 2, 3, *([4] if changes else [])), note)


def _sentence_row(sentence: Sentence, change: float | None) -> tuple[str, ...]:
    number = "end" if sentence.number is None else str(sentence.number)
    cells = (sentence.span.side, number, _size(sentence.span), amount(sentence.effect))
    return (*cells, *([] if change is None else [amount(change)]), excerpt(sentence.text, SENTENCE_CHARACTERS))


def _similar_table(similar: tuple[Similar, ...]) -> Table:
    rows = [
        (str(one.row), f"{one.similarity:.0%}", amount(one.margin), excerpt(_request(one.prompt), SENTENCE_CHARACTERS))
        for one in similar
    ]
    return Table("Nearest prompts", ("row", "alike", "margin", "prompt"), tuple(rows), (0, 1, 2), f"alike: {MEASURE}")


def _request(prompt: str) -> str:
    """Return the last user turn of a prompt."""
    return prompt.rsplit("[user]\n", 1)[-1]


def explanation_json(pair: ExplainedPair) -> dict[str, Any]:
    """Return the whole explanation as JSON values; what is unknown is null."""
    found = pair.explanation
    parts = None if found is None else found.parts
    length = None if found is None else found.length
    return {
        "row": pair.row,
        "line": pair.line,
        "pair_id": pair.pair_id,
        "reward": {
            "name": "implicit" if pair.has_reference else "simpo",
            "beta": pair.rule.beta,
            "per_token": pair.rule.per_token,
        },
        "margin": None if found is None else found.margin,
        "chosen_reward": None if found is None else found.chosen_reward,
        "rejected_reward": None if found is None else found.rejected_reward,
        "words": [line.text for line in in_words(pair)],
        "gross": None if parts is None else {"plus": parts.plus, "minus": parts.minus},
        "length": None
        if length is None
        else {
            "chosen_tokens": length.chosen_tokens,
            "rejected_tokens": length.rejected_tokens,
            "mean": length.mean,
            "by_count": length.by_count,
            "by_mean": length.by_mean,
        },
        "kl": None if pair.divergences is None else [*map(_finite, pair.divergences)],
        "regions": None if parts is None else [_region_json(one) for one in parts.regions],
        "sentences": None if parts is None else _sentences_json(parts.sentences, pair.other),
        "noise_floor": pair.floor,
        "run_b": None if pair.other is None else _other_json(pair.other),
        "course": None if pair.course is None else asdict(pair.course),
        "tokens": [_token_json(one) for one in pair.tokens],
        "nearest": None if pair.similar is None else [_similar_json(one) for one in pair.similar],
    }


def _region_json(region: Region) -> dict[str, Any]:
    chosen, rejected = ([span.start, span.stop] for span in region.spans)
    return {"name": region.name, "chosen": chosen, "rejected": rejected, "effect": region.effect}


def _sentences_json(sentences: tuple[Sentence, ...], other: OtherRun | None) -> list[dict[str, Any]]:
    changes = () if other is None else other.changes
    return [
        {
            "side": one.span.side,
            "number": one.number,
            "tokens": [one.span.start, one.span.stop],
            "effect": one.effect,
            "change": changes[at] if changes else None,
            "text": one.text,
        }
        for at, one in enumerate(sentences)
    ]


def _token_json(token: TokenChoices) -> dict[str, Any]:
    """Return a token with each model's entropy, rank and alternatives, and the lower bound of the divergence."""
    choices = token.choices
    found: dict[str, Any] = {"side": token.side, "number": token.number, "text": token.text, "effect": token.effect}
    found["kl"] = _finite(exact) if "ref" in choices and (exact := choices["policy"].divergence) is not None else None
    found["kl_at_least"] = _finite(at_least(choices["policy"], choices["ref"])) if "ref" in choices else None
    for role, one in choices.items():
        said_instead = [
            {"id": token_id, "text": text, "logp": _finite(logp)}
            for token_id, text, logp in zip(one.ids, one.texts, one.logps, strict=True)
        ]
        found[role] = {"rank": one.rank or None, "entropy": _finite(one.entropy), "alternatives": said_instead}
    return found


def _other_json(other: OtherRun) -> dict[str, Any]:
    return {
        "name": other.name,
        "margin": _finite(other.margin),
        "why_not": other.why_not or None,
        "moved": [*map(asdict, other.moved)],
    }


def _similar_json(similar: Similar) -> dict[str, Any]:
    return {
        "row": similar.row,
        "similarity": similar.similarity,
        "margin": _finite(similar.margin),
        "prompt": similar.prompt,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
