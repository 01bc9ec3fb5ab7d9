"""The bodies of requests for runs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from batchrun.server.protocol.requests.base import Metadata, OpenModel, Probability, RequestModel, Temperature
from batchrun.server.protocol.requests.threads import (
    CreateMessage,
    CreateThread,
    Instructions,
    ModelName,
    ReasoningEffort,
)
from batchrun.server.protocol.requests.tools import ResponseFormat, Tool, ToolChoice, ToolResourcesUpdate

__all__ = ["CreateRun", "CreateThreadAndRun", "RunOptions", "SubmitToolOutputs", "Truncation"]


class Truncation(RequestModel):
    type: Literal["auto", "last_messages"]
    last_messages: Annotated[int, Field(ge=1)] | None = None


class RunOptions(OpenModel):
    """The fields that both ways of creating a run have."""

    assistant_id: str
    model: ModelName | None = None
    instructions: Instructions | None = None
    tools: Annotated[list[Tool], Field(max_length=20)] | None = None
    metadata: Metadata | None = None
    temperature: Temperature | None = None
    top_p: Probability | None = None
    stream: bool | None = None
    max_prompt_tokens: Annotated[int, Field(ge=256)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    truncation_strategy: Truncation | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    reasoning_effort: ReasoningEffort | None = None


class CreateRun(RunOptions):
    additional_instructions: Instructions | None = None
    additional_messages: Annotated[list[CreateMessage], Field(max_length=100_000)] | None = None


class CreateThreadAndRun(RunOptions):
    thread: CreateThread | None = None
    tool_resources: ToolResourcesUpdate | None = None


class SubmittedToolOutput(RequestModel):
    tool_call_id: str
    output: str = ""


class SubmitToolOutputs(RequestModel):
    tool_outputs: Annotated[list[SubmittedToolOutput], Field(max_length=128)]
    stream: bool | None = None
