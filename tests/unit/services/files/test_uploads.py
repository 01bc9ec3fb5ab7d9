"""Uploads: each content once, whoever asks, however often; and the vector store of a batch."""

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
from batchrun.prompts.local_files import LocalFile, files_of
from batchrun.records import Attachment
from batchrun.services.client import Endpoint
from batchrun.services.deletion import delete_object
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
    """What the calls return or raise, made at once."""
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
    """The service gets name, purpose and bytes; the journal knows the file as one of the batch's, to be deleted."""
    data = bytes(range(256)) * 5_000
    uploads = service.uploads()
    file_id = await uploads.file_id(attached(tmp_path, 'Über "uns"\n.bin', data), "user_data")
    file = service.client.files.retrieve(file_id)
    assert (file.filename, file.purpose, file.bytes) == ("Über 'uns'_.bin", "user_data", len(data))
    assert service.client.files.content(file_id).read() == data
    assert service.left() == {("file", file_id, None)}
    assert uploads.names == {file_id: 'Über "uns"\n.bin'}


async def test_a_hundred_rows_share_one_upload(service: Filing, tmp_path: Path) -> None:
    """Rows that name the same content, under one name or two, get the same file, which one of them uploads."""
    first, second = attached(tmp_path, "a.md"), attached(tmp_path, "b.md")
    uploads = service.uploads()
    ids = await together(*(lambda each=each: uploads.file_id(each, "assistants") for each in [first, second] * 50))
    assert len(set(ids)) == 1
    assert service.names() == ["a.md"]
    assert service.limits.requests == 1


async def test_another_content_purpose_or_ending_is_another_file(service: Filing, tmp_path: Path) -> None:
    """Services tell formats by endings and uses by purposes, so that each of them is asked for by itself."""
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
    """What the journal names is used again, after one look whether the service still has it."""
    file = attached(tmp_path)
    first = await service.uploads().file_id(file, "assistants")
    resumed = service.uploads()
    assert await resumed.file_id(file, "assistants") == first
    assert await resumed.file_id(file, "assistants") == first
    assert service.names() == ["a.md"]
    assert service.limits.requests == 2


async def test_a_file_that_is_gone_is_uploaded_again(service: Filing, tmp_path: Path) -> None:
    """A file deleted at the service, by a cleanup or by hand, is replaced, also in a batch that is cleaned up twice."""
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
    """Told that the service does not know a file, the next row uploads it again."""
    file, uploads = attached(tmp_path), service.uploads()
    first = await uploads.file_id(file, "assistants")
    service.client.files.delete(first)
    assert await uploads.file_id(file, "assistants") == first
    uploads.forget(first)
    second = await uploads.file_id(file, "assistants")
    assert second != first
    assert service.names() == ["a.md"]


async def test_batches_do_not_share_files(service: Filing, tmp_path: Path) -> None:
    """Two batches with the same file have one each: the cleanup of one takes nothing from the other."""
    file = attached(tmp_path)
    with journal_in(tmp_path, "batch_2") as other:
        ids = [
            await Uploads(service.wire, journal, PLACE, tmp_path).file_id(file, "assistants")
            for journal in (service.journal, other)
        ]
    assert len(set(ids)) == 2


async def test_another_service_gets_its_own(service: Filing, tmp_path: Path) -> None:
    """A batch moved to another service uploads its files there."""
    file = attached(tmp_path)
    await service.uploads().file_id(file, "assistants")
    await Uploads(service.wire, service.journal, "http://elsewhere/v1", tmp_path).file_id(
        attached(tmp_path, "b.md"), "assistants"
    )
    assert service.names() == ["a.md", "b.md"]


async def test_the_row_whose_upload_is_cancelled_takes_no_other_along(service: Filing, tmp_path: Path) -> None:
    """A row that runs out of time while it uploads leaves the upload to the next that waits."""
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
    """A row's prompt stands for a content: where the file holds another by now, the row fails and says so."""
    file = attached(tmp_path)
    (tmp_path / "a.md").write_bytes(b"another")
    with pytest.raises(PermanentFault, match=r"a\.md: the file has changed since the batch read it") as caught:
        await service.uploads().file_id(file, "assistants")
    assert caught.value.error_type == "bad_attachment"
    assert service.names() == []


