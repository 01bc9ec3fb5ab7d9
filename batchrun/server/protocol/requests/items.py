"""The bodies of requests for responses and conversations."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, Discriminator, Field, Tag

from batchrun.server.protocol.bodies import Body
from batchrun.server.protocol.requests.base import (
    Metadata,
    MetadataUpdate,
    OpenModel,
    Probability,
    RequestModel,
    Temperature,
)
from batchrun.server.protocol.requests.input_items import InputItem, Text
from batchrun.server.protocol.requests.threads import ModelName, ReasoningEffort
from batchrun.server.protocol.requests.tools import (
    AllowedTools,
    FunctionName,
    OtherTool,
    OtherToolChoice,
    checked_schema,
)
from batchrun.server.protocol.requests.vector_stores import Filter

__all__ = [
    "CodeTool",
    "CountInputTokens",
    "CreateConversation",
    "CreateItems",
    "CreateResponse",
    "ResponseFunctionTool",
    "ResponseTool",
    "SearchTool",
    "UpdateConversation",
]

Include: TypeAlias = Literal[
    "file_search_call.results",
    "code_interpreter_call.outputs",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "reasoning.encrypted_content",
    "message.output_text.logprobs",
]


class ResponseFunctionTool(OpenModel):
    type: Literal["function"]
    name: FunctionName
    description: str | None = None
    parameters: Body | None = None
    strict: bool | None = None


class ResponseRanking(OpenModel):
    ranker: Literal["none", "auto", "default-2024-11-15", "default_2024_08_21"] | None = None
    score_threshold: Probability = 0.0
    hybrid_search: Body | None = None


class SearchTool(OpenModel):
    type: Literal["file_search"]
    vector_store_ids: Annotated[list[str], Field(min_length=1, max_length=20)]
    max_num_results: Annotated[int, Field(ge=1, le=50)] | None = None
    filters: Filter | None = None
    ranking_options: ResponseRanking | None = None
    allowed_callers: list[str] | None = None


class AutoContainer(OpenModel):
    """A new container. Its memory is that of the server's sandbox, which has no network."""

    type: Literal["auto"]
    file_ids: Annotated[list[str], Field(max_length=50)] | None = None
    memory_limit: str | None = None
    network_policy: Body | None = None


class CodeTool(OpenModel):
    type: Literal["code_interpreter"]
    allowed_callers: list[str] | None = None
    container: str | AutoContainer | None = None


def response_tool_tag(value: object) -> str:
    """Return the member of `ResponseTool` to which a tool belongs: one that this server has, or another one."""
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return str(kind) if kind in ("function", "file_search", "code_interpreter") else "OtherTool"


class NamedFunction(RequestModel):
    type: Literal["function"]
    name: FunctionName


class AllowedItems(AllowedTools):
    """The tools of a response that the model may call."""

    type: Literal["allowed_tools"]


class PlainFormat(RequestModel):
    type: Literal["text", "json_object"]


class SchemaFormat(RequestModel):
    type: Literal["json_schema"]
    name: FunctionName
    schema_: Annotated[Body, Field(alias="schema"), AfterValidator(checked_schema)]
    description: str | None = None
    strict: bool | None = None


class TextOptions(OpenModel):
    format: Annotated[PlainFormat | SchemaFormat, Field(discriminator="type")] | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class Reasoning(OpenModel):
    effort: ReasoningEffort | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None = None


class ConversationReference(RequestModel):
    id: str


class StreamOptions(OpenModel):
    include_obfuscation: bool | None = None


ResponseTool: TypeAlias = Annotated[
    Annotated[ResponseFunctionTool, Tag("function")]
    | Annotated[SearchTool, Tag("file_search")]
    | Annotated[CodeTool, Tag("code_interpreter")]
    | Annotated[OtherTool, Tag("OtherTool")],
    Discriminator(response_tool_tag),
]


class ModelInput(OpenModel):
    """What a model reads for a response."""

    input: Text | list[InputItem] | None = None
    instructions: Text | None = None
    previous_response_id: str | None = None
    conversation: str | ConversationReference | None = None
    tools: Annotated[list[ResponseTool], Field(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedFunction | AllowedItems | OtherToolChoice | None = None
    parallel_tool_calls: bool | None = None
    text: TextOptions | None = None
    reasoning: Reasoning | None = None
    truncation: Literal["auto", "disabled"] | None = None


class CountInputTokens(ModelInput):
    model: ModelName | None = None
    personality: Annotated[str, Field(max_length=64)] | None = None


class CreateResponse(ModelInput):
    model: ModelName
    max_output_tokens: Annotated[int, Field(ge=16)] | None = None
    metadata: Metadata | None = None
    temperature: Temperature | None = None
    top_p: Probability | None = None
    store: bool | None = None
    background: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    include: list[Include] | None = None
    max_tool_calls: Annotated[int, Field(ge=1)] | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    prompt: Body | None = None
    context_management: list[Body] | None = None
    moderation: Body | None = None
    prompt_cache_retention: str | None = None
    prompt_cache_options: Body | None = None
    background_options: Body | None = None
    access_programs: Body | None = None
    image: Body | None = None
    service_tier: str | None = None
    prompt_cache_key: str | None = None
    safety_identifier: str | None = None
    user: str | None = None


class CreateConversation(RequestModel):
    items: Annotated[list[InputItem], Field(max_length=20)] | None = None
    metadata: Metadata | None = None


class UpdateConversation(RequestModel):
    metadata: MetadataUpdate | None


class CreateItems(RequestModel):
    items: Annotated[list[InputItem], Field(min_length=1, max_length=20)]
