"""Data on stdout: a terminal gets no control characters, files and pipes get the data unchanged."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefscope.report.terminal import escaped, json_stream, print_json, text_stream
from prefscope.report.visible import is_shown

HOSTILE = "\x9b31m \u202e \x7f \u3164 \U000e0041 \ud800 é 👩\u200d👩 \x1b[2J"


class Terminal(io.StringIO):
    """Text that a terminal would get."""

    def isatty(self) -> bool:
        """Return that it is one."""
        return True


def test_json_on_a_terminal_means_the_same_and_holds_nothing_that_steers() -> None:
    terminal = Terminal()
    print_json({"text": HOSTILE}, terminal)
    assert json.loads(terminal.getvalue()) == {"text": HOSTILE}
    assert [one for one in terminal.getvalue() if one != "\n" and not is_shown(one)] == []
    assert "é 👩\u200d👩" in terminal.getvalue()


def test_json_in_a_pipe_is_exact() -> None:
    pipe = io.StringIO()
    print_json({"text": HOSTILE}, pipe)
    assert pipe.getvalue() == json.dumps({"text": HOSTILE}, ensure_ascii=False, indent=2) + "\n"


@given(st.text(st.characters(exclude_categories=())))
def test_escaped_json_means_the_same(text: str) -> None:
    plain = json.dumps(text, ensure_ascii=False)
    assert json.loads(escaped(plain)) == json.loads(plain)


def test_a_table_on_a_terminal_has_pictures_and_keeps_its_lines() -> None:
    terminal = Terminal()
    text_stream(terminal).write("a,\x1b[2J\x9b\n\u202e,b\n")
    assert terminal.getvalue() == "a,␛[2J\\u009b\n\\u202e,b\n"


@pytest.mark.parametrize("stream_of", [text_stream, json_stream])
def test_a_pipe_gets_text_unchanged(stream_of: object) -> None:
    pipe = io.StringIO()
    assert callable(stream_of)
    assert stream_of(pipe) is pipe
