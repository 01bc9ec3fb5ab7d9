"""The operation /embeddings: answered by the responder's endpoint, or by the server's own embedder."""

from __future__ import annotations

import base64
import sys
from array import array
from functools import partial
from typing import TYPE_CHECKING, Any

from batchrun.server.errors import ApiError, bad_value
from batchrun.server.http.endpoint import operation
from batchrun.server.http.waiting_call import waiting_reply
from batchrun.server.protocol.requests.embeddings import CreateEmbedding
from batchrun.server.protocol.token_counts import count_text
from batchrun.server.replies.encoding import dumps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batchrun.server.http.endpoint import Call
    from batchrun.server.replies.replies import Waiting
    from batchrun.server.search.file_search import EmbeddedIndex, Vector

__all__ = ["OPERATIONS"]


def create_embedding(call: Call, request: CreateEmbedding) -> Waiting:
    parts = call.parts
    embed = getattr(parts.responder, "embed", None)
    if embed is not None:
        return waiting_reply(call, partial(embed, request.model_dump(exclude_none=True)))
    if parts.embedded is None:
        raise ApiError(
            404,
            "This server has no embedding model: start it with --upstream, or give it an embedder.",
            code="unsupported_endpoint",
        )
    texts = [request.input] if isinstance(request.input, str) else request.input
    if request.dimensions is not None:
        raise bad_value("dimensions", "'dimensions' is not supported: this server's embedder has one length.")
    return waiting_reply(call, partial(_embedded, parts.embedded, request, _checked(texts)))


def _checked(texts: Sequence[Any]) -> list[str]:
    """Return the inputs as texts.

    Raises:
        ApiError: 400: they are tokens.
    """
    if any(not isinstance(text, str) for text in texts):
        raise bad_value("input", "Invalid 'input': this server's embedder reads texts, not tokens.")
    return list(texts)


async def _embedded(index: EmbeddedIndex, request: CreateEmbedding, texts: list[str]) -> str:
    vectors = await index.embed(texts)
    tokens = sum(map(count_text, texts))
    is_base64 = request.encoding_format == "base64"
    return dumps(
        {
            "object": "list",
            "data": [
                {"object": "embedding", "index": index, "embedding": _shown(vector, is_base64=is_base64)}
                for index, vector in enumerate(vectors)
            ],
            "model": request.model,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
    )


def _shown(vector: Vector, *, is_base64: bool) -> str | list[float]:
    """Return a vector as numbers, or as the base64 of its float32 values, little-endian."""
    numbers = [float(number) for number in vector]
    if not is_base64:
        return numbers
    packed = array("f", numbers)
    if sys.byteorder == "big":
        packed.byteswap()
    return base64.b64encode(packed.tobytes()).decode()


OPERATIONS = (operation("POST", "/embeddings", create_embedding, CreateEmbedding, beta=False),)
