"""Searches by meaning: a real server with embeddings from a real endpoint on loopback."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import openai
import pytest
from anyio.abc import AsyncResource
from openai import OpenAI

from batchrun.server import EmbeddedServer, ServerSettings
from batchrun.server.responders.base import Conversation, Finish, Part, TextDelta, ToolCall
from batchrun.server.responders.upstream import UpstreamResponder
from batchrun.server.search.embeddings import UpstreamEmbedder
from batchrun.server.search.file_search import Embedder
from tests.integration.reliability import processes
from tests.integration.server.scripted import Script, Scripted, echo
from tests.support.command import batchrun
from tests.support.scripted_http import Answer, Request, ScriptedHttp, json_answer

KEY = "sk-embeddings-secret"
NOTES = "The dahlias are watered on Tuesday by Ursula."
BILLS = "Invoices get paid within thirty days."
PARAPHRASE = "Who handles irrigation of blossoms?"
"""Has no word in common with `NOTES`, nor with `BILLS`."""

CONCEPTS = {
    "dahlias": 0, "blossoms": 0, "watered": 1, "irrigation": 1, "invoices": 2, "paid": 2, "days": 3, "tuesday": 3,
}  # fmt: skip


def embedded(request: Request) -> Answer:
    """Return the frequency of each concept: words of equal meaning count as one concept."""
    if request.method == "GET":  # `serve` asks for the models to see whether the upstream can be reached
        return json_answer({"object": "list", "data": []})
    vectors = []
    for text in request.body["input"]:
        vector = [0.0] * 4
        for word in re.findall(r"\w+", text.lower()):
            if word in CONCEPTS:
                vector[CONCEPTS[word]] += 1.0
        vectors.append(vector)
    return json_answer({"data": [{"index": index, "embedding": each} for index, each in enumerate(vectors)]})


def refused(request: Request) -> Answer:
    return json_answer({"error": {"message": f"no model for {KEY}"}}, 503)


def silent(request: Request) -> Answer:
    return Answer(b"", "silence")


@pytest.fixture
def endpoint() -> Iterator[ScriptedHttp]:
    with ScriptedHttp(embedded) as server:
        yield server


Serve = Callable[..., OpenAI]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Return a function that starts a server and returns its client. All are stopped after the test."""
    with ExitStack() as stack:

        def start(embedder: Embedder | None, script: Script = echo, **settings: Any) -> OpenAI:
            options = ServerSettings(**{"shutdown_grace_s": 0, **settings})
            server = stack.enter_context(EmbeddedServer(options, Scripted(script), embedder=embedder))
            return stack.enter_context(OpenAI(base_url=server.url, api_key="any", max_retries=0, timeout=30))

        yield start


def by(endpoint: ScriptedHttp) -> UpstreamEmbedder:
    return UpstreamEmbedder(endpoint.url, KEY, "small")


def stored(client: OpenAI, *texts: str) -> str:
    """Return the id of a new vector store with these texts as `0.txt`, `1.txt` …."""
    store = client.vector_stores.create()
    for number, text in enumerate(texts):
        file = client.files.create(file=(f"{number}.txt", text.encode()), purpose="assistants")
        client.vector_stores.files.create_and_poll(file.id, vector_store_id=store.id, poll_interval_ms=20)
    return store.id


def found(client: OpenAI, store_id: str, query: str = PARAPHRASE, **options: Any) -> list[str]:
    return [hit.filename for hit in client.vector_stores.search(store_id, query=query, **options)]


def test_a_paraphrase_is_found_by_its_embedding_only(endpoint: ScriptedHttp, serve: Serve) -> None:
    """A question without a word of the text finds it by embeddings, and not by BM25."""
    plain, meaning = serve(None), serve(by(endpoint))
    assert found(plain, stored(plain, BILLS, NOTES)) == []
    store_id = stored(meaning, BILLS, NOTES)
    assert found(meaning, store_id) == ["1.txt", "0.txt"]
    assert found(meaning, store_id, max_num_results=1) == ["1.txt"]
    assert [request.body["input"] for request in endpoint.requests[:2]] == [[BILLS], [NOTES]]
    assert {request.body["model"] for request in endpoint.requests if request.method == "POST"} == {"small"}


async def search(conversation: Conversation) -> AsyncIterator[Part]:
    """Search once with the paraphrase, then answer with the results."""
    outputs = [output.output for message in conversation.messages for output in message.tool_outputs]
    if outputs:
        yield TextDelta(outputs[0])
        yield Finish("stop")
        return
    yield ToolCall("call_search", "file_search", json.dumps({"query": PARAPHRASE}))
    yield Finish("tool_calls")


