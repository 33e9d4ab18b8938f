"""Style and script of report pages; a content security policy with their hashes allows nothing else."""

from __future__ import annotations

import base64
import hashlib

STYLE = """
:root { color-scheme: light dark; --fg: #1f2328; --dim: #5f666f; --bg: #ffffff; --panel: #f4f5f7; --edge: #d5d8dd;
  --sky: #0072b2; --orange: #a65e00; --sky-rgb: 86, 180, 233; --orange-rgb: 230, 159, 0; }
@media (prefers-color-scheme: dark) { :root { --fg: #d6d8db; --dim: #99a0aa; --bg: #16181c; --panel: #1f2228;
  --edge: #363b44; --sky: #56b4e9; --orange: #e69f00; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 70rem; color: var(--fg); background: var(--bg);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 .5rem; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
h3 { font-size: 1rem; margin: 0; } p { margin: .3rem 0; } .dim, figcaption { color: var(--dim); font-size: .87rem; }
header p { overflow-wrap: anywhere; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .6rem; margin: 1.2rem 0; }
.card { background: var(--panel); border: 1px solid var(--edge); border-radius: 6px; padding: .5rem .7rem; }
.card b { display: block; font-size: 1.05rem; font-variant-numeric: tabular-nums; } .warns b::after { content: " ⚠"; }
.warns { border-color: var(--orange); }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 1rem; }
figure { margin: 0; } svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--fg); font: 12px system-ui, sans-serif; } svg .tick { fill: var(--dim); font-size: 11px; }
.grid { stroke: var(--edge); stroke-width: .5; fill: none; } .axis { stroke: var(--dim); fill: none; }
.line { stroke: var(--dim); stroke-dasharray: 4 4; fill: none; }
.right { fill: var(--sky); } .wrong { fill: var(--orange); fill-opacity: .15; stroke: var(--orange); }
.bound { stroke: var(--sky); stroke-width: 2; fill: none; }
.course { stroke-width: 2; fill: none; } .band { fill-opacity: .12; }
.line0 { stroke: var(--sky); fill: var(--sky); } .line1 { stroke: var(--orange); fill: var(--orange); }
.line2 { stroke: var(--fg); fill: var(--fg); } .line3 { stroke: var(--dim); fill: var(--dim); }
.course.line0, .course.line1, .course.line2, .course.line3 { fill: none; } .band { stroke: none; }
svg text.line0, svg text.line1, svg text.line2, svg text.line3 { stroke: none; }
.line1.course { stroke-dasharray: 7 3; } .line2.course { stroke-dasharray: 2 3; }
.dots { stroke: var(--sky); stroke-width: 4; stroke-linecap: round; stroke-opacity: .55; fill: none; }
.cell { fill: var(--sky); shape-rendering: crispEdges; } .shade1 { fill-opacity: .12; }
.shade2 { fill-opacity: .28; } .shade3 { fill-opacity: .45; }
.shade4 { fill-opacity: .62; } .shade5 { fill-opacity: .8; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .92rem; min-width: 50%; }
th, td { padding: .28rem .7rem .28rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--edge); }
td.number, th.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
td:first-child, th { white-space: nowrap; } td:not(.number):not(:first-child) { min-width: 11rem; }
td { overflow-wrap: break-word; }
th button { all: unset; cursor: pointer; font-weight: 600; } th button:focus-visible { outline: 2px solid var(--sky); }
th button::after { content: "\\2195"; color: var(--dim); font-size: .75em; padding-left: .3em; opacity: .6; }
th[aria-sort=ascending] button::after { content: "\\25b2"; }
th[aria-sort=descending] button::after { content: "\\25bc"; }
details { margin: .6rem 0; } summary { cursor: pointer; } dl { margin: .5rem 0 0; }
dt { font-weight: 600; margin-top: .7rem; }
dd { margin: 0 0 0 1rem; } code, pre { font: .85rem/1.55 ui-monospace, monospace; }
pre { margin: .4rem 0; padding: .6rem .8rem; background: var(--panel); border-radius: 6px; white-space: pre-wrap;
  overflow-wrap: anywhere; } code { overflow-wrap: anywhere; }
.why { margin: .4rem 0; padding-left: 1.2rem; overflow-wrap: anywhere; }
article { border-top: 1px solid var(--edge); padding: .9rem 0; break-inside: avoid-page; }
.prompt { max-height: 12em; overflow: auto; } .sides { display: grid; gap: .8rem; grid-template-columns: 1fr 1fr; }
.p1 { background: rgba(var(--sky-rgb), .22); }
.p2 { background: rgba(var(--sky-rgb), .45); text-decoration: underline; }
.n1 { background: rgba(var(--orange-rgb), .22); }
.n2 { background: rgba(var(--orange-rgb), .45); text-decoration: underline dotted; }
.p3 { background: rgb(var(--sky-rgb)); color: #101418; text-decoration: underline 2px; }
.n3 { background: rgb(var(--orange-rgb)); color: #101418; text-decoration: underline dotted 2px; }
@media (max-width: 45rem) { .sides { grid-template-columns: 1fr; } body { padding: 1rem .7rem 3rem; }
  .prose thead { display: none; } .prose td, .prose td:first-child { display: block; white-space: normal; border: 0;
  padding: 0; } .prose td:first-child { font-weight: 600; padding-top: .6rem; } }
@media print { body { max-width: none; padding: 0; font-size: 11px; } th button::after { content: ""; }
  .prompt { max-height: none; } .plots { grid-template-columns: 1fr 1fr; } .cards, figure, tr { break-inside: avoid; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
"""
SCRIPT = """
"use strict";
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const head = button.parentElement, body = head.closest("table").tBodies[0];
    const column = [...head.parentElement.children].indexOf(head);
    const falls = head.getAttribute("aria-sort") === "ascending";
    for (const other of head.parentElement.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", falls ? "descending" : "ascending");
    const text = (row) => row.children[column].textContent.trim();
    const number = (row) => parseFloat(text(row).replace(/[,+]/g, ""));
    const isNumber = head.classList.contains("number");
    const compare = (a, b) => {
      if (!isNumber) return text(a).localeCompare(text(b)) * (falls ? -1 : 1);
      const [x, y] = [number(a), number(b)];
      if (isNaN(x) || isNaN(y)) return isNaN(x) - isNaN(y);
      return (x - y) * (falls ? -1 : 1);
    };
    body.append(...[...body.rows].sort(compare));
  });
}
"""


def policy() -> str:
    """Return the content security policy of a page: its own style and script, and nothing else."""
    return (
        f"default-src 'none'; style-src {_hash(STYLE)}; script-src {_hash(SCRIPT)}; base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
