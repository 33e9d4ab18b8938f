"""A report as one HTML page that loads nothing else and escapes all text of data sets."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from html import escape

from prefscope.report.cards import Card
from prefscope.report.cases import Case, CaseList, Strip, Token
from prefscope.report.diagnosis import Finding
from prefscope.report.diagnosis_sections import signed
from prefscope.report.document import Document
from prefscope.report.page import SCRIPT, STYLE, policy
from prefscope.report.pair_plots import PlotData, svg_plots
from prefscope.report.sections import Table
from prefscope.report.token_steps import LOGRATIO_STEPS
from prefscope.report.visible import visible, visible_lines

LONGEST_PROMPT = 2000
SIGNS = {"chosen": "+", "rejected": "−"}


def as_html(document: Document) -> str:
    """Return the page; equal documents give equal bytes."""
    return "\n".join(_page(document)) + "\n"


def _page(document: Document) -> Iterator[str]:
    yield "<!DOCTYPE html>"
    yield '<html lang="en"><head><meta charset="utf-8">'
    yield f'<meta http-equiv="Content-Security-Policy" content="{escape(policy())}">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>prefscope report</title><style>{STYLE}</style></head><body>"
    yield "<header><h1>prefscope report</h1>"
    yield from (f"<p>{_safe(line)}</p>" for line in document.lines)
    yield "</header>"
    yield f'<div class="cards">{"".join(map(_card, document.cards))}</div>'
    yield from _plots(document.plots)
    yield from map(table, filter(None, (document.metrics, document.losses)))
    if document.diagnosis is not None:
        yield table(document.diagnosis)
        yield _formulas(document.findings)
    yield from map(table, filter(None, (*document.details, document.flags, document.worst)))
    for cases in document.case_lists:
        yield from _case_list(cases)
    yield "<h2>Manifest</h2><details><summary>What was scored with what: all it takes to reproduce these numbers"
    yield f"</summary><pre>{escape(document.manifest)}</pre></details>"
    yield f"<script>{SCRIPT}</script></body></html>"


def _safe(text: str) -> str:
    """Return text that is safe in a page, on one line: controls visible, markup escaped."""
    return escape(visible(text))


def _card(card: Card) -> str:
    kind = "card warns" if card.warns else "card"
    title, value, detail = map(_safe, (card.title, card.value, card.detail))
    return f'<div class="{kind}"><span class="dim">{title}</span><b>{value}</b><span class="dim">{detail}</span></div>'


def _plots(data: PlotData) -> Iterator[str]:
    """Yield the plots of all pairs."""
    yield from figures(svg_plots(data))


def figures(plots: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Yield plots beside each other, given by title and picture; empty pictures are left out."""
    drawn = [(title, picture) for title, picture in plots if picture]
    if drawn:
        yield '<h2>Plots</h2><div class="plots">'
        yield from (f"<figure><figcaption>{escape(title)}</figcaption>{picture}</figure>" for title, picture in drawn)
        yield "</div>"


def table(table: Table) -> str:
    """Return a table with sortable columns."""
    kinds = [' class="number"' if index in table.numeric else "" for index in range(len(table.header))]
    heads = "".join(
        f'<th scope="col"{kind}><button type="button">{_safe(name.strip())}</button></th>'
        for kind, name in zip(kinds, table.header, strict=True)
    )
    rows = "\n".join(
        "<tr>" + "".join(f"<td{kind}>{_safe(cell)}</td>" for kind, cell in zip(kinds, row, strict=True)) + "</tr>"
        for row in table.rows
    )
    note = f'<p class="dim">{_safe(table.note)}</p>' if table.note else ""
    prose = "" if table.numeric else ' class="prose"'
    body = f"<table{prose}><thead><tr>{heads}</tr></thead><tbody>\n{rows}\n</tbody></table>"
    return f'<h2>{_safe(table.title)}</h2><div class="wide">{body}</div>{note}'


def _formulas(findings: Sequence[Finding]) -> str:
    """Return a folded list of every finding's formula, source and rule."""
    entries = "".join(map(_formula, findings))
    return f"<details><summary>Formulas, sources, and where papers disagree</summary><dl>{entries}</dl></details>"


def _formula(finding: Finding) -> str:
    one = finding.diagnostic
    parts = [one.formula, f"Source: {one.source}.", f"Rule: {one.rule}."]
    parts += [f"Papers disagree: {one.dispute}."] if one.dispute else []
    text = "<br>".join(map(_safe, parts))
    if finding.about:
        text += f"<br>Pairs {_safe(finding.about)}: <code>--where {_safe(repr(finding.expression))}</code>"
    return f"<dt>{_safe(one.title)}</dt><dd>{text}</dd>"


def _case_list(cases: CaseList) -> Iterator[str]:
    yield f'<section><h2>{_safe(cases.title)}</h2><p class="dim">{_safe(cases.note)} {_legend()}</p>'
    yield from map(_case, cases.cases)
    yield "</section>"


def _legend() -> str:
    """Return the legend of the colours."""
    low, middle, high = LOGRATIO_STEPS
    more = f'<span class="p1">from {low:g}</span> <span class="p2">{middle:g}</span> <span class="p3">{high:g}</span>'
    less = f'<span class="n1">{low:g}</span> <span class="n2">{middle:g}</span> <span class="n3">{high:g}</span>'
    meaning = f"{more} raises the margin (underlined), {less} lowers it (dotted)"
    return f"Colours show the effect of a token on the margin, by its |Δ| in nats: {meaning}."


def _case(case: Case) -> str:
    prompt = case.prompt if len(case.prompt) <= LONGEST_PROMPT else f"{case.prompt[:LONGEST_PROMPT]}…"
    remarks = [f"line {case.line}", f"margin {signed(case.margin)}", case.remark, case.flags.replace(";", ", ")]
    details = _safe(", ".join(filter(None, remarks)))
    strips = "".join(map(_strip, case.strips))
    lines = "".join(f"<li>{_safe(line)}</li>" for line in case.explanation)
    why = f'<ul class="why">{lines}</ul>' if lines else ""
    return (
        f'<article><h3>Row {case.row}</h3><p class="dim">{details}</p>'
        f'<pre class="prompt">{escape(visible_lines(prompt))}</pre>{why}<div class="sides">{strips}</div></article>'
    )


def _strip(strip: Strip) -> str:
    head = f"{SIGNS[strip.side]} {strip.side}, reward {signed(strip.reward)}"
    text = "".join(map(_token, strip.tokens)) if strip.tokens else escape(visible_lines(strip.text[:LONGEST_PROMPT]))
    left = strip.total - len(strip.tokens)
    rest = f'<span class="dim"> … {left:,} more tokens</span>' if left else ""
    return f'<div><span class="dim">{head}</span><pre>{text}{rest}</pre></div>'


def _token(token: Token) -> str:
    """Return a token coloured by its level, with its log-probs as a tooltip."""
    text = _safe(token.text).replace("⏎", "⏎\n")
    if not math.isfinite(token.change):
        return f'<span title="not scored">{text}</span>'
    instead = escape(f"; {token.instead}") if token.instead else ""
    kind = f' class="{"p" if token.level > 0 else "n"}{abs(token.level)}"' if token.level else ""
    return f'<span{kind} title="Δ {token.change:+.3f} = {token.policy:.3f} − {token.ref:.3f}{instead}">{text}</span>'
