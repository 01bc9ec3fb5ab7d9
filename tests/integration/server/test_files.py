from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import openai
import pytest

from batchrun.server.responders.base import Conversation, Finish, Part, TextDelta, ToolCall
from tests.integration.server.conftest import Running
from tests.integration.server.scripted import echo
from tests.support.sandbox import needs_bubblewrap

Start = Callable[..., Running]

NOTES = b"# Garden\n\nThe dahlias are watered on Tuesday evening by Ursula.\n"


def test_a_file_is_uploaded_listed_read_and_deleted(start: Start) -> None:
    """The bytes of any file are returned unchanged until it is deleted."""
    files = start().client.files
    data = bytes(range(256)) * 5000
    file = files.create(file=("data.bin", data), purpose="assistants")
    assert (file.bytes, file.filename, file.purpose, file.status) == (len(data), "data.bin", "assistants", "processed")
    other = files.create(file=("x.txt", b"x"), purpose="user_data")
    assert [each.id for each in files.list()] == [other.id, file.id]
    assert [each.id for each in files.list(purpose="assistants")] == [file.id]
    assert files.retrieve(file.id) == file
    assert files.content(file.id).read() == data
    assert files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError, match=f"No file found with id '{file.id}'"):
        files.content(file.id)


@pytest.mark.parametrize("name", ["../../etc/passwd", "C:\\docs\\passwd", "passwd"])
def test_a_file_name_has_no_folders(start: Start, name: str) -> None:
    """Folders in a file's name are removed."""
    assert start().client.files.create(file=(name, b"x"), purpose="assistants").filename == "passwd"


def test_uploads_are_bounded(start: Start) -> None:
    """A file over the limit is refused with 413, and no part of it is stored."""
    files = start(max_upload_bytes=1000).client.files
    for size in (1001, 5_000_000):
        with pytest.raises(openai.APIStatusError) as caught:
            files.create(file=("big", b"x" * size), purpose="assistants")
        assert caught.value.status_code == 413
    files.create(file=("fits", b"x" * 1000), purpose="assistants")
    assert [file.filename for file in files.list()] == ["fits"]


def test_an_upload_with_a_key_is_made_once(start: Start) -> None:
    """The same upload with the same key returns the same file, although the multipart boundaries differ."""
    files = start().client.files
    headers = {"Idempotency-Key": "upload"}
    first = files.create(file=("a.txt", b"a"), purpose="assistants", extra_headers=headers)
    assert files.create(file=("a.txt", b"a"), purpose="assistants", extra_headers=headers) == first
    with pytest.raises(openai.ConflictError):
        files.create(file=("a.txt", b"b"), purpose="assistants", extra_headers=headers)


def test_a_purpose_is_required(start: Start) -> None:
    """An unknown purpose is refused; the error names the parameter."""
    with pytest.raises(openai.BadRequestError) as caught:
        start().client.files.create(file=("a.txt", b"a"), purpose="nonsense")  # type: ignore[arg-type]  # on purpose
    assert caught.value.param == "purpose"


def test_a_vector_store_ingests_files(start: Start) -> None:
    """Files become searchable, with counts, sizes and contents; the error of an unreadable file states the reason."""
    client = start().client
    good = client.files.create(file=("notes.md", NOTES), purpose="assistants")
    bad = client.files.create(file=("blank.txt", b"  \n"), purpose="assistants")
    store = client.vector_stores.create(name="garden", file_ids=[good.id])
    batch = client.vector_stores.file_batches.create_and_poll(store.id, file_ids=[bad.id], poll_interval_ms=20)
    assert batch.file_counts.failed == 1
    client.vector_stores.files.poll(good.id, vector_store_id=store.id, poll_interval_ms=20)
    store = client.vector_stores.retrieve(store.id)
    assert store.file_counts.model_dump() == {
        "in_progress": 0, "completed": 1, "failed": 1, "cancelled": 0, "total": 2,
    }  # fmt: skip
    assert store.status == "completed"
    failed = client.vector_stores.files.retrieve(bad.id, vector_store_id=store.id)
    assert failed.last_error is not None
    assert "blank.txt" in failed.last_error.message
    listed = client.vector_stores.files.list(store.id, order="asc")
    assert [file.id for file in listed] == [good.id, bad.id]
    assert [file.id for file in client.vector_stores.files.list(store.id, filter="failed")] == [bad.id]
    assert [file.id for file in client.vector_stores.file_batches.list_files(batch.id, vector_store_id=store.id)] == [
        bad.id
    ]
    (content,) = client.vector_stores.files.content(good.id, vector_store_id=store.id)
    assert content.text is not None
    assert "dahlias" in content.text


