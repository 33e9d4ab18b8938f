"""Report files: hostile texts stay inert, numbers are the ledger's, and nothing is fetched."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from prefscope.ledger.table import Ledger, load_ledger
from prefscope.ledger.view import View
from prefscope.report.document import Document, build_document
from prefscope.report.html import as_html
from prefscope.report.markdown import as_markdown
from prefscope.settings import PreferenceSettings

HOSTILE = "\x1b]52;c;aGk=\x07\x9b31m\u202e[b]</td><script>alert(1)</script>\" onload='x' <img src=http://g.example>```"
MARKED = "a|b *c* _d_ `e` [f](http://g.example) <b> # ~h~ \\i &lt;"
CONTROLS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]")
LOGPS = ("policy_chosen", "policy_rejected", "ref_chosen", "ref_rejected")
ELEMENTS = {
    *("html", "head", "meta", "title", "style", "script", "body", "header", "section", "article", "div", "span", "p"),
    *(
        "h1",
        "h2",
        "h3",
        "b",
        "br",
        "pre",
        "code",
        "ul",
        "li",
        "details",
        "summary",
        "dl",
        "dt",
        "dd",
        "figure",
        "figcaption",
    ),
    *("table", "thead", "tbody", "tr", "th", "td", "button", "svg", "path", "polyline", "rect", "circle", "text"),
}
ATTRIBUTES = {
    *("lang", "charset", "http-equiv", "content", "name", "class", "title", "scope", "type", "role", "viewbox"),
    *("x", "y", "width", "height", "d", "points", "cx", "cy", "r", "text-anchor", "transform"),
}


class Page(HTMLParser):
    """Elements, attributes and texts of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.raw: dict[str, str] = {"style": "", "script": ""}
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self._inside = tag
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, _: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside in self.raw:
            self.raw[self._inside] += data
        else:
            self.text += data


def pair(margin: float, text: str, **changes: Any) -> dict[str, Any]:
    """Return a pair of two tokens a side; beta 0.1 makes the margin of the log-prob of the first chosen token."""
    logps = {"policy_chosen": [10 * margin - 2.0, -1.0], "ref_chosen": [-2.0, -1.0]}
    logps |= {"policy_rejected": [-1.0, -1.0], "ref_rejected": [-1.0, -1.0]}
    tokens = {f"{name}_token_logps": values for name, values in logps.items()}
    texts = {"prompt": text, "chosen": text, "rejected": text}
    return {
        "logps": tuple(sum(logps[name]) for name in LOGPS),
        "chosen_num_tokens": 2,
        "rejected_num_tokens": 2,
        "chosen_tokens": [text, "."],
        "rejected_tokens": ["a", text],
        **tokens,
        **texts,
        **changes,
    }


@pytest.fixture
def hostile(write_pairs: Callable[..., Path]) -> Path:
    model = {"name": HOSTILE, "base": None, "fingerprint": "", "stored_dtype": HOSTILE, "attention": "sdpa"}
    manifest: dict[str, Any] = {"data": {"source": HOSTILE}, "models": {"policy": model, "ref": model}}
    pairs = [pair(-0.3 - at / 100, HOSTILE, flags=HOSTILE) for at in range(12)] + [pair(0.4, "good")] * 12
    extra = {HOSTILE: ("text", [HOSTILE] * 12 + ["other"] * 12)}
    return write_pairs(pairs, extra=extra, manifest=manifest)


