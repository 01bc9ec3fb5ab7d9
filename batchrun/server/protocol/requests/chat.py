"""The body of a request for a chat completion."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AllowInfNan, Discriminator, Field, Tag

from batchrun.server.protocol.bodies import Body
from batchrun.server.protocol.requests.base import (
    Metadata,
    MetadataUpdate,
    OpenModel,
    Probability,
    RequestModel,
    Temperature,
)
from batchrun.server.protocol.requests.threads import ImageAddress, ModelName, ReasoningEffort
from batchrun.server.protocol.requests.tools import (
    AllowedToolsChoice,
    FunctionChoice,
    FunctionTool,
    JsonObjectFormat,
    JsonSchemaFormat,
    OtherTool,
    OtherToolChoice,
    TextFormat,
    tool_tag,
)

__all__ = ["ChatMessage", "CreateChatCompletion", "UpdateChatCompletion"]


class ChatImageUrl(RequestModel):
    url: ImageAddress
    detail: Literal["auto", "low", "high"] | None = None


class ChatText(RequestModel):
    type: Literal["text"]
    text: str


class ChatImage(RequestModel):
    type: Literal["image_url"]
    image_url: ChatImageUrl


class FileData(RequestModel):
    filename: str | None = None
    file_data: str


class ChatFile(RequestModel):
    type: Literal["file"]
    file: FileData


class ChatRefusal(RequestModel):
    type: Literal["refusal"]
    refusal: str


ChatPart: TypeAlias = Annotated[ChatText | ChatImage | ChatFile | ChatRefusal, Field(discriminator="type")]


class CalledFunction(RequestModel):
    name: str
    arguments: str


class ChatToolCall(RequestModel):
    id: str
    type: Literal["function"]
    function: CalledFunction


class ChatMessage(RequestModel):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[ChatPart] | None = None
    name: str | None = None
    refusal: str | None = None
    tool_calls: list[ChatToolCall] | None = None
    tool_call_id: str | None = None
    annotations: list[Any] | None = None
    audio: None = None
    function_call: None = None


class ChatStreamOptions(OpenModel):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


Penalty = Annotated[float, Field(ge=-2, le=2), AllowInfNan(False)]


ChatTool: TypeAlias = Annotated[
    Annotated[FunctionTool, Tag("function")] | Annotated[OtherTool, Tag("OtherTool")], Discriminator(tool_tag)
]


class CreateChatCompletion(OpenModel):
    model: ModelName
    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    stream: bool | None = None
    stream_options: ChatStreamOptions | None = None
    tools: Annotated[list[ChatTool], Field(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | FunctionChoice | AllowedToolsChoice | OtherToolChoice | None = (
        None
    )
    parallel_tool_calls: bool | None = None
    response_format: Annotated[TextFormat | JsonObjectFormat | JsonSchemaFormat, Field(discriminator="type")] | None = (
        None
    )
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    n: Annotated[int, Field(ge=1, le=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    modalities: list[Literal["text", "audio"]] | None = None
    audio: Body | None = None
    functions: list[Any] | None = None
    function_call: Any = None
    moderation: Body | None = None
    web_search_options: Body | None = None
    prediction: Body | None = None
    prompt_cache_retention: str | None = None
    prompt_cache_options: Body | None = None
    temperature: Temperature | None = None
    top_p: Probability | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    logit_bias: dict[str, float] | None = None
    reasoning_effort: ReasoningEffort | None = None
    verbosity: Literal["low", "medium", "high"] | None = None
    metadata: Metadata | None = None
    store: bool | None = None
    user: str | None = None
    service_tier: str | None = None
    prompt_cache_key: str | None = None
    safety_identifier: str | None = None


class UpdateChatCompletion(RequestModel):
    metadata: MetadataUpdate | None