@pytest.mark.parametrize("what", ["gone", "folder"])
async def test_a_file_that_cannot_be_read_any_more(service: Filing, tmp_path: Path, what: str) -> None:
    """A file that went away fails its row with one line, and a copy of it under another name is as good as ever."""
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
    """What was sent half before and half after a change is not used, and is deleted with the rest."""
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
    """Starts a server with these answers, each given once, the last for ever."""
    from contextlib import ExitStack

    with ExitStack() as stack:

        def start(*answers: Answer, **routes: Answer) -> tuple[Wire, Journal, ScriptedHttp]:
            server = stack.enter_context(ScriptedHttp.answering({"POST /files": list(answers), **routes}))
            journal = stack.enter_context(journal_in(tmp_path))
            return Wire(Endpoint(server.url, None), Limits(), silence_timeout_s=5), journal, server

        yield start


async def test_a_refused_content_is_sent_once(tmp_path: Path, scripted: Any) -> None:
    """A file that the service does not take fails every row that names it, and is not sent for each."""
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
    """Rows that wait for an upload fail with it, each to be tried again by itself; the next try uploads."""
    wire, journal, server = scripted(answer, MADE)
    file, uploads = attached(tmp_path), Uploads(wire, journal, PLACE, tmp_path)
    async with aclosing(wire):
        faults = await together(*[lambda: uploads.file_id(file, "assistants")] * 5)
        assert {type(fault) for fault in faults} == {kind}
        assert await together(*[lambda: uploads.file_id(file, "assistants")] * 5) == ["file-1"] * 5
    assert server.paths() == ["POST /files"] * 2


async def test_a_lost_reply_is_asked_for_under_the_same_key(tmp_path: Path, scripted: Any) -> None:
    """A service that honours idempotency keys makes one file of two tries."""
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
    """A server that takes the form and names no file speaks something else."""
    wire, journal, _ = scripted(json_answer(reply))
    async with aclosing(wire):
        with pytest.raises(PermanentFault, match="has no 'id'"):
            await Uploads(wire, journal, PLACE, tmp_path).file_id(attached(tmp_path), "assistants")


async def test_a_server_without_files(tmp_path: Path, scripted: Any) -> None:
    """Where there is no such endpoint the batch stops: every row would fail the same way."""
    wire, journal, _ = scripted(json_answer({"detail": "Not Found"}, 404))
    async with aclosing(wire):
        with pytest.raises(BatchRefused, match=r"no such endpoint on this server: /v1/files"):
            await Uploads(wire, journal, PLACE, tmp_path).file_id(attached(tmp_path), "assistants")


# -- the vector store -------------------------------------------------------------------------------------------


def documents(folder: Path, **texts: str) -> tuple[LocalFile, ...]:
    (folder / "docs").mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / "docs" / f"{name}.md").write_text(text)
    return files_of(["docs"], folder)


async def test_the_files_of_a_batch_can_be_searched(service: Filing, tmp_path: Path) -> None:
    """One vector store takes all files in, and is ready when its id is told; both are remembered for the cleanup."""
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
    """The same contents are neither uploaded nor taken in again; one look finds the store, and the files' names stay."""
    files = documents(tmp_path, a="one", b="two")
    store_id = await service.uploads().vector_store(files, name="x")
    sent, resumed = service.limits.requests, service.uploads()
    assert await resumed.vector_store(files[::-1], name="x") == store_id
    assert service.limits.requests == sent + 1
    assert set(resumed.names.values()) == {"a.md", "b.md"}


