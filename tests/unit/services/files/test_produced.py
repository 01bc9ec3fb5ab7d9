"""Citations and produced files in the replies of all protocols."""

from __future__ import annotations

import base64
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from batchrun.services.assistants_replies import message_text
from batchrun.services.files.produced import (
    Produced,
    citations_of_chat,
    citations_of_items,
    citations_of_messages,
    produced_by_steps,
    produced_in_items,
    produced_in_messages,
)

PNG = b"\x89PNG\r\n\x1a\n"


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


def linked(path: str, file_id: str) -> dict[str, Any]:
    return {"type": "file_path", "text": path, "start_index": 0, "end_index": 1, "file_path": {"file_id": file_id}}


def image(file_id: str) -> dict[str, Any]:
    return {"type": "image_file", "image_file": {"file_id": file_id}}


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


def test_files_of_messages_come_once_under_their_names() -> None:
    """An image that is shown and linked is one file, with the name of its link."""
    messages = [
        {"content": [image("file-1"), image("file-2"), text("See", linked("sandbox:/mnt/data/a b.png", "file-1"))]},
        {"content": [text("And", linked("sandbox:/mnt/data/t.csv", "file-3"), linked("", "file-4"))]},
    ]
    assert produced_in_messages(messages) == [
        Produced("file-1", "a b.png"),
        Produced("file-2"),
        Produced("file-3", "t.csv"),
        Produced("file-4"),
    ]


def test_images_of_steps() -> None:
    """Drawings that no message shows are found in the steps."""
    outputs = [{"type": "logs", "logs": "42"}, {"type": "image", "image": {"file_id": "file-1"}}]
    call = {"type": "code_interpreter", "code_interpreter": {"input": "plot()", "outputs": outputs}}
    steps: list[dict[str, Any]] = [
        {"step_details": {"type": "tool_calls", "tool_calls": [call, {"type": "file_search", "file_search": {}}]}},
        {"step_details": {"type": "message_creation", "message_creation": {"message_id": "msg_1"}}},
    ]
    assert produced_by_steps(steps) == [Produced("file-1")]


# -- responses --------------------------------------------------------------------------------------------------


def said(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"type": "message", "role": "assistant", "content": list(parts)}


def output(value: str, *annotations: dict[str, Any]) -> dict[str, Any]:
    return {"type": "output_text", "text": value, "annotations": list(annotations)}


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


def test_files_of_a_response() -> None:
    """Files in containers, files without one, and images inside the response are found."""
    encoded = base64.b64encode(PNG).decode()
    items: list[dict[str, Any]] = [
        {"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": encoded},
        {"type": "image_generation_call", "id": "ig_2", "status": "failed", "result": None},
        {
            "type": "code_interpreter_call", "id": "ci_1", "container_id": "cntr_1",
            "outputs": [
                {"type": "logs", "logs": "x"},
                {"type": "image", "url": f"data:image/png;base64,{encoded}"},
                {"type": "image", "url": "https://example.org/a.png"},
                {"type": "image", "url": "data:image/png;base64,§"},
            ],
        },
        said(
            output(
                "See",
                {"type": "container_file_citation", "container_id": "cntr_1", "file_id": "cfile_1", "filename": "a.csv", "start_index": 0, "end_index": 1},
                {"type": "file_path", "file_id": "file-1", "index": 0},
            )
        ),
    ]  # fmt: skip
    assert produced_in_items(items) == [
        Produced("cfile_1", "a.csv", "cntr_1"),
        Produced("file-1"),
        Produced("ig_1", content=PNG),
        Produced("ci_1-1", content=PNG),
    ]


# -- chat -------------------------------------------------------------------------------------------------------


def test_pages_that_a_chat_cites() -> None:
    """The annotations of models that search the web are read."""
    page = {"url": "https://example.org", "title": "", "start_index": 0, "end_index": 5}
    message = {"content": "Stars", "annotations": [{"type": "url_citation", "url_citation": page}, {"type": "other"}]}
    assert citations_of_chat(message) == [{"url": "https://example.org", "start": 0, "end": 5}]
    assert citations_of_chat({"content": "Stars"}) == []


# -- replies of other servers -----------------------------------------------------------------------------------

NAMES = st.sampled_from(
    ["type", "text", "content", "annotations", "value", "message", "output_text", "file_citation", "url_citation",
     "file_path", "file_id", "image_file", "image", "index", "start_index", "tool_calls", "code_interpreter",
     "code_interpreter_call", "image_generation_call", "outputs", "result", "url", "step_details", "filename"]
)  # fmt: skip
ANYTHING = st.recursive(
    st.none() | st.integers() | NAMES | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)
OBJECTS = st.lists(st.dictionaries(NAMES, ANYTHING, max_size=5), max_size=3)


@given(OBJECTS)
def test_odd_replies_are_read_as_far_as_they_go(objects: list[dict[str, Any]]) -> None:
    """Fields of other types are skipped, and the answer is kept."""
    for read in (citations_of_messages, citations_of_items):
        assert all(isinstance(each, dict) for each in read(objects))
    for find in (produced_in_messages, produced_in_items, produced_by_steps):
        assert all(isinstance(each.file_id, str) for each in find(objects))
    for each in objects:
        citations_of_chat(each)
