"""The bodies of requests for uploads in parts."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, StringConstraints

from batchrun.server.protocol.requests.base import OpenModel, RequestModel

__all__ = ["CompleteUpload", "CreateUpload", "Purpose"]


Purpose: TypeAlias = Literal["assistants", "vision", "user_data", "batch", "fine-tune", "evals"]


class FileLife(RequestModel):
    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=3600, le=2_592_000)]


class CreateUpload(OpenModel):
    bytes: Annotated[int, Field(ge=0)]
    filename: Annotated[str, StringConstraints(min_length=1)]
    mime_type: str
    purpose: Purpose
    expires_after: FileLife | None = None


class CompleteUpload(RequestModel):
    part_ids: list[str]
    md5: str | None = None
