"""Embeddings from any endpoint that serves OpenAI's `/embeddings`."""

from __future__ import annotations

import json
from collections.abc import Sequence

import anyio
import httpx2
import numpy as np
import numpy.typing as npt
from anyio.abc import AsyncResource

from batchrun.server.responders.upstream import FAILURES, open_client, responder_error
from batchrun.server.search.file_search import EmbeddingError, Vector

__all__ = ["UpstreamEmbedder"]

_CONNECTIONS = 16


class UpstreamEmbedder(AsyncResource):
    """Embeds texts by an endpoint's model. Each request is sent once.

    Args:
        base_url: URL of the endpoint, including `/v1`.
        api_key: None for servers that require none.
        model: name of the embedding model.
        timeout_s: timeout of a request in seconds, including the wait for a connection.
    """

    def __init__(self, base_url: str, api_key: str | None, model: str, *, timeout_s: float = 60.0) -> None:
        self._key = api_key
        self._model = model
        self._timeout_s = timeout_s
        self._client = open_client(base_url, api_key, silence_timeout_s=timeout_s, max_connections=_CONNECTIONS)

    def __repr__(self) -> str:
        return f"<UpstreamEmbedder {self._model}>"

    async def __call__(self, texts: Sequence[str]) -> list[Vector]:
        """Return one vector of float32 for each text, in order.

        Raises:
            EmbeddingError: the request was refused, failed or timed out, or the reply has other vectors.
        """
        # Without encoding_format every server replies with numbers; not all servers support base64.
        body = {"model": self._model, "input": list(texts)}
        try:
            with anyio.fail_after(self._timeout_s):
                response = await self._client.post("/embeddings", cast_to=httpx2.Response, body=body)
        except TimeoutError as exc:
            raise EmbeddingError(f"The embeddings endpoint did not answer within {self._timeout_s:g} s.") from exc
        except FAILURES as exc:
            raise EmbeddingError(str(responder_error(exc, self._key, "embeddings"))) from exc
        try:
            return list(_matrix(response.content, len(texts)))
        except (ValueError, TypeError, LookupError) as exc:
            raise EmbeddingError(
                f"The embeddings endpoint did not answer with {len(texts)} vectors of one length; check its URL and "
                "its model."
            ) from exc

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.close()


def _matrix(reply: bytes, count: int) -> npt.NDArray[np.float32]:
    """Return the vectors of a reply as rows, in the order of their `index`.

    Raises:
        ValueError, TypeError, LookupError: the reply does not contain `count` vectors.
    """
    rows = {entry["index"]: entry["embedding"] for entry in json.loads(reply)["data"]}
    # A number too large for float32 becomes infinite and is refused as such.
    with np.errstate(over="ignore"):
        matrix = np.array([rows[index] for index in range(count)], dtype=np.float32)
    if len(rows) != count or matrix.ndim != 2 or matrix.shape[1] == 0 or not np.isfinite(matrix).all():
        raise ValueError("not a matrix of numbers")
    return matrix