def test_a_search_finds_and_filters(start: Start) -> None:
    """A search ranks the chunks of the store's files, by words, within the filters."""
    client = start().client
    store = client.vector_stores.create()
    for name, text, year in (("a.txt", "dahlias and roses", 2024.0), ("b.txt", "dahlias alone", 2025.0)):
        file = client.files.create(file=(name, text.encode()), purpose="assistants")
        client.vector_stores.files.create_and_poll(
            file.id, vector_store_id=store.id, attributes={"year": year}, poll_interval_ms=20
        )
    search = client.vector_stores.search
    assert {hit.filename for hit in search(store.id, query="dahlias")} == {"a.txt", "b.txt"}
    assert search(store.id, query="roses").data[0].filename == "a.txt"
    recent: Any = {"type": "and", "filters": [{"type": "gte", "key": "year", "value": 2025}]}
    assert [hit.filename for hit in search(store.id, query="dahlias", filters=recent)] == ["b.txt"]
    assert search(store.id, query="tulips").data == []


def test_a_deleted_file_leaves_its_stores(start: Start) -> None:
    """A deleted file is removed from every vector store, and a deleted store from the assistants."""
    running = start()
    client = running.client
    file = client.files.create(file=("notes.md", NOTES), purpose="assistants")
    store = client.vector_stores.create()
    client.vector_stores.files.create_and_poll(file.id, vector_store_id=store.id, poll_interval_ms=20)
    client.files.delete(file.id)
    assert client.vector_stores.search(store.id, query="dahlias").data == []
    assert client.vector_stores.retrieve(store.id).file_counts.total == 0
    assistant_id = running.assistant(
        tools=[{"type": "file_search"}], tool_resources={"file_search": {"vector_store_ids": [store.id]}}
    )
    client.vector_stores.delete(store.id)
    resources = client.beta.assistants.retrieve(assistant_id).tool_resources
    assert resources is not None
    assert resources.file_search is not None
    assert resources.file_search.vector_store_ids == []


def test_a_vector_store_expires(start: Start) -> None:
    """A store expires the given days after its last use, and then finds nothing."""
    running = start()
    store = running.client.vector_stores.create(expires_after={"anchor": "last_active_at", "days": 1})
    running.clock.advance(24 * 3600 - 1)
    assert running.client.vector_stores.retrieve(store.id).status == "completed"
    running.clock.advance(1)
    assert running.client.vector_stores.retrieve(store.id).status == "expired"


async def search_and_cite(conversation: Conversation) -> AsyncIterator[Part]:
    """Search once, then answer with the first result's mark and an unknown one."""
    outputs = [output.output for message in conversation.messages for output in message.tool_outputs]
    if not outputs:
        yield ToolCall("call_search", "file_search", json.dumps({"query": "When are the dahlias watered?"}))
        yield Finish("tool_calls")
        return
    mark = outputs[0].split("\n")[0]
    yield TextDelta("On Tuesday")
    yield TextDelta(f"{mark}, not on Monday【7:7†dream】.")
    yield Finish("stop")


def test_file_search_is_done_and_cited(start: Start) -> None:
    """The server searches the attached file, shows the scores in the step, and annotates the citation."""
    running = start(search_and_cite)
    client = running.client
    file = client.files.create(file=("notes.md", NOTES), purpose="assistants")
    attachment: Any = {"file_id": file.id, "tools": [{"type": "file_search"}]}
    events: list[Any] = list(
        client.beta.threads.create_and_run(
            assistant_id=running.assistant(tools=[{"type": "file_search"}]), stream=True,
            thread={"messages": [{"role": "user", "content": "When?", "attachments": [attachment]}]},
        )
    )  # fmt: skip
    assert [event.event for event in events][4:9] == [
        "thread.run.step.created", "thread.run.step.in_progress", "thread.run.step.delta",
        "thread.run.step.completed", "thread.run.step.created",
    ]  # fmt: skip
    run = events[-1].data
    assert run.status == "completed"
    content: Any = client.beta.threads.messages.list(run.thread_id, run_id=run.id).data[0].content
    text = content[0].text
    assert text.value == "On Tuesday【0:0†notes.md】, not on Monday【7:7†dream】."
    (annotation,) = text.annotations
    assert annotation.type == "file_citation"
    assert annotation.file_citation.file_id == file.id
    assert text.value[annotation.start_index : annotation.end_index] == annotation.text == "【0:0†notes.md】"
    deltas = [event.data.delta.content[0].text for event in events if event.event == "thread.message.delta"]
    assert deltas[-1].annotations[0].text == "【0:0†notes.md】"
    steps = client.beta.threads.runs.steps
    plain = steps.list(run.id, thread_id=run.thread_id, order="asc").data[0]
    details: Any = plain.step_details
    (call,) = details.tool_calls
    assert call.type == "file_search"
    assert call.file_search.results is not None
    assert call.file_search.results[0].model_dump() == {
        "file_id": file.id, "file_name": "notes.md", "score": 1.0, "content": None,
    }  # fmt: skip
    full = steps.retrieve(
        plain.id, run_id=run.id, thread_id=run.thread_id,
        include=["step_details.tool_calls[*].file_search.results[*].content"],
    )  # fmt: skip
    assert "dahlias" in full.model_dump_json()