def answered(client: OpenAI, store_id: str) -> str:
    assistant = client.beta.assistants.create(
        model="m", tools=[{"type": "file_search"}], tool_resources={"file_search": {"vector_store_ids": [store_id]}}
    )
    run = client.beta.threads.create_and_run_poll(assistant_id=assistant.id, poll_interval_ms=20)
    assert run.status == "completed", run.last_error
    content: Any = client.beta.threads.messages.list(run.thread_id).data[0].content[0]
    return str(content.text.value)


def test_the_tool_searches_by_meaning(endpoint: ScriptedHttp, serve: Serve) -> None:
    """The file_search tool of a run ranks by embeddings too."""
    client, plain = serve(by(endpoint), search), serve(None, search)
    assert answered(client, stored(client, BILLS, NOTES)).startswith(f"【0:0†1.txt】\n{NOTES}")
    assert answered(plain, stored(plain, BILLS, NOTES)) == "No results."


def test_a_file_without_embeddings_has_failed(endpoint: ScriptedHttp, serve: Serve) -> None:
    """A file that cannot be embedded fails with the endpoint's reason and is not searched; it can be added again."""
    client = serve(by(endpoint))
    endpoint.script = refused
    store_id = stored(client, NOTES)
    (file,) = client.vector_stores.files.list(store_id)
    assert file.status == "failed"
    assert file.last_error is not None
    assert file.last_error.code == "server_error"
    assert file.last_error.message == "The embeddings endpoint answered 503: no model for …"
    assert client.vector_stores.retrieve(store_id).file_counts.failed == 1
    endpoint.script = embedded
    assert found(client, store_id, "dahlias") == []
    client.vector_stores.files.create_and_poll(file.id, vector_store_id=store_id, poll_interval_ms=20)
    assert found(client, store_id) == ["0.txt"]


