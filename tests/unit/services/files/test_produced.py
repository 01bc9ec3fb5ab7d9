"""Produced files in the replies of all protocols."""

from __future__ import annotations

import base64
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from batchrun.services.citations import citations_of_completion, citations_of_items, citations_of_messages
from batchrun.services.files.produced import Produced, produced_by_steps, produced_in_items, produced_in_messages
from batchrun.services.reasoning import separated_items, separated_messages

PNG = b"\x89PNG\r\n\x1a\n"


def text(value: str, *annotations: dict[str, Any]) -> dict[str, Any]:
    return {"type": "text", "text": {"value": value, "annotations": list(annotations)}}


def linked(path: str, file_id: str) -> dict[str, Any]:
    return {"type": "file_path", "text": path, "start_index": 0, "end_index": 1, "file_path": {"file_id": file_id}}


def image(file_id: str) -> dict[str, Any]:
    return {"type": "image_file", "image_file": {"file_id": file_id}}


# -- assistants -------------------------------------------------------------------------------------------------


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
        assert all(isinstance(each, dict) for each in read(objects, with_files=True))
    for separate in (separated_messages, separated_items):
        separated, thoughts = separate(objects)
        assert len(separated) == len(objects)
        assert all(isinstance(each, str) for each in thoughts)
    for find in (produced_in_messages, produced_in_items, produced_by_steps):
        assert all(isinstance(each.file_id, str) for each in find(objects))
    for each in objects:
        citations_of_completion([each], {"citations": [each, "u"], "search_results": objects, "context": each})
