"""Uploads, once per content for all rows and resumes; and the vector store of a batch."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import anyio
import pytest

from batchrun.engine.limits import Limits
from batchrun.errors import (
    BatchRefused,
    PermanentFault,
    RateLimited,
    ServiceFault,
    Unavailable,
)
from batchrun.journal import Journal
from batchrun.prompts.local_files import LocalFile, matching_files
from batchrun.records import Attachment
from batchrun.services.client import Endpoint
from batchrun.services.deletion import delete_object
from batchrun.services.files import uploads as uploads_module
from batchrun.services.files.uploads import Uploads
from batchrun.services.wire import Wire
from tests.support.filing import PLACE, Filing, journal_in
from tests.support.rows import NOON
from tests.support.scripted_http import Answer, Request, ScriptedHttp, json_answer

pytestmark = pytest.mark.anyio


def attached(folder: Path, name: str = "a.md", content: bytes = b"one") -> Attachment:
    (folder / name).write_bytes(content)
    return Attachment(name, "file", hashlib.sha256(content).hexdigest())


async def together(*calls: Callable[[], Any]) -> list[Any]:
    """Make the calls concurrently; return their results or exceptions."""
    results: list[Any] = [None] * len(calls)

    async def call(number: int) -> None:
        try:
            results[number] = await calls[number]()
        except ServiceFault as fault:
            results[number] = fault

    async with anyio.create_task_group() as tasks:
        for number in range(len(calls)):
            tasks.start_soon(call, number)
    return results


# -- files ------------------------------------------------------------------------------------------------------


async def test_a_file_arrives_whole_and_is_remembered(service: Filing, tmp_path: Path) -> None:
    """The service gets name, purpose and bytes, and the journal knows the file for deletion."""
    data = bytes(range(256)) * 5_000
    uploads = service.uploads()
    file_id = await uploads.file_id(attached(tmp_path, 'Über "uns"\n.bin', data), "user_data")
    file = service.client.files.retrieve(file_id)
    assert (file.filename, file.purpose, file.bytes) == ("Über 'uns'_.bin", "user_data", len(data))
    assert service.client.files.content(file_id).read() == data
    assert service.left() == {("file", file_id, None)}
    assert uploads.names == {file_id: 'Über "uns"\n.bin'}


async def test_a_hundred_rows_share_one_upload(service: Filing, tmp_path: Path) -> None:
    """Rows with the same content, under one name or two, share one upload."""
    first, second = attached(tmp_path, "a.md"), attached(tmp_path, "b.md")
    uploads = service.uploads()
    ids = await together(*(lambda each=each: uploads.file_id(each, "assistants") for each in [first, second] * 50))
    assert len(set(ids)) == 1
    assert service.names() == ["a.md"]
    assert service.limits.requests == 1


async def test_another_content_purpose_or_ending_is_another_file(service: Filing, tmp_path: Path) -> None:
    """Another content, suffix or purpose is another upload, because services derive formats from suffixes."""
    uploads = service.uploads()
    for name, content, purpose in (
        ("a.md", b"one", "assistants"),
        ("a.md", b"one", "user_data"),
        ("a.txt", b"one", "user_data"),
        ("b.txt", b"two", "user_data"),
        ("A.TXT", b"one", "user_data"),
    ):
        await uploads.file_id(attached(tmp_path, name, content), purpose)
    assert service.names() == ["a.md", "a.md", "a.txt", "b.txt"]


async def test_a_resumed_batch_uploads_nothing_again(service: Filing, tmp_path: Path) -> None:
    """A file that the journal names is used again, after one check that the service still has it."""
    file = attached(tmp_path)
    first = await service.uploads().file_id(file, "assistants")
    resumed = service.uploads()
    assert await resumed.file_id(file, "assistants") == first
    assert await resumed.file_id(file, "assistants") == first
    assert service.names() == ["a.md"]
    assert service.limits.requests == 2


async def test_a_file_that_is_gone_is_uploaded_again(service: Filing, tmp_path: Path) -> None:
    """A file deleted at the service is replaced, even in a batch that was cleaned up twice."""
    file = attached(tmp_path)
    ids = []
    for _ in range(3):
        ids.append(await service.uploads().file_id(file, "assistants"))
        for made in service.journal.created.left(PLACE, of_rows=False, followed=True):
            assert await delete_object(service.wire, made)
            service.journal.created.deleted(made.object_id, NOON)
        assert service.names() == []
    assert len(set(ids)) == 3
    assert service.left() == set()


async def test_a_file_that_the_service_forgets_meanwhile(service: Filing, tmp_path: Path) -> None:
    """If the service reports that it does not know a file, the next row uploads it again."""
    file, uploads = attached(tmp_path), service.uploads()
    first = await uploads.file_id(file, "assistants")
    service.client.files.delete(first)
    assert await uploads.file_id(file, "assistants") == first
    uploads.forget(first)
    second = await uploads.file_id(file, "assistants")
    assert second != first
    assert service.names() == ["a.md"]


async def test_batches_do_not_share_files(service: Filing, tmp_path: Path) -> None:
    """Two batches with the same file upload it once each, so that the cleanup of one does not affect the other."""
    file = attached(tmp_path)
    with journal_in(tmp_path, "batch_2") as other:
        ids = [
            await Uploads(service.wire, journal, PLACE, tmp_path).file_id(file, "assistants")
            for journal in (service.journal, other)
        ]
    assert len(set(ids)) == 2


async def test_another_service_gets_its_own(service: Filing, tmp_path: Path) -> None:
    """A batch that moves to another service uploads its files there."""
    file = attached(tmp_path)
    await service.uploads().file_id(file, "assistants")
    await Uploads(service.wire, service.journal, "http://elsewhere/v1", tmp_path).file_id(
        attached(tmp_path, "b.md"), "assistants"
    )
    assert service.names() == ["a.md", "b.md"]


async def test_the_row_whose_upload_is_cancelled_takes_no_other_along(service: Filing, tmp_path: Path) -> None:
    """If a row times out during an upload, the next waiting row makes the upload."""
    file, uploads = attached(tmp_path), service.uploads()
    ids: list[str] = []

    async def ask(scope: anyio.CancelScope) -> None:
        with scope:
            ids.append(await uploads.file_id(file, "assistants"))

    scopes = [anyio.CancelScope() for _ in range(3)]
    async with anyio.create_task_group() as tasks:
        for scope in scopes:
            tasks.start_soon(ask, scope)
        await anyio.lowlevel.checkpoint()
        scopes[0].cancel()
    assert len(ids) == 2
    assert len(set(ids)) == 1


# -- files that are not what they were --------------------------------------------------------------------------


async def test_a_file_that_changed_is_not_sent(service: Filing, tmp_path: Path) -> None:
    """A file whose content differs from the planned one fails its row."""
    file = attached(tmp_path)
    (tmp_path / "a.md").write_bytes(b"another")
    with pytest.raises(PermanentFault, match=r"a\.md: the file has changed since the batch read it") as caught:
        await service.uploads().file_id(file, "assistants")
    assert caught.value.error_type == "bad_attachment"
    assert service.names() == []


@pytest.mark.parametrize("what", ["gone", "folder"])
async def test_a_file_that_cannot_be_read_any_more(service: Filing, tmp_path: Path, what: str) -> None:
    """A file that disappeared fails its row with one line; a copy under another name still works."""
    file, uploads = attached(tmp_path), service.uploads()
    (tmp_path / "a.md").unlink()
    if what == "folder":
        (tmp_path / "a.md").mkdir()
    for _ in range(2):
        with pytest.raises(PermanentFault, match=r"a\.md: cannot be read \((no such file|is a directory)"):
            await uploads.file_id(file, "assistants")
    assert service.limits.requests == 0
    await uploads.file_id(attached(tmp_path, "b.md"), "assistants")
    assert service.names() == ["b.md"]


async def test_a_file_that_changes_under_way(tmp_path: Path) -> None:
    """If a file changes during its upload, the upload is not used, and is deleted with the rest."""
    file = attached(tmp_path)

    def script(request: Request) -> Answer:
        os.utime(tmp_path / "a.md", ns=(1, 1))
        return json_answer({"id": "file-1"})

    with ScriptedHttp(script) as server, journal_in(tmp_path) as journal:
        async with aclosing(Wire(Endpoint(server.url, None), Limits(), silence_timeout_s=5)) as wire:
            with pytest.raises(PermanentFault, match="the file changed during its upload"):
                await Uploads(wire, journal, PLACE, tmp_path).file_id(file, "assistants")
        assert [made.object_id for made in journal.created.left(PLACE, of_rows=False, followed=True)] == ["file-1"]
        assert journal.uploads.find(PLACE, "assistants .md", str(file.sha256)) is None


# -- faults -----------------------------------------------------------------------------------------------------

LATER = json_answer({"error": {"message": "Slow down.", "code": "rate_limit_exceeded"}}, 429, retry_after="0.01")
WRONG = json_answer({"error": {"message": "Unsupported file.", "code": "unsupported_file"}}, 400)
FORBIDDEN = json_answer({"error": {"message": "Not with this key.", "code": "api_key_restricted"}}, 403)
MADE = json_answer({"id": "file-1", "object": "file"})


@pytest.fixture
def scripted(tmp_path: Path) -> Iterator[Callable[..., tuple[Wire, Journal, ScriptedHttp]]]:
    """Start a server with these answers, each given once, the last one repeatedly."""
    from contextlib import ExitStack

    with ExitStack() as stack:

        def start(*answers: Answer, **routes: Answer) -> tuple[Wire, Journal, ScriptedHttp]:
            server = stack.enter_context(ScriptedHttp.answering({"POST /files": list(answers), **routes}))
            journal = stack.enter_context(journal_in(tmp_path))
            return Wire(Endpoint(server.url, None), Limits(), silence_timeout_s=5), journal, server

        yield start


async def test_a_refused_content_is_sent_once(tmp_path: Path, scripted: Any) -> None:
    """A file that the service refuses fails every row with it, and is sent only once."""
    wire, journal, server = scripted(WRONG)
    file, uploads = attached(tmp_path), Uploads(wire, journal, PLACE, tmp_path)
    async with aclosing(wire):
        faults = await together(*[lambda: uploads.file_id(file, "assistants")] * 5)
        faults += await together(lambda: uploads.file_id(file, "assistants"))
    assert {(type(fault), str(fault), fault.error_type) for fault in faults} == {
        (PermanentFault, "Unsupported file.", "unsupported_file")
    }
    assert len({id(fault) for fault in faults}) == 6
    assert server.paths() == ["POST /files"]


@pytest.mark.parametrize(("answer", "kind"), [(LATER, RateLimited), (FORBIDDEN, BatchRefused)])
async def test_a_fault_that_may_pass_is_shared_and_tried_again(
    tmp_path: Path, scripted: Any, answer: Answer, kind: type[ServiceFault]
) -> None:
    """Rows that wait for an upload fail with it and are retried separately; the next attempt uploads."""
    wire, journal, server = scripted(answer, MADE)
    file, uploads = attached(tmp_path), Uploads(wire, journal, PLACE, tmp_path)
    async with aclosing(wire):
        faults = await together(*[lambda: uploads.file_id(file, "assistants")] * 5)
        assert {type(fault) for fault in faults} == {kind}
        assert await together(*[lambda: uploads.file_id(file, "assistants")] * 5) == ["file-1"] * 5
    assert server.paths() == ["POST /files"] * 2


async def test_a_lost_reply_is_asked_for_under_the_same_key(tmp_path: Path, scripted: Any) -> None:
    """A service that supports idempotency keys makes one file of two attempts."""
    wire, journal, server = scripted(Answer(b"", "close"), MADE)
    file, uploads = attached(tmp_path), Uploads(wire, journal, PLACE, tmp_path)
    async with aclosing(wire):
        with pytest.raises(Unavailable):
            await uploads.file_id(file, "assistants")
        await uploads.file_id(file, "assistants")
    first, second = (request.headers["idempotency-key"] for request in server.requests)
    assert first == second
    assert first.startswith("batch_1-")


@pytest.mark.parametrize("reply", [{"object": "file"}, {"id": 7}])
async def test_a_reply_without_an_id(tmp_path: Path, scripted: Any, reply: Any) -> None:
    """A server that accepts the form and returns no id does not support files."""
    wire, journal, _ = scripted(json_answer(reply))
    async with aclosing(wire):
        with pytest.raises(PermanentFault, match="has no 'id'"):
            await Uploads(wire, journal, PLACE, tmp_path).file_id(attached(tmp_path), "assistants")


async def test_a_server_without_files(tmp_path: Path, scripted: Any) -> None:
    """If the server has no such endpoint, the batch stops, because every row would fail in the same way."""
    wire, journal, _ = scripted(json_answer({"detail": "Not Found"}, 404))
    async with aclosing(wire):
        with pytest.raises(BatchRefused, match=r"no such endpoint on this server: /v1/files"):
            await Uploads(wire, journal, PLACE, tmp_path).file_id(attached(tmp_path), "assistants")


# -- the vector store -------------------------------------------------------------------------------------------


def documents(folder: Path, **texts: str) -> tuple[LocalFile, ...]:
    (folder / "docs").mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / "docs" / f"{name}.md").write_text(text)
    return matching_files(["docs"], folder)


async def test_the_files_of_a_batch_can_be_searched(service: Filing, tmp_path: Path) -> None:
    """One vector store indexes all files before its id is returned; the journal knows all for the cleanup."""
    files = documents(tmp_path, garden="The dahlias are watered on Tuesday.", stars="Vega is bright.")
    uploads = service.uploads()
    store_id = await uploads.vector_store(files, name="answers")
    store = service.client.vector_stores.retrieve(store_id)
    assert (store.name, store.file_counts.completed, store.status) == ("answers", 2, "completed")
    assert (store.expires_after.days if store.expires_after else None) == 7
    found = service.client.vector_stores.search(store_id, query="dahlias").data
    assert [hit.filename for hit in found] == ["garden.md"]
    ids = {file.id for file in service.client.files.list()}
    assert service.left() == {("vector_store", store_id, None), *(("file", file_id, None) for file_id in ids)}
    assert set(uploads.names.values()) == {"garden.md", "stars.md"}
    assert set(uploads.names) == ids


async def test_a_resumed_batch_searches_the_same_store(service: Filing, tmp_path: Path) -> None:
    """The same contents are neither uploaded nor indexed again; the files keep their names."""
    files = documents(tmp_path, a="one", b="two")
    store_id = await service.uploads().vector_store(files, name="x")
    sent, resumed = service.limits.requests, service.uploads()
    assert await resumed.vector_store(files[::-1], name="x") == store_id
    assert service.limits.requests == sent + 1
    assert set(resumed.names.values()) == {"a.md", "b.md"}


async def test_other_contents_make_another_store(service: Filing, tmp_path: Path) -> None:
    """An edited file needs another store; the unchanged files are not uploaded again."""
    first = await service.uploads().vector_store(documents(tmp_path, a="one", b="two"), name="x")
    second = await service.uploads().vector_store(documents(tmp_path, b="three"), name="x")
    assert first != second
    assert sorted(service.names()) == ["a.md", "b.md", "b.md"]


@pytest.mark.parametrize("how", ["deleted", "expired", "files too"])
async def test_a_store_that_is_gone_is_made_again(service: Filing, tmp_path: Path, how: str) -> None:
    """A deleted or expired store is replaced, and so are deleted files."""
    files = documents(tmp_path, a="one")
    store_id = await service.uploads().vector_store(files, name="x")
    if how == "expired":
        service.clock.advance(8 * 24 * 3600)
    else:
        service.client.vector_stores.delete(store_id)
    if how == "files too":
        for file in service.client.files.list():
            service.client.files.delete(file.id)
    other = await service.uploads().vector_store(files, name="x")
    assert other != store_id
    assert service.client.vector_stores.retrieve(other).file_counts.completed == 1


async def test_a_store_that_lost_a_file_gets_it_back(service: Filing, tmp_path: Path) -> None:
    """A file that is missing in the store, by deletion or a crash, is added to the same store."""
    files = documents(tmp_path, a="one", b="two", c="three")
    store_id = await service.uploads().vector_store(files, name="x")
    lost = next(file.id for file in service.client.files.list() if file.filename == "b.md")
    service.client.vector_stores.files.delete(lost, vector_store_id=store_id)
    assert await service.uploads().vector_store(files, name="x") == store_id
    assert service.client.vector_stores.retrieve(store_id).file_counts.completed == 3


async def test_a_file_that_cannot_be_taken_in_stops_the_batch(service: Filing, tmp_path: Path) -> None:
    """The message has the file and the service's reason; a corrected file is indexed by the next run."""
    files = documents(tmp_path, good="one", blank="   ")
    with pytest.raises(
        BatchRefused, match=r"^--file-search: the service could not index blank\.md: blank\.md: contains"
    ):
        await service.uploads().vector_store(files, name="x")
    mended = documents(tmp_path, blank="two")
    store_id = await service.uploads().vector_store(mended, name="x")
    assert service.client.vector_stores.retrieve(store_id).file_counts.completed == 2


