"""The page as a document: no shown text can become part of it."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from importlib.resources import files
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchrun.reporting.columns_json import packed
from batchrun.reporting.html import Policy, embedded_json, live_page, report_page

HOSTILE = [
    "</script><script>alert(1)</script>", "<!--<script>", "]]>", "\u2028\u2029", "\0", "\ud800", "{{script}} {{data}}", "&lt;", "\\u003c",
]  # fmt: skip


class Elements(HTMLParser):
    """The tags of a document, and the text of its script elements."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] == "script":
            self.scripts[-1] += data


def parsed(page: bytes) -> Elements:
    found = Elements()
    found.feed(page.decode())
    return found


def data(**facts: Any) -> Any:
    return {"facts": {"table": "t.csv", **facts}, "columns": {"listed": []}, "shown": 0, "portions": [packed([])]}


@pytest.mark.parametrize("text", HOSTILE)
def test_what_could_end_the_script_is_escaped(text: str) -> None:
    """The JSON has no character with a meaning in HTML, and is read back unchanged."""
    found = embedded_json({text: [text]})
    assert not re.search("[<>&\u2028\u2029]", found)
    assert json.loads(found) == {text: [text]}
    found.encode()


@settings(max_examples=40)
@given(
    st.recursive(
        st.text() | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_json_comes_back(value: Any) -> None:
    """Any value is read back unchanged."""
    assert json.loads(embedded_json(value)) == value


@pytest.mark.parametrize("text", HOSTILE)
def test_the_document_has_the_same_elements_whatever_it_shows(text: str) -> None:
    """Hostile text changes only the script that is not executed, and the title."""
    quiet, hostile = parsed(report_page(data(table="x", note="y"))), parsed(report_page(data(table=text, note=text)))
    assert hostile.tags == quiet.tags
    assert hostile.scripts[1:] == quiet.scripts[1:]
    assert json.loads(hostile.scripts[0])["facts"]["note"] == text


def test_the_policy_allows_the_page_and_nothing_else() -> None:
    """No network, no inline code except by its hash, no markup made from strings; only a live page may contact its
    server."""
    rules = dict(rule.split(" ", 1) for rule in str(Policy()).split("; "))
    assert rules["default-src"] == "'none'"
    assert "connect-src" not in rules
    assert "unsafe" not in str(Policy())
    assert rules["require-trusted-types-for"] == "'script'"
    assert "; connect-src 'self'" in str(Policy(live=True))
    assert str(Policy()) in [attrs.get("content") for tag, attrs in parsed(report_page(data())).tags if tag == "meta"]


def test_a_live_page_has_no_rows() -> None:
    """It requests them, next to its own address."""
    assert json.loads(parsed(live_page("a.csv")).scripts[0]) == {"live": True}


def test_the_licences_come_along() -> None:
    """The package has a licence for every part of the bundle."""
    folder = files("batchrun.reporting").joinpath("assets", "vendor")
    licences = folder.joinpath("LICENSES.txt").read_text(encoding="utf-8")
    wanted = json.loads(folder.joinpath("package.json").read_text(encoding="utf-8"))["dependencies"]
    assert all(f"{name} {version} (" in licences for name, version in wanted.items())


def test_the_page_requests_nothing() -> None:
    """No part of the page contains the address of another place."""
    own = "".join(
        each.read_text(encoding="utf-8")
        for each in files("batchrun.reporting").joinpath("assets").iterdir()
        if each.is_file()
    )
    assert not re.search(r"https?://|@import|url\(|innerHTML|insertAdjacent|document\.write|\beval\b", own)