def test_a_search_without_embeddings_ranks_by_words(
    endpoint: ScriptedHttp, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    """If the endpoint fails, a search and the tool rank by BM25, with a warning in the log that omits the key."""
    client = serve(by(endpoint), search)
    store_id = stored(client, BILLS, NOTES)
    endpoint.script = refused
    assert found(client, store_id, "dahlias") == ["1.txt"]
    assert found(client, store_id) == []
    assert answered(client, store_id) == "No results."
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warnings == ["a search ranks by words alone: The embeddings endpoint answered 503: no model for …"] * 3


def test_embeddings_outlive_the_server(endpoint: ScriptedHttp, serve: Serve, tmp_path: Path) -> None:
    """Vectors are stored in the data file; files added without an embedder are still found by words."""
    settings = ServerSettings(data=tmp_path / "data.sqlite3", shutdown_grace_s=0)

    def session(embedder: Embedder | None, use: Callable[[OpenAI], Any]) -> Any:
        with (
            EmbeddedServer(settings, Scripted(echo), embedder=embedder) as server,
            OpenAI(base_url=server.url, api_key="any", max_retries=0) as client,
        ):
            return use(client)

    plain = session(None, lambda client: stored(client, NOTES))
    meaning = session(by(endpoint), lambda client: stored(client, NOTES))
    assert session(by(endpoint), lambda client: found(client, meaning)) == ["0.txt"]
    assert session(by(endpoint), lambda client: found(client, plain)) == []
    assert session(by(endpoint), lambda client: found(client, plain, "dahlias")) == ["0.txt"]
    assert len(endpoint.requests) == 4


def test_a_file_removed_while_it_is_embedded_is_gone(endpoint: ScriptedHttp, serve: Serve) -> None:
    """A file that is removed from its store while it is being embedded does not return with its vectors."""
    client = serve(by(endpoint), search)
    store = client.vector_stores.create()
    file = client.files.create(file=("notes.txt", NOTES.encode()), purpose="assistants")
    removed = threading.Event()

    def meanwhile(request: Request) -> Answer:
        if request.body["input"] == [NOTES]:
            client.vector_stores.files.delete(file.id, vector_store_id=store.id)
            removed.set()
        return embedded(request)

    endpoint.script = meanwhile
    client.vector_stores.files.create(store.id, file_id=file.id)
    assert removed.wait(30)
    # A run's search waits for files that are being ingested.
    assert answered(client, store.id) == "No results."
    assert found(client, store.id, "dahlias") == []
    assert client.vector_stores.retrieve(store.id).file_counts.total == 0


def test_a_store_deleted_while_a_query_is_embedded_is_gone(endpoint: ScriptedHttp, serve: Serve) -> None:
    """A search in a store that is deleted before the query has its vector is a 404."""
    client = serve(by(endpoint))
    store_id = stored(client, NOTES)

    def meanwhile(request: Request) -> Answer:
        client.vector_stores.delete(store_id)
        return embedded(request)

    endpoint.script = meanwhile
    with pytest.raises(openai.NotFoundError, match=f"No vector store found with id '{store_id}'"):
        found(client, store_id)


def test_a_search_with_a_key_is_repeated(endpoint: ScriptedHttp, serve: Serve, tmp_path: Path) -> None:
    """The same search with the same key returns the same page without another embedding, even after a restart."""
    options = ServerSettings(data=tmp_path / "data.sqlite3", shutdown_grace_s=0)
    keyed: Any = {"extra_headers": {"Idempotency-Key": "once"}}
    pages: list[tuple[str | None, str]] = []
    store_id = ""
    for _ in range(2):
        with (
            EmbeddedServer(options, Scripted(echo), embedder=by(endpoint)) as server,
            OpenAI(base_url=server.url, api_key="any", max_retries=0) as client,
        ):
            store_id = store_id or stored(client, NOTES)
            for _ in range(2):
                raw = client.vector_stores.with_raw_response.search(store_id, query=PARAPHRASE, **keyed)
                pages.append((raw.headers.get("idempotent-replayed"), raw.text))
            # From here on a new search would find nothing.
            for file in client.files.list():
                client.files.delete(file.id)
    assert [replayed for replayed, _ in pages] == [None, "true", "true", "true"]
    assert len({page for _, page in pages}) == 1
    assert "dahlias" in pages[0][1]
    assert len(endpoint.requests) == 2


def test_a_live_search_is_joined_by_its_key(endpoint: ScriptedHttp, serve: Serve) -> None:
    """A repetition with the same key waits for the live search, without another embedding."""
    client = serve(by(endpoint))
    store_id = stored(client, NOTES)
    keyed: Any = {"extra_headers": {"Idempotency-Key": "once"}}

    def impatient(request: Request) -> Answer:
        with pytest.raises(openai.APITimeoutError):
            found(client, store_id, timeout=0.3, **keyed)
        return embedded(request)

    endpoint.script = impatient
    assert found(client, store_id, **keyed) == ["0.txt"]
    assert found(client, store_id, **keyed) == ["0.txt"]
    assert len(endpoint.requests) == 2


def test_a_search_that_was_cut_off_frees_its_key(endpoint: ScriptedHttp, tmp_path: Path) -> None:
    """A server that stops while a query is embedded answers 503, and the key works on the next server."""
    options = ServerSettings(data=tmp_path / "data.sqlite3", shutdown_grace_s=0)
    keyed: Any = {"extra_headers": {"Idempotency-Key": "once"}}
    asked = threading.Event()

    def stalling(request: Request) -> Answer:
        asked.set()
        return silent(request)

    failures: list[openai.APIStatusError] = []

    def search_in_vain(client: OpenAI, store_id: str) -> None:
        with pytest.raises(openai.APIStatusError) as caught:
            found(client, store_id, **keyed)
        failures.append(caught.value)

    server = EmbeddedServer(options, Scripted(echo), embedder=by(endpoint))
    with server, OpenAI(base_url=server.url, api_key="any", max_retries=0) as client:
        store_id = stored(client, NOTES)
        endpoint.script = stalling
        searching = threading.Thread(target=search_in_vain, args=(client, store_id))
        searching.start()
        assert asked.wait(30)
        server.stop()
        searching.join()
    assert [failure.status_code for failure in failures] == [503]
    endpoint.script = embedded
    with (
        EmbeddedServer(options, Scripted(echo), embedder=by(endpoint)) as server,
        OpenAI(base_url=server.url, api_key="any", max_retries=0) as client,
    ):
        assert found(client, store_id, **keyed) == ["0.txt"]


class Broken(AsyncResource):
    """A caller's embedder that has a bug."""

    def __init__(self) -> None:
        self.closed = False

    async def __call__(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        raise ZeroDivisionError("secret detail")

    async def aclose(self) -> None:
        self.closed = True


def test_a_broken_embedder_breaks_nothing_else(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """Any exception of an embedder fails the file, not the server; its detail appears only in the log."""
    client = serve(Broken())
    store_id = stored(client, NOTES)
    (file,) = client.vector_stores.files.list(store_id)
    assert file.last_error is not None
    assert (file.status, file.last_error.message) == ("failed", "The file could not be processed.")
    assert found(client, store_id) == []
    assert "secret detail" in caplog.text


def test_an_embedder_is_closed_with_the_server() -> None:
    """An embedder with open resources is closed with the server; a plain function is an embedder too."""

    async def ones(texts: Sequence[str]) -> list[list[float]]:
        return [[1.0]] * len(texts)

    broken = Broken()
    for embedder in (broken, ones):
        with EmbeddedServer(ServerSettings(shutdown_grace_s=0), Scripted(echo), embedder=embedder):
            assert not broken.closed or embedder is ones
    assert broken.closed


def test_the_command_line_names_the_model(endpoint: ScriptedHttp, tmp_path: Path) -> None:
    """`serve --embeddings` sends requests to the upstream's URL with the upstream's key."""
    command = ["serve", "--port", "0", "--upstream", endpoint.url, "--upstream-key-env", "UPSTREAM_KEY"]
    environ = {"UPSTREAM_KEY": KEY}
    with processes.batchrun(tmp_path, *command, "--embeddings", "small", environ=environ) as process:
        (announced,) = process.said(1)
        (url,) = re.findall(r"http\S+", announced)[:1]
        with OpenAI(base_url=url, api_key="any", max_retries=0) as client:
            assert found(client, stored(client, NOTES)) == ["0.txt"]
    assert {request.headers["authorization"] for request in endpoint.requests} == {f"Bearer {KEY}"}
    assert {request.body["model"] for request in endpoint.requests if request.method == "POST"} == {"small"}


def test_embeddings_need_an_upstream(tmp_path: Path) -> None:
    """`--embeddings` without `--upstream` gives one line and exit code 2."""
    done = batchrun(tmp_path, "serve", "--embeddings", "small")
    assert done.returncode == 2
    assert done.stderr.endswith("--embeddings needs --upstream\n")


def test_embeddings_of_the_servers_embedder(endpoint: ScriptedHttp, serve: Serve) -> None:
    """/embeddings returns the embedder's vectors in both encodings, and refuses what it cannot apply."""
    client = serve(by(endpoint))
    texts = [NOTES, BILLS]
    packed = client.embeddings.create(model="any", input=texts)  # the SDK asks for base64 by itself
    plain = client.embeddings.create(model="any", input=texts, encoding_format="float")
    assert (
        [each.embedding for each in packed.data]
        == [each.embedding for each in plain.data]
        == [[1, 1, 0, 1], [0, 0, 2, 1]]
    )
    assert packed.usage.prompt_tokens > 0
    with pytest.raises(openai.BadRequestError, match="reads texts, not tokens"):
        client.embeddings.create(model="any", input=[1, 2])
    with pytest.raises(openai.BadRequestError, match="'dimensions' is not supported"):
        client.embeddings.create(model="any", input="x", dimensions=3)
    with pytest.raises(openai.NotFoundError, match="no embedding model"):
        serve(None).embeddings.create(model="any", input="x")


def test_embeddings_of_the_upstream(endpoint: ScriptedHttp) -> None:
    """Behind an upstream, /embeddings passes the whole request on, and an idempotency key repeats its reply."""
    responder = UpstreamResponder(endpoint.url, KEY)
    with (
        EmbeddedServer(ServerSettings(shutdown_grace_s=0), responder) as server,
        OpenAI(base_url=server.url, api_key="any", max_retries=0) as client,
    ):
        for _ in range(2):
            reply = client.embeddings.create(
                model="m", input=[NOTES], dimensions=4, encoding_format="float", extra_headers={"Idempotency-Key": "k"}
            )
            assert reply.data[0].embedding == [1, 1, 0, 1]
    (request,) = endpoint.requests
    assert request.body == {"model": "m", "input": [NOTES], "dimensions": 4, "encoding_format": "float"}


def test_a_refused_embedding_has_the_upstreams_reason() -> None:
    """A refusal of the upstream's embeddings endpoint comes back without the key."""
    with (
        ScriptedHttp(refused) as endpoint,
        EmbeddedServer(ServerSettings(shutdown_grace_s=0), UpstreamResponder(endpoint.url, KEY)) as server,
        OpenAI(base_url=server.url, api_key="any", max_retries=0) as client,
        pytest.raises(openai.InternalServerError, match="answered 503: no model for …"),
    ):
        client.embeddings.create(model="m", input="x")
