"""The sources that answers cite, in the replies of all protocols."""

from __future__ import annotations

from typing import Any

import pytest

from batchrun.services.assistants_replies import message_text
from batchrun.services.citations import citations_of_completion, citations_of_items, citations_of_messages
from batchrun.services.reasoning import separated_items, separated_messages

URL = "https://example.org"


def image(file_id: str) -> dict[str, Any]:
    return {"type": "image_file", "image_file": {"file_id": file_id}}


def text(value: str, *annotations: dict[str, Any]) -> dict[str, Any]:
    return {"type": "text", "text": {"value": value, "annotations": list(annotations)}}


def cited(value: str, mark: str, file_id: str, **more: Any) -> dict[str, Any]:
    start = value.index(mark)
    body = {"file_id": file_id, **more}
    return {
        "type": "file_citation",
        "text": mark,
        "start_index": start,
        "end_index": start + len(mark),
        "file_citation": body,
    }


def said(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"type": "message", "role": "assistant", "content": list(parts)}


def output(value: str, *annotations: dict[str, Any]) -> dict[str, Any]:
    return {"type": "output_text", "text": value, "annotations": list(annotations)}


# -- assistants -------------------------------------------------------------------------------------------------


def test_citations_point_into_the_response() -> None:
    """Across parts and messages, the start and end of a citation are those of its mark in the response."""
    one, two = "Dahlias 🌺 on Tuesday【0:0†a】.", "Vega【1:2†b】"
    messages: list[dict[str, Any]] = [
        {"role": "assistant", "content": [image("file-i"), text("No mark."), text(one, cited(one, "【0:0†a】", "file-a"))]},
        {"role": "assistant", "content": []},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
        {"role": "assistant", "content": [text(two, cited(two, "【1:2†b】", "file-b", quote="Vega is bright"))]},
    ]  # fmt: skip
    response = "\n\n".join(message_text(message) for message in messages)
    first, second = citations_of_messages(messages, {"file-a": "garden.md"})
    assert {name: first[name] for name in ("file_id", "filename", "text")} == {
        "file_id": "file-a", "filename": "garden.md", "text": "【0:0†a】",
    }  # fmt: skip
    assert {name: second[name] for name in ("file_id", "quote", "text")} == {
        "file_id": "file-b", "quote": "Vega is bright", "text": "【1:2†b】",
    }  # fmt: skip
    assert "filename" not in second
    assert [response[each["start"] : each["end"]] for each in (first, second)] == ["【0:0†a】", "【1:2†b】"]


def test_a_text_part_without_text_is_skipped() -> None:
    """A malformed part has no citation, and does not move those of the next part."""
    value = "Vega【1:2†b】"
    broken = [{"type": "text", "text": None}, {"type": "text"}]
    messages = [{"role": "assistant", "content": [*broken, text(value, cited(value, "【1:2†b】", "file-b"))]}]
    [found] = citations_of_messages(messages, {})
    assert found["start"] == 4


def test_pages_and_files_of_a_thread() -> None:
    """A page that a message cites has its address; a file that the run created is listed if nothing downloads it."""
    page = {"type": "url_citation", "text": "[1]", "url_citation": {"url": URL, "title": "Stars"}}
    link = {"type": "file_path", "text": "sandbox:/a.csv", "file_path": {"file_id": "file-1"}}
    messages = [{"role": "assistant", "content": [text("Vega [1]", page, link)]}]
    cited_page = {"text": "[1]", "url": URL, "title": "Stars"}
    assert citations_of_messages(messages) == [cited_page]
    assert citations_of_messages(messages, with_files=True) == [
        cited_page,
        {"file_id": "file-1", "text": "sandbox:/a.csv"},
    ]


# -- responses --------------------------------------------------------------------------------------------------


def test_citations_of_a_response() -> None:
    """Cited files and pages have their place in the response; empty messages take no place."""
    items = [
        {"type": "file_search_call", "id": "fs_1", "queries": ["dahlias"], "results": None},
        said(output("")),
        said(output("One.")),
        said(
            output("Two"),
            output(
                "Vega, see here.",
                {"type": "file_citation", "file_id": "file-1", "filename": "stars.md", "index": 4},
                {"type": "url_citation", "url": "https://example.org", "title": "Stars", "start_index": 6, "end_index": 14},
            ),
        ),
    ]  # fmt: skip
    response = "One.\n\nTwo\nVega, see here."
    file, page = citations_of_items(items)
    assert file == {"file_id": "file-1", "filename": "stars.md", "start": response.index("Vega") + 4}
    assert page == {"url": "https://example.org", "title": "Stars", "start": page["start"], "end": page["end"]}
    assert response[page["start"] : page["end"]] == "see here"


