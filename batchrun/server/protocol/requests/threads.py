"""The bodies of requests for assistants, threads and messages."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, StringConstraints

from batchrun.server.protocol.requests.base import Metadata, MetadataUpdate, Probability, RequestModel, Temperature
from batchrun.server.protocol.requests.tools import ResponseFormat, Tool, ToolResources, ToolResourcesUpdate

__all__ = [
    "ContentPart",
    "CreateAssistant",
    "CreateMessage",
    "CreateThread",
    "ImageAddress",
    "MessageAttachment",
    "UpdateAssistant",
    "UpdateMetadata",
    "UpdateThread",
]

ModelName = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Instructions = Annotated[str, StringConstraints(max_length=256_000)]
ReasoningEffort: TypeAlias = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


class CreateAssistant(RequestModel):
    model: ModelName
    name: Annotated[str, StringConstraints(max_length=256)] | None = None
    description: Annotated[str, StringConstraints(max_length=512)] | None = None
    instructions: Instructions | None = None
    tools: list[Tool] = Field(default_factory=list, max_length=128)
    tool_resources: ToolResources | None = None
    metadata: Metadata | None = None
    temperature: Temperature | None = None
    top_p: Probability | None = None
    reasoning_effort: ReasoningEffort | None = None
    response_format: ResponseFormat | None = None


class UpdateAssistant(RequestModel):
    model: ModelName | None = None
    name: Annotated[str, StringConstraints(max_length=256)] | None = None
    description: Annotated[str, StringConstraints(max_length=512)] | None = None
    instructions: Instructions | None = None
    tools: Annotated[list[Tool], Field(max_length=128)] | None = None
    tool_resources: ToolResourcesUpdate | None = None
    metadata: MetadataUpdate | None = None
    temperature: Temperature | None = None
    top_p: Probability | None = None
    reasoning_effort: ReasoningEffort | None = None
    response_format: ResponseFormat | None = None


ImageAddress = Annotated[str, StringConstraints(min_length=1)]
"""A URL of an image, with `https:`, `http:` or `data:`; an upstream endpoint checks it."""

Detail: TypeAlias = Literal["auto", "low", "high"]


class TextPart(RequestModel):
    type: Literal["text"]
    text: Annotated[str, StringConstraints(max_length=256_000)]


class ImageFile(RequestModel):
    file_id: str
    detail: Detail = "auto"


class ImageFilePart(RequestModel):
    type: Literal["image_file"]
    image_file: ImageFile


class ImageUrl(RequestModel):
    url: ImageAddress
    detail: Detail = "auto"


class ImageUrlPart(RequestModel):
    type: Literal["image_url"]
    image_url: ImageUrl


ContentPart: TypeAlias = Annotated[TextPart | ImageFilePart | ImageUrlPart, Field(discriminator="type")]


class AttachmentTool(RequestModel):
    type: Literal["code_interpreter", "file_search"]


class MessageAttachment(RequestModel):
    file_id: str
    tools: list[AttachmentTool] = Field(default_factory=list, max_length=2)


class CreateMessage(RequestModel):
    role: Literal["user", "assistant"]
    content: (
        Annotated[str, StringConstraints(min_length=1, max_length=256_000)]
        | Annotated[list[ContentPart], Field(min_length=1, max_length=512)]
    )
    attachments: Annotated[list[MessageAttachment], Field(max_length=512)] | None = None
    metadata: Metadata | None = None


class UpdateMetadata(RequestModel):
    metadata: MetadataUpdate | None = None


class CreateThread(RequestModel):
    messages: list[CreateMessage] = Field(default_factory=list, max_length=100_000)
    tool_resources: ToolResources | None = None
    metadata: Metadata | None = None


class UpdateThread(RequestModel):
    tool_resources: ToolResourcesUpdate | None = None
    metadata: MetadataUpdate | None = None
