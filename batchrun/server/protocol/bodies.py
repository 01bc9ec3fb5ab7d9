"""The types of the protocol's objects, as JSON that clients see. Other objects are plain `Body` dicts."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias, TypedDict

__all__ = ["Body", "FileBody", "LastError", "MessageBody", "RunBody", "RunStatus", "StepBody", "StepStatus"]

Body: TypeAlias = dict[str, Any]
"""Any object of the protocol, or a part of one."""

RunStatus: TypeAlias = Literal[
    "queued", "in_progress", "requires_action", "cancelling",
    "cancelled", "failed", "completed", "incomplete", "expired",
]  # fmt: skip

StepStatus: TypeAlias = Literal["in_progress", "completed", "failed", "cancelled", "expired"]


class LastError(TypedDict):
    """Why a run or step failed."""

    code: str
    message: str


class TruncationStrategy(TypedDict):
    """The `truncation_strategy` of a run."""

    type: Literal["auto", "last_messages"]
    last_messages: int | None


class RunBody(TypedDict):
    """A run. Times are seconds since 1970-01-01 UTC; `expires_at` is None when the run has ended."""

    id: str
    object: Literal["thread.run"]
    created_at: int
    assistant_id: str
    thread_id: str
    status: RunStatus
    started_at: int | None
    expires_at: int | None
    cancelled_at: int | None
    failed_at: int | None
    completed_at: int | None
    required_action: Body | None
    last_error: LastError | None
    incomplete_details: Body | None
    model: str
    instructions: str
    tools: list[Body]
    tool_resources: Body
    metadata: dict[str, str]
    temperature: float
    top_p: float
    max_prompt_tokens: int | None
    max_completion_tokens: int | None
    truncation_strategy: TruncationStrategy
    tool_choice: Any
    parallel_tool_calls: bool
    response_format: Any
    usage: Body | None


class StepBody(TypedDict):
    """A step of a run. Times are seconds since 1970-01-01 UTC."""

    id: str
    object: Literal["thread.run.step"]
    created_at: int
    run_id: str
    assistant_id: str
    thread_id: str
    type: Literal["message_creation", "tool_calls"]
    status: StepStatus
    cancelled_at: int | None
    completed_at: int | None
    expired_at: int | None
    failed_at: int | None
    last_error: LastError | None
    step_details: Body
    usage: Body | None
    metadata: dict[str, str]


class MessageBody(TypedDict):
    """A message of a thread. Times are seconds since 1970-01-01 UTC; `run_id` is None for a client's message."""

    id: str
    object: Literal["thread.message"]
    created_at: int
    assistant_id: str | None
    thread_id: str
    run_id: str | None
    status: Literal["in_progress", "completed", "incomplete"]
    incomplete_details: Body | None
    incomplete_at: int | None
    completed_at: int | None
    role: Literal["user", "assistant"]
    content: list[Body]
    attachments: list[Body]
    metadata: dict[str, str]


class FileBody(TypedDict):
    """An uploaded or produced file. Times are seconds since 1970-01-01 UTC; `bytes` is its size."""

    id: str
    object: Literal["file"]
    bytes: int
    created_at: int
    expires_at: int | None
    filename: str
    purpose: str
    status: Literal["processed"]
    status_details: None