async def compute(conversation: Conversation) -> AsyncIterator[Part]:
    """Run code that reads the attached file and writes another one, then answer with the code's output."""
    outputs = [output.output for message in conversation.messages for output in message.tool_outputs]
    if not outputs:
        code = "text = open('numbers.txt').read()\nopen('sum.txt', 'w').write(str(sum(map(int, text.split()))))\n6 * 7"
        yield ToolCall("call_python", "python", json.dumps({"code": code}))
        yield Finish("tool_calls")
        return
    yield TextDelta(f"{outputs[0].splitlines()[0]}, see sandbox:/mnt/data/sum.txt")
    yield Finish("stop")


@needs_bubblewrap
def test_code_runs_in_the_sandbox(start: Start) -> None:
    """The server runs the code on the attached file; the step has the logs, and the produced file can be downloaded."""
    running = start(compute)
    client = running.client
    file = client.files.create(file=("numbers.txt", b"1 2 3"), purpose="assistants")
    assistant_id = running.assistant(
        tools=[{"type": "code_interpreter"}], tool_resources={"code_interpreter": {"file_ids": [file.id]}}
    )
    run = client.beta.threads.create_and_run_poll(assistant_id=assistant_id, poll_interval_ms=20)
    assert run.status == "completed", run.last_error
    step = client.beta.threads.runs.steps.list(run.id, thread_id=run.thread_id, order="asc").data[0]
    details: Any = step.step_details
    (call,) = details.tool_calls
    assert call.type == "code_interpreter"
    assert call.code_interpreter.outputs[0].logs.strip() == "42"
    content: Any = client.beta.threads.messages.list(run.thread_id).data[0].content
    text = content[0].text
    (annotation,) = text.annotations
    assert annotation.type == "file_path"
    assert client.files.content(annotation.file_path.file_id).read() == b"6"


def test_resources_must_exist(start: Start) -> None:
    """References to missing files and vector stores are refused."""
    running = start(echo)
    create = running.client.beta.assistants.create
    with pytest.raises(openai.NotFoundError, match="No file found with id 'file-x'"):
        create(model="m", tool_resources={"code_interpreter": {"file_ids": ["file-x"]}})
    with pytest.raises(openai.NotFoundError, match="No vector store found with id 'vs_x'"):
        create(model="m", tool_resources={"file_search": {"vector_store_ids": ["vs_x"]}})


def test_image_files_reach_the_responder(start: Start) -> None:
    """The responder gets an image file of a message as a data URL, which any model's service can read."""
    running = start(echo)
    file = running.client.files.create(file=("dot.png", b"\x89PNG"), purpose="vision")
    content: Any = [{"type": "text", "text": "look"}, {"type": "image_file", "image_file": {"file_id": file.id}}]
    thread: Any = {"messages": [{"role": "user", "content": content}]}
    run = running.client.beta.threads.create_and_run_poll(
        assistant_id=running.assistant(reasoning_effort="low"), thread=thread, poll_interval_ms=20
    )
    assert run.status == "completed"
    asked = running.responder.asked[-1]
    assert asked.messages[0].content == [
        {"type": "text", "text": "look"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw==", "detail": "auto"}},
    ]
    assert asked.parameters["reasoning_effort"] == "low"


def test_an_expired_store_is_not_searched(start: Start) -> None:
    """A run finds nothing in an expired vector store; the model gets an empty result instead of an error."""
    running = start(search_and_cite)
    client = running.client
    store = client.vector_stores.create(expires_after={"anchor": "last_active_at", "days": 1})
    file = client.files.create(file=("notes.md", NOTES), purpose="assistants")
    client.vector_stores.files.create_and_poll(file.id, vector_store_id=store.id, poll_interval_ms=20)
    assistant_id = running.assistant(
        tools=[{"type": "file_search"}], tool_resources={"file_search": {"vector_store_ids": [store.id]}}
    )
    found = client.beta.threads.create_and_run_poll(assistant_id=assistant_id, poll_interval_ms=20)
    running.clock.advance(24 * 3600)
    missed = client.beta.threads.create_and_run_poll(assistant_id=assistant_id, poll_interval_ms=20)
    texts: list[Any] = [client.beta.threads.messages.list(run.thread_id).data[0].content[0] for run in (found, missed)]
    assert [bool(text.text.annotations) for text in texts] == [True, False]
