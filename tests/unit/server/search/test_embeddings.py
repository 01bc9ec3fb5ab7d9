"""The upstream embedder with a real HTTP server on loopback."""

from __future__ import annotations

import socket
from typing import Any

import numpy as np
import pytest

from batchrun.server.search.embeddings import UpstreamEmbedder
from batchrun.server.search.file_search import EmbeddingError
from tests.support.scripted_http import Answer, ScriptedHttp, html, json_answer

pytestmark = pytest.mark.anyio

KEY = "sk-embeddings-secret"


def entries(*vectors: Any) -> list[dict[str, Any]]:
    return [{"object": "embedding", "index": index, "embedding": each} for index, each in enumerate(vectors)]


def serving(answer: Answer) -> ScriptedHttp:
    return ScriptedHttp.answering({"POST /embeddings": answer})


async def test_vectors_come_in_the_order_of_the_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """One request has model, texts and key; the vectors are float32 and sorted by their index."""
    monkeypatch.setenv("OPENAI_ORG_ID", "org-private")
    with serving(json_answer({"data": entries([1.0, 0.5], [0.1, 2])[::-1]})) as endpoint:
        async with UpstreamEmbedder(endpoint.url, KEY, "small") as embedder:
            vectors = await embedder(["a", "b"])
    assert [np.asarray(each).tolist() for each in vectors] == [[1.0, 0.5], [float(np.float32(0.1)), 2.0]]
    assert {np.asarray(each).dtype for each in vectors} == {np.dtype(np.float32)}
    (request,) = endpoint.requests
    assert request.body == {"model": "small", "input": ["a", "b"]}
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert "openai-organization" not in request.headers


@pytest.mark.parametrize(
    "answer",
    [
        html(),
        json_answer({}),
        json_answer([]),
        json_answer({"data": None}),
        json_answer({"data": entries([1.0])}),
        json_answer({"data": entries([1.0], [1.0], [1.0])}),
        json_answer({"data": entries([1.0], [1.0, 2.0])}),
        json_answer({"data": entries([], [])}),
        json_answer({"data": entries([1.0], [float("nan")])}),
        json_answer({"data": entries([1.0], [1e300])}),
        json_answer({"data": entries([1.0], [None])}),
        json_answer({"data": entries(1.0, 2.0)}),
        json_answer({"data": [{"index": 0, "embedding": [1.0]}, {"index": 0, "embedding": [2.0]}]}),
        json_answer({"data": [{"embedding": [1.0]}, {"embedding": [2.0]}]}),
    ],
)
async def test_anything_but_vectors_is_refused(answer: Answer) -> None:
    """A reply without one finite vector of equal length for each text is an error."""
    with serving(answer) as endpoint:
        async with UpstreamEmbedder(endpoint.url, None, "small") as embedder:
            with pytest.raises(EmbeddingError, match="did not answer with 2 vectors of one length"):
                await embedder(["a", "b"])


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500])
async def test_a_refusal_is_reported_once(status: int) -> None:
    """A refusal is one line with its reason and without the key, after a single request."""
    with serving(json_answer({"error": {"message": f"not with\n{KEY}"}}, status)) as endpoint:
        async with UpstreamEmbedder(endpoint.url, KEY, "small") as embedder:
            with pytest.raises(EmbeddingError) as caught:
                await embedder(["a"])
    assert str(caught.value) == f"The embeddings endpoint answered {status}: not with …"
    assert len(endpoint.requests) == 1


async def test_silence_ends() -> None:
    """A request to an endpoint that never answers fails after the timeout."""
    with serving(Answer(b"", "silence")) as endpoint:
        async with UpstreamEmbedder(endpoint.url, None, "small", timeout_s=0.05) as embedder:
            with pytest.raises(EmbeddingError, match=r"did not answer within 0\.05 s"):
                await embedder(["a"])


async def test_no_connection_is_reported() -> None:
    """A refused connection is an error that names the connection."""
    with socket.create_server(("127.0.0.1", 0)) as gone:
        url = f"http://127.0.0.1:{gone.getsockname()[1]}/v1"
    async with UpstreamEmbedder(url, None, "small") as embedder:
        with pytest.raises(EmbeddingError, match="connection to the embeddings endpoint failed"):
            await embedder(["a"])