def test_created_files_and_searches_of_a_response() -> None:
    """A file that the response created is listed if nothing downloads it; the results of a search are sources."""
    created = {"type": "container_file_citation", "container_id": "c", "file_id": "f", "filename": "a.csv"}
    results = [{"id": 1, "url": URL, "title": "Stars", "snippet": "Vega is bright"}, {"url": URL}, {"id": 2}]
    items = [
        {"type": "search_results", "results": results},
        said(output("See", {**created, "start_index": 0, "end_index": 3}, {"type": "file_path", "file_id": "g", "index": 2})),
    ]  # fmt: skip
    search = {"url": URL, "title": "Stars", "quote": "Vega is bright"}
    assert citations_of_items(items) == [search]
    assert citations_of_items(items, with_files=True) == [
        {"file_id": "f", "container_id": "c", "filename": "a.csv", "start": 0, "end": 3},
        {"file_id": "g", "start": 2},
        search,
    ]


# -- chat -------------------------------------------------------------------------------------------------------

OPENROUTER = {"url": URL, "title": "", "content": "Vega is bright", "start_index": 0, "end_index": 5}
FOUND = {"title": "Stars", "url": URL, "date": "2026-01-01", "snippet": "Vega"}


@pytest.mark.parametrize(
    ("annotations", "sources", "expected"),
    [
        (
            [{"type": "url_citation", "url_citation": OPENROUTER}, {"type": "file", "file": {}}],
            {},
            [{"url": URL, "quote": "Vega is bright", "start": 0, "end": 5}],
        ),
        ([{"type": "url_citation", "url": URL, "title": "Stars"}], {}, [{"url": URL, "title": "Stars"}]),
        # Perplexity: the marks [1], [2] count `citations`; `search_results` has the titles.
        (
            [],
            {"citations": ["https://a.example", URL], "search_results": [FOUND]},
            [{"url": "https://a.example"}, {"url": URL, "title": "Stars", "quote": "Vega"}],
        ),
        ([], {"citations": [URL, URL]}, [{"url": URL}, {"url": URL}]),
        ([], {"search_results": [FOUND, {"title": "No address"}]}, [{"url": URL, "title": "Stars", "quote": "Vega"}, {"title": "No address"}]),
        # A gateway that gives both forms.
        ([{"type": "url_citation", "url_citation": {"url": URL}}], {"citations": [URL, "https://b.example"]}, [{"url": URL}, {"url": "https://b.example"}]),
        # Azure's own data.
        (
            [],
            {"context": {"citations": [{"content": "Vega", "title": "Stars", "url": None, "filepath": "stars.md"}], "intent": "[]"}},
            [{"title": "Stars", "filename": "stars.md", "quote": "Vega"}],
        ),
        ([], {"citations": "none", "search_results": {}, "context": 1}, []),
    ],
)  # fmt: skip
def test_sources_of_a_completion(
    annotations: list[dict[str, Any]], sources: dict[str, Any], expected: list[dict[str, Any]]
) -> None:
    """Pages are listed with address, title and text, in whatever form a compatible server names them."""
    assert citations_of_completion(annotations, sources) == expected


# -- after a thought --------------------------------------------------------------------------------------------


def test_a_thought_moves_citations() -> None:
    """After the thought is cut off, the positions of citations are those in the answer, in all protocols."""
    thought, answer = "<think>\nHm.\n</think>\n\n", "Vega【1】"
    messages, thoughts = separated_messages(
        [{"role": "assistant", "content": [text(thought + answer, cited(thought + answer, "【1】", "f"))]}]
    )
    [found] = citations_of_messages(messages)
    assert (message_text(messages[0]), thoughts, answer[found["start"] : found["end"]]) == (answer, ["Hm."], "【1】")
    at = len(thought)
    page = {"type": "url_citation", "url": URL, "start_index": at, "end_index": at + 4}
    reasoning = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "First"}]}
    items, thoughts = separated_items([reasoning, said(output(thought + answer, page))])
    assert (citations_of_items(items), thoughts) == ([{"url": URL, "start": 0, "end": 4}], ["First", "Hm."])
    assert citations_of_completion([page], {}, at) == [{"url": URL, "start": 0, "end": 4}]
