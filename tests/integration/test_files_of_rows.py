"""Rows with files, in the three protocols of the embedded server: sent, searched, cited, downloaded and cleaned up."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from batchrun.batch.cleanup_summary import CleanupSummary, cleanup_line
from batchrun.prompts.attachments import Attachments
from batchrun.prompts.local_files import matching_files
from batchrun.records import Turn
from batchrun.server.responders.base import Conversation, Finish, Part, TextDelta, ToolCall
from batchrun.services.assistants_replies import TERMINAL, message_text
from batchrun.services.citations import citations_of_messages
from batchrun.services.deletion import delete_object
from batchrun.services.files.messages import assistants_message, chat_content, responses_message
from batchrun.services.files.produced import produced_by_steps, produced_in_messages
from batchrun.services.polling import poll
from batchrun.services.wire import BETA
from tests.integration.server.scripted import echo
from tests.support.filing import PLACE, Filing, Started, filing, started
from tests.support.rows import NOON
from tests.support.sandbox import needs_bubblewrap

pytestmark = pytest.mark.anyio

NOTES = "The dahlias are watered on Tuesday evening by Ursula.\n"


async def search_or_compute(conversation: Conversation) -> AsyncIterator[Part]:
    """Search or compute, depending on the available tool; then cite the first result or link the written file."""
    outputs = [output.output for message in conversation.messages for output in message.tool_outputs]
    offered = {tool["function"]["name"] for tool in conversation.tools}
    if outputs and "python" in offered:
        yield TextDelta(f"{outputs[0].splitlines()[0]}, see sandbox:/mnt/data/sum.txt")
    elif outputs:
        yield TextDelta("🌺 On Tuesday" + outputs[0].split("\n")[0])
    elif "python" in offered:
        code = "n = sum(map(int, open('numbers.csv').read().split()))\nopen('sum.txt', 'w').write(str(n))\n6 * 7"
        yield ToolCall("call_1", "python", json.dumps({"code": code}))
    else:
        yield ToolCall("call_1", "file_search", json.dumps({"query": "When are the dahlias watered?"}))
    yield Finish("stop" if outputs else "tool_calls")


@pytest.fixture(scope="module")
def server() -> Iterator[Started]:
    with started() as running:
        yield running


@pytest.fixture
async def service(server: Started, tmp_path: Path) -> AsyncIterator[Filing]:
    (tmp_path / "notes.md").write_text(NOTES)
    (tmp_path / "numbers.csv").write_text("1 2 3")
    server.responder.script = echo
    async with filing(server, tmp_path) as own:
        yield own


def turn(folder: Path, *names: str) -> Turn:
    return Turn("When are the dahlias watered?", attachments=Attachments().of_cell(names, folder))


async def run_of(service: Filing, message: Mapping[str, Any], **assistant: Any) -> tuple[list[Any], list[Any]]:
    """Complete a run of this message; return its (messages, steps)."""
    wire = service.wire
    made = await wire.post("/assistants", {"model": "scripted-1", **assistant}, BETA)
    run = await wire.post("/threads/runs", {"assistant_id": made["id"], "thread": {"messages": [message]}}, BETA)
    path = f"/threads/{run['thread_id']}/runs/{run['id']}"
    run = await poll(wire, path, BETA, lambda found: found["status"] in TERMINAL)
    assert run["status"] == "completed", run["last_error"]
    messages, _ = await wire.get(f"/threads/{run['thread_id']}/messages", BETA, run_id=run["id"], order="asc")
    steps, _ = await wire.get(f"{path}/steps", BETA, order="asc")
    return messages["data"], steps["data"]


async def delete_all(service: Filing) -> None:
    created = service.journal.created
    for of_rows in (True, False):
        for made in created.left(PLACE, of_rows=of_rows, followed=True):
            assert await delete_object(service.wire, made)
            created.deleted(made.object_id, NOON)


async def test_the_files_of_the_batch_are_searched_and_cited(service: Filing, server: Started, tmp_path: Path) -> None:
    """An answer from the batch's files cites them by name, at its place in the response; a cleanup deletes all of
    them."""
    server.responder.script = search_or_compute
    uploads = service.uploads()
    store_id = await uploads.vector_store(matching_files(["*.md"], tmp_path), name="answers")
    message = await assistants_message(Turn("When are the dahlias watered?"), uploads)
    resources = {"file_search": {"vector_store_ids": [store_id]}}
    messages, _ = await run_of(service, message, tools=[{"type": "file_search"}], tool_resources=resources)
    response = "\n\n".join(message_text(each) for each in messages)
    (citation,) = citations_of_messages(messages, uploads.names)
    assert citation["filename"] == "notes.md"
    assert response[citation["start"] : citation["end"]] == citation["text"] == "【0:0†notes.md】"
    await delete_all(service)
    assert list(service.client.vector_stores.list()) == []
    assert service.names() == []


async def test_a_row_searches_the_file_that_it_brings(service: Filing, server: Started, tmp_path: Path) -> None:
    """The run of a row finds the file attached to that row."""
    server.responder.script = search_or_compute
    uploads = service.uploads()
    message = await assistants_message(turn(tmp_path, "notes.md"), uploads)
    messages, _ = await run_of(service, message, tools=[{"type": "file_search"}])
    assert [each["filename"] for each in citations_of_messages(messages, uploads.names)] == ["notes.md"]


@needs_bubblewrap
async def test_what_a_run_writes_is_fetched(service: Filing, server: Started, tmp_path: Path) -> None:
    """A file that code writes during a run is downloaded into the row's folder."""
    server.responder.script = search_or_compute
    message = await assistants_message(turn(tmp_path, "numbers.csv"), service.uploads(), code_interpreter=True)
    messages, steps = await run_of(service, message, tools=[{"type": "code_interpreter"}])
    produced = [*produced_in_messages(messages), *produced_by_steps(steps)]
    fetched = await service.downloads().fetch(produced, "row 7")
    (path,) = fetched.paths
    assert path.startswith("answers.csv.files/row 7~")
    assert path.endswith("/sum.txt")
    assert (tmp_path / path).read_text() == "6"
    await delete_all(service)
    assert service.names() == []


def test_a_cleanup_reports_deleted_objects() -> None:
    """The summary of a cleanup counts files and vector stores."""
    summary = CleanupSummary(PLACE, 4, deleted=Counter({"file": 2, "vector_store": 1, "thread": 1}))
    assert cleanup_line(summary) == "4 deleted · 2 files, 1 vector store, 1 thread"


async def test_a_response_reads_the_rows_file(service: Filing, tmp_path: Path) -> None:
    """In the Responses protocol the file is sent by its id, and uploaded once for two rows."""
    uploads = service.uploads()
    for _ in range(2):
        given = await responses_message(turn(tmp_path, "notes.md"), uploads)
        response = await service.wire.post("/responses", {"model": "scripted-1", "input": [given]}, {})
        text = response["output"][0]["content"][0]["text"]
        assert text == f"You said: notes.md:\n\n{NOTES.strip()}\nWhen are the dahlias watered?"
    assert service.names() == ["notes.md"]


async def test_a_chat_reads_the_rows_file(service: Filing, tmp_path: Path) -> None:
    """In Chat Completions the file is in the message, and nothing is uploaded."""
    messages = [{"role": "user", "content": await chat_content(turn(tmp_path, "notes.md"), tmp_path)}]
    reply = await service.wire.post("/chat/completions", {"model": "scripted-1", "messages": messages}, {})
    said = reply["choices"][0]["message"]["content"]
    assert said == f"You said: notes.md:\n\n{NOTES}\n\nWhen are the dahlias watered?"
    assert service.names() == []
