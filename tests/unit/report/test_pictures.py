"""A picture of a terminal is valid XML with any text."""

from __future__ import annotations

import re
from xml.parsers.expat import ParserCreate

from prefscope.report.sections import Table
from prefscope.report.tables import as_svg


def test_characters_that_xml_forbids_are_replaced() -> None:
    svg = as_svg(["a\x00b\x0bc\ufffed\uffffe\ud800f"], [Table("t\x1b", ("x\ufffe",), (("y\uffff",),), ())])
    ParserCreate().Parse(svg.encode(), True)  # noqa: FBT003 (the last part)
    assert re.findall("\ufffd", svg) == ["\ufffd"] * 7