async def test_other_contents_make_another_store(service: Filing, tmp_path: Path) -> None:
    """An edited file makes another store; the files that stayed are not uploaded again."""
    first = await service.uploads().vector_store(documents(tmp_path, a="one", b="two"), name="x")
    second = await service.uploads().vector_store(documents(tmp_path, b="three"), name="x")
    assert first != second
    assert sorted(service.names()) == ["a.md", "b.md", "b.md"]


@pytest.mark.parametrize("how", ["deleted", "expired", "files too"])
async def test_a_store_that_is_gone_is_made_again(service: Filing, tmp_path: Path, how: str) -> None:
    """A store that was deleted, or that expired over the days, is replaced; so are the files, where they are gone."""
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
    """A file taken out of the store, or a crash before it was put in, is made good in the same store."""
    files = documents(tmp_path, a="one", b="two", c="three")
    store_id = await service.uploads().vector_store(files, name="x")
    lost = next(file.id for file in service.client.files.list() if file.filename == "b.md")
    service.client.vector_stores.files.delete(lost, vector_store_id=store_id)
    assert await service.uploads().vector_store(files, name="x") == store_id
    assert service.client.vector_stores.retrieve(store_id).file_counts.completed == 3


async def test_a_file_that_cannot_be_taken_in_stops_the_batch(service: Filing, tmp_path: Path) -> None:
    """The message names the file and the service's reason; a mended file is taken in by the next run."""
    files = documents(tmp_path, good="one", blank="   ")
    with pytest.raises(BatchRefused, match=r"^--file-search: the service could not index blank\.md: blank\.md: holds"):
        await service.uploads().vector_store(files, name="x")
    mended = documents(tmp_path, blank="two")
    store_id = await service.uploads().vector_store(mended, name="x")
    assert service.client.vector_stores.retrieve(store_id).file_counts.completed == 2


async def test_a_store_that_failed_is_not_used_again(service: Filing, tmp_path: Path) -> None:
    """The same command again makes another store, in which the file may be taken in by now."""
    files = documents(tmp_path, blank="   ")
    for number in (1, 2):
        with pytest.raises(BatchRefused):
            await service.uploads().vector_store(files, name="x")
        assert len(list(service.client.vector_stores.list())) == number


async def test_many_files_go_in_several_requests(tmp_path: Path) -> None:
    """Services bound the files of one request; all are in at the end, and a crash in between goes on from there."""
    files = tuple(documents(tmp_path, **{f"n{number}": str(number) for number in range(501)}))
    inside: list[str] = []
    broken = [True]

    def script(request: Request) -> Answer:
        what = f"{request.method} {request.path.removeprefix('/v1')}"
        if what == "POST /files":
            return json_answer({"id": f"file-{request.headers['idempotency-key']}"})
        if what == "POST /vector_stores":
            return json_answer({"id": "vs_1"})
        if what == "POST /vector_stores/vs_1/file_batches":
            if len(inside) == 500 and broken[0]:
                broken[0] = False
                return json_answer({"error": {"message": "Overloaded.", "code": None}}, 503)
            assert len(request.body["file_ids"]) <= 500
            inside.extend(request.body["file_ids"])
            return json_answer({"id": f"vsfb_{len(inside)}"})
        if what == "GET /vector_stores/vs_1/files":
            start = inside.index(request.query["after"]) + 1 if "after" in request.query else 0
            page = [{"id": each, "status": "completed"} for each in inside[start : start + 100]]
            more = start + 100 < len(inside)
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
            uploads = server.paths().count("POST /files")
            assert await Uploads(wire, journal, PLACE, tmp_path).vector_store(files, name="x") == "vs_1"
        assert len(inside) == len(set(inside)) == 501
        assert server.paths().count("POST /files") == uploads == 501
        assert server.paths().count("POST /vector_stores") == 1
        bodies = [request.body for request in server.requests if request.path.endswith("/file_batches")]
        assert [len(body["file_ids"]) for body in bodies] == [500, 1, 1]
        assert "batch_1" in json.dumps(
            [request.body for request in server.requests if request.path == "/v1/vector_stores"]
        )
