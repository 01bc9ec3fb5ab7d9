"""Tools, tool resources, tool choices and response formats in the bodies of assistants, threads and runs."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, Field, StringConstraints

from batchrun.server.protocol.bodies import Body
from batchrun.server.protocol.json_schemas import schema_fault
from batchrun.server.protocol.requests.base import Metadata, OpenModel, Probability, RequestModel

__all__ = [
    "AllowedTools",
    "AllowedToolsChoice",
    "FunctionChoice",
    "OtherTool",
    "OtherToolChoice",
    "ResponseFormat",
    "Tool",
    "ToolChoice",
    "ToolResources",
    "ToolResourcesUpdate",
    "checked_schema",
    "tool_tag",
]

FunctionName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]


class Function(RequestModel):
    name: FunctionName
    description: str | None = None
    parameters: Body | None = None
    strict: bool | None = None


class FunctionTool(RequestModel):
    type: Literal["function"]
    function: Function


class CodeInterpreterTool(RequestModel):
    type: Literal["code_interpreter"]


class RankingOptions(RequestModel):
    score_threshold: Probability = 0.0
    ranker: Literal["auto", "default_2024_08_21"] | None = None


class FileSearchOptions(RequestModel):
    max_num_results: Annotated[int, Field(ge=1, le=50)] | None = None
    ranking_options: RankingOptions | None = None


class FileSearchTool(RequestModel):
    type: Literal["file_search"]
    file_search: FileSearchOptions | None = None


Tool: TypeAlias = Annotated[FunctionTool | CodeInterpreterTool | FileSearchTool, Field(discriminator="type")]


class OtherTool(OpenModel):
    """A tool that runs at a service, such as web search. Only a script leaves it out: see `refuse_other_tools`."""

    type: str


def tool_tag(value: object) -> str:
    """Return the member of a union to which a tool belongs: a function, or another one."""
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return "function" if kind == "function" else "OtherTool"


def _other_type(kind: str) -> str:
    """Return the type of a choice without a function's name."""
    if kind == "function":
        raise ValueError("A choice of a function needs its name.")
    if kind == "allowed_tools":
        raise ValueError("A choice of allowed tools needs its 'mode' ('auto' or 'required') and its 'tools'.")
    return kind


class AllowedTools(RequestModel):
    mode: Literal["auto", "required"]
    tools: list[Body]


class AllowedToolsChoice(RequestModel):
    """The functions of a chat completion that the model may call."""

    type: Literal["allowed_tools"]
    allowed_tools: AllowedTools


class OtherToolChoice(OpenModel):
    """A choice of a tool that is not a function."""

    type: Annotated[str, AfterValidator(_other_type)]


class FunctionChoiceName(RequestModel):
    name: FunctionName


class FunctionChoice(RequestModel):
    type: Literal["function"]
    function: FunctionChoiceName


class HostedToolChoice(RequestModel):
    type: Literal["code_interpreter", "file_search"]
    function: None = None


ToolChoice: TypeAlias = (
    Literal["none", "auto", "required"] | Annotated[FunctionChoice | HostedToolChoice, Field(discriminator="type")]
)


class CodeInterpreterResources(RequestModel):
    file_ids: list[str] = Field(default_factory=list, max_length=20)


class StaticChunking(RequestModel):
    max_chunk_size_tokens: Annotated[int, Field(ge=100, le=4096)]
    chunk_overlap_tokens: Annotated[int, Field(ge=0)]


class StaticChunkingStrategy(RequestModel):
    type: Literal["static"]
    static: StaticChunking


class AutoChunkingStrategy(RequestModel):
    type: Literal["auto"]


ChunkingStrategy: TypeAlias = Annotated[StaticChunkingStrategy | AutoChunkingStrategy, Field(discriminator="type")]


class NewVectorStore(RequestModel):
    file_ids: list[str] = Field(default_factory=list, max_length=10_000)
    chunking_strategy: ChunkingStrategy | None = None
    metadata: Metadata | None = None


class FileSearchResources(RequestModel):
    vector_store_ids: Annotated[list[str], Field(max_length=1)] | None = None
    vector_stores: Annotated[list[NewVectorStore], Field(max_length=1)] | None = None


class ToolResources(RequestModel):
    """Resources at creation: vector stores are named, or created by the same request."""

    code_interpreter: CodeInterpreterResources | None = None
    file_search: FileSearchResources | None = None


class FileSearchResourcesUpdate(RequestModel):
    vector_store_ids: Annotated[list[str], Field(max_length=1)] | None = None


class ToolResourcesUpdate(RequestModel):
    """Resources in updates and of runs: vector stores are named."""

    code_interpreter: CodeInterpreterResources | None = None
    file_search: FileSearchResourcesUpdate | None = None


class TextFormat(RequestModel):
    type: Literal["text"]


class JsonObjectFormat(RequestModel):
    type: Literal["json_object"]


def checked_schema(schema: Body | None) -> Body | None:
    """Return the schema.

    Raises:
        ValueError: it is not a valid JSON schema.
    """
    fault = None if schema is None else schema_fault(schema)
    if fault is not None:
        raise ValueError(f"Invalid schema for response_format: {fault}.")
    return schema


class JsonSchema(RequestModel):
    name: FunctionName
    description: str | None = None
    schema_: Annotated[Body | None, Field(alias="schema"), AfterValidator(checked_schema)] = None
    strict: bool | None = None


class JsonSchemaFormat(RequestModel):
    type: Literal["json_schema"]
    json_schema: JsonSchema


ResponseFormat: TypeAlias = (
    Literal["auto"] | Annotated[TextFormat | JsonObjectFormat | JsonSchemaFormat, Field(discriminator="type")]
)