@pytest.fixture(scope="module")
def ledger(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    path = tmp_path_factory.mktemp("demo") / "demo.parquet"
    shutil.copy(samples / "demo.parquet", path)
    return load_ledger(path)


@pytest.fixture(scope="module")
def demo(ledger: Ledger) -> Document:
    return build_document(ledger, PreferenceSettings())


def document(path: Path) -> Document:
    return build_document(load_ledger(path), PreferenceSettings())


def table_rows(text: str) -> list[list[str]]:
    """Return the cells of every table row of a Markdown text, as a reader shows them."""
    rows: list[list[str]] = []
    within = False
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        if token.type == "tr_open":
            rows.append([])
        within = (within and token.type not in {"td_close", "th_close"}) or token.type in {"td_open", "th_open"}
        if within and token.type == "inline":
            rows[-1].append("".join(child.content for child in token.children or []))
    return rows


def test_a_page_of_hostile_texts_has_no_element_but_its_own(hostile: Path) -> None:
    page = Page(as_html(document(hostile)))
    assert set(page.elements) <= ELEMENTS
    assert page.elements.count("script") == 1
    assert "</td><script>alert(1)</script>\" onload='x' <img src=http://g.example>" in page.text


def test_a_page_of_hostile_texts_has_no_attribute_but_its_own(hostile: Path) -> None:
    page = Page(as_html(document(hostile)))
    assert {name for name, _ in page.attributes} <= ATTRIBUTES


def test_no_control_and_no_direction_override_of_a_text_reaches_a_report_file(hostile: Path) -> None:
    for text in (as_html(document(hostile)), as_markdown(document(hostile))):
        assert CONTROLS.findall(text) == []
        assert "␛]52;c;aGk=␇" in text


def test_a_page_lets_nothing_run_but_its_own_style_and_script(demo: Document) -> None:
    page = Page(as_html(demo))
    allowed = next(value for name, value in page.attributes if name == "content" and "default-src" in value)
    digests = {
        what: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for what, text in page.raw.items()
    }
    assert allowed.startswith("default-src 'none'; ")
    assert f"style-src 'sha256-{digests['style']}'" in allowed
    assert f"script-src 'sha256-{digests['script']}'" in allowed
    assert "unsafe" not in allowed


def test_a_page_refers_to_nothing_outside(demo: Document) -> None:
    text = as_html(demo)
    assert [word for word in ("http:", "https:", "src=", "href=", "@import", "url(") if word in text] == []


def test_equal_ledgers_give_equal_files(demo: Document, ledger: Ledger) -> None:
    again = build_document(ledger, PreferenceSettings())
    assert as_html(again) == as_html(demo)
    assert as_markdown(again) == as_markdown(demo)


def test_the_tables_of_a_page_are_those_of_the_markdown(demo: Document) -> None:
    page = re.sub(r"<thead><tr>(.*?)</tr></thead>", r"<tr>\1</tr>", as_html(demo))
    rows = [
        [Page(cell).text.strip() for cell in re.findall(r"<t[hd][ >].*?</t[hd]>", row)]
        for row in re.findall(r"<tr>(.*?)</tr>", page, re.DOTALL)
    ]
    assert rows == table_rows(as_markdown(demo))


def test_the_worst_pairs_have_the_margins_of_the_ledger(demo: Document, ledger: Ledger) -> None:
    view = View(ledger, PreferenceSettings())
    margins = dict(zip(view.column("row").tolist(), view.column("margins").tolist(), strict=True))
    shown = re.findall(r"<h3>Row (\d+)</h3><p class=\"dim\">line \d+, margin ([-+.\d]+)", as_html(demo))
    assert len(shown) == 13
    assert [text for _, text in shown] == [f"{margins[int(row)]:+.3f}" for row, _ in shown]


def test_a_token_has_its_log_probs_and_is_coloured_by_their_difference(write_pairs: Callable[..., Path]) -> None:
    text = as_html(document(write_pairs([pair(-0.3, "bad"), pair(0.4, "good")])))
    assert '<span class="n3" title="Δ -3.000 = -5.000 − -2.000">bad</span>' in text
    assert '<span title="Δ +0.000 = -1.000 − -1.000">.</span>' in text


def test_a_histogram_has_a_bar_for_every_bin_with_pairs(write_pairs: Callable[..., Path]) -> None:
    text = as_html(document(write_pairs([pair(-0.3, "bad"), pair(0.4, "good")])))
    assert text.count('<rect class="wrong"') == text.count('<rect class="right"') == 1


def test_accuracy_by_difference_in_length_is_shown_with_the_accuracy_of_length_alone(demo: Document) -> None:
    text = as_markdown(demo)
    assert "| chosen − rejected, tokens | pairs | accuracy | 95% |" in text
    assert "| +14 to +69 | 34 | 97.1% | 85–99% |" in text
    assert "a rule that always prefers the longer response ranks 50.6% right" in text


def test_the_manifest_is_in_the_files_as_json(demo: Document, ledger: Ledger) -> None:
    block = as_markdown(demo).rpartition("```json\n")[2].partition("\n```")[0]
    assert json.loads(block) == ledger.manifest


def test_markdown_shows_a_text_as_it_is(write_pairs: Callable[..., Path]) -> None:
    found = table_rows(as_markdown(document(write_pairs([pair(-0.3, MARKED), pair(0.4, "good")]))))
    assert [row[4] for row in found if row[:2] == ["0", "1"]] == [MARKED]


def test_no_backticks_of_a_text_end_a_code_block(write_pairs: Callable[..., Path]) -> None:
    text = as_markdown(document(write_pairs([pair(-0.3, "```\n# heading\n````"), pair(0.4, "good")])))
    headings = [token for token in MarkdownIt().parse(text) if token.type == "heading_open" and token.tag == "h1"]
    assert len(headings) == 1


def test_a_ledger_without_tokens_shows_the_responses_as_texts(write_pairs: Callable[..., Path]) -> None:
    text = as_html(document(write_pairs([{"logps": (-50.0, -60.0, -50.0, -63.0)}])))
    assert "<pre>rejected 0</pre>" in text


def test_a_ledger_without_a_reference_has_a_report_too(write_pairs: Callable[..., Path]) -> None:
    found = document(write_pairs([{"logps": (-50.0, -60.0, None, None)}], manifest={"has_reference": False}))
    assert found.case_lists == ()
    assert "Gradient weight" in as_html(found)
    assert "# prefscope report" in as_markdown(found)


def test_an_empty_selection_has_a_report_too(ledger: Ledger) -> None:
    found = build_document(ledger.only(View(ledger, PreferenceSettings()).filter("margin > 99")), PreferenceSettings())
    assert "0 pairs of" in as_html(found)
    assert "0 pairs of" in as_markdown(found)