async def test_a_store_that_failed_is_not_used_again(service: Filing, tmp_path: Path) -> None:
    """The same command creates another store, in which the file may succeed."""
    files = documents(tmp_path, blank="   ")
    for number in (1, 2):
        with pytest.raises(BatchRefused):
            await service.uploads().vector_store(files, name="x")
        assert len(list(service.client.vector_stores.list())) == number


async def test_many_files_go_in_several_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Services limit the files per request, to 500; all are added, and after a crash the rest is."""
    assert uploads_module.BATCH_SIZE == 500
    monkeypatch.setattr(uploads_module, "BATCH_SIZE", 20)
    files = tuple(documents(tmp_path, **{f"n{number}": str(number) for number in range(21)}))
    inside: list[str] = []
    broken = [True]

    def script(request: Request) -> Answer:
        what = f"{request.method} {request.path.removeprefix('/v1')}"
        if what == "POST /files":
            return json_answer({"id": f"file-{request.headers['idempotency-key']}"})
        if what == "POST /vector_stores":
            return json_answer({"id": "vs_1"})
        if what == "POST /vector_stores/vs_1/file_batches":
            if len(inside) == 20 and broken[0]:
                broken[0] = False
                return json_answer({"error": {"message": "Overloaded.", "code": None}}, 503)
            assert len(request.body["file_ids"]) <= 20
            inside.extend(request.body["file_ids"])
            return json_answer({"id": f"vsfb_{len(inside)}"})
        if what == "GET /vector_stores/vs_1/files":
            start = inside.index(request.query["after"]) + 1 if "after" in request.query else 0
            page = [{"id": each, "status": "completed"} for each in inside[start : start + 10]]
            more = start + 10 < len(inside)
            return json_answer({"data": page, "last_id": page[-1]["id"], "has_more": more})
        if what.startswith("GET /vector_stores/vs_1"):
            counts = {"in_progress": 0, "completed": len(inside), "failed": 0, "cancelled": 0}
            return json_answer({"id": "vs_1", "status": "completed", "file_counts": counts})
        assert what.startswith("GET /files/")
        return json_answer({"id": "known"})

    with ScriptedHttp(script) as server, journal_in(tmp_path) as journal:
        async with aclosing(Wire(Endpoint(server.url, None), Limits(), silence_timeout_s=5)) as wire:
            with pytest.raises(Unavailable, match="Overloaded"):
                await Uploads(wire, journal, PLACE, tmp_path).vector_store(files, name="x")
            sent = server.paths().count("POST /files")
            assert await Uploads(wire, journal, PLACE, tmp_path).vector_store(files, name="x") == "vs_1"
        assert len(inside) == len(set(inside)) == 21
        assert server.paths().count("POST /files") == sent == 21
        assert server.paths().count("POST /vector_stores") == 1
        bodies = [request.body for request in server.requests if request.path.endswith("/file_batches")]
        assert [len(body["file_ids"]) for body in bodies] == [20, 1, 1]
        assert "batch_1" in json.dumps(
            [request.body for request in server.requests if request.path == "/v1/vector_stores"]
        )
