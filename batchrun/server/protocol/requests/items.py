"""The bodies of requests for responses and conversations, with their input items."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, Discriminator, Field, StringConstraints, Tag

from batchrun.server.protocol.bodies import Body
from batchrun.server.protocol.requests.base import Metadata, OpenModel, Probability, RequestModel, Temperature
from batchrun.server.protocol.requests.threads import Detail, ModelName, ReasoningEffort
from batchrun.server.protocol.requests.tools import FunctionName, OtherTool, OtherToolChoice, checked_schema, tool_tag

__all__ = ["CreateConversation", "CreateItems", "CreateResponse", "InputItem", "UpdateConversation"]

ItemStatus: TypeAlias = Literal["in_progress", "completed", "incomplete"]
Text = Annotated[str, StringConstraints(max_length=10_485_760)]


class InputText(RequestModel):
    type: Literal["input_text"]
    text: Text


class InputImage(RequestModel):
    type: Literal["input_image"]
    image_url: str | None = None
    file_id: str | None = None
    detail: Detail | Literal["original"] | None = None


class InputFile(RequestModel):
    type: Literal["input_file"]
    file_id: str
    filename: str | None = None
    detail: Literal["auto", "low", "high"] | None = None


class OutputText(RequestModel):
    type: Literal["output_text"]
    text: Text
    annotations: list[Any] = Field(default_factory=list)
    logprobs: list[Any] | None = None


class Refusal(RequestModel):
    type: Literal["refusal"]
    refusal: str


Part: TypeAlias = Annotated[InputText | InputImage | InputFile | OutputText | Refusal, Field(discriminator="type")]


class MessageItem(RequestModel):
    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: Text | list[Part]
    id: str | None = None
    status: ItemStatus | None = None
    phase: Literal["commentary", "final_answer"] | None = None


class FunctionCallItem(RequestModel):
    type: Literal["function_call"]
    call_id: str
    name: FunctionName
    arguments: str
    id: str | None = None
    status: ItemStatus | None = None


class FunctionCallOutputItem(RequestModel):
    type: Literal["function_call_output"]
    call_id: str
    output: Text | list[InputText]
    id: str | None = None
    status: ItemStatus | None = None


def _item_type(value: Any) -> Any:
    if isinstance(value, dict):
        return value.get("type", "message")
    return getattr(value, "type", "message")


InputItem: TypeAlias = Annotated[
    Annotated[MessageItem, Tag("message")]
    | Annotated[FunctionCallItem, Tag("function_call")]
    | Annotated[FunctionCallOutputItem, Tag("function_call_output")],
    Discriminator(_item_type),
]


class ResponseFunctionTool(OpenModel):
    type: Literal["function"]
    name: FunctionName
    description: str | None = None
    parameters: Body | None = None
    strict: bool | None = None


class NamedFunction(RequestModel):
    type: Literal["function"]
    name: FunctionName


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
    Annotated[ResponseFunctionTool, Tag("function")] | Annotated[OtherTool, Tag("OtherTool")], Discriminator(tool_tag)
]


class CreateResponse(OpenModel):
    model: ModelName
    input: Text | list[InputItem] | None = None
    instructions: Text | None = None
    previous_response_id: str | None = None
    conversation: str | ConversationReference | None = None
    tools: Annotated[list[ResponseTool], Field(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedFunction | OtherToolChoice | None = None
    parallel_tool_calls: bool | None = None
    text: TextOptions | None = None
    reasoning: Reasoning | None = None
    max_output_tokens: Annotated[int, Field(ge=16)] | None = None
    metadata: Metadata | None = None
    temperature: Temperature | None = None
    top_p: Probability | None = None
    truncation: Literal["auto", "disabled"] | None = None
    store: bool | None = None
    background: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    include: list[str] | None = None
    service_tier: str | None = None
    prompt_cache_key: str | None = None
    safety_identifier: str | None = None
    user: str | None = None


class CreateConversation(RequestModel):
    items: Annotated[list[InputItem], Field(max_length=20)] | None = None
    metadata: Metadata | None = None


class UpdateConversation(RequestModel):
    metadata: Metadata | None


class CreateItems(RequestModel):
    items: Annotated[list[InputItem], Field(min_length=1, max_length=20)]
