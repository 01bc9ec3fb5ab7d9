"""The body of a request for embeddings."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from batchrun.server.protocol.requests.base import OpenModel
from batchrun.server.protocol.requests.threads import ModelName

__all__ = ["CreateEmbedding"]

_Text = Annotated[str, StringConstraints(min_length=1)]
_Tokens = Annotated[list[int], Field(min_length=1)]


class CreateEmbedding(OpenModel):
    model: ModelName
    input: (
        _Text
        | Annotated[list[_Text], Field(min_length=1, max_length=2048)]
        | _Tokens
        | Annotated[list[_Tokens], Field(min_length=1, max_length=2048)]
    )
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1)] | None = None
    user: str | None = None
