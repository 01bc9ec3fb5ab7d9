"""The request body of /batches."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from batchrun.server.protocol.requests.base import Metadata, RequestModel

__all__ = ["CreateServiceBatch"]


class OutputExpiresAfter(RequestModel):
    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=3600, le=2_592_000)]


class CreateServiceBatch(RequestModel):
    input_file_id: str
    endpoint: Literal["/v1/responses", "/v1/chat/completions"]
    completion_window: Literal["24h"]
    metadata: Metadata | None = None
    output_expires_after: OutputExpiresAfter | None = None
