"""New objects of the protocol, with their keys in the order of the hosted API.

Their form follows recorded replies of the hosted API: `tool_resources` of a run is {}, and defaults are returned.
`status` of a message is always set, because the SDK's types require it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batchrun.server.protocol.ids import new_id

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from batchrun.server.protocol.bodies import Body, MessageBody, RunBody, StepBody
    from batchrun.server.protocol.requests.runs import RunOptions
    from batchrun.server.protocol.requests.threads import CreateAssistant, CreateMessage
    from batchrun.server.responders.base import TokenCount

__all__ = [
    "assistant_message",
    "new_assistant",
    "new_message",
    "new_run",
    "new_step",
    "new_thread",
    "response_format_body",
    "tool_bodies",
    "usage_body",
]


def tool_bodies(tools: Sequence[Any]) -> list[Body]:
    """Return tools in the form that replies have: functions get `strict: false`, file_search its ranking options."""
    bodies: list[Body] = []
    for tool in tools:
        if tool.type == "function":
            function = tool.function.model_dump(exclude_none=True)
            function.setdefault("strict", False)
            bodies.append({"type": "function", "function": function})
        elif tool.type == "file_search":
            options = tool.file_search
            ranking = options.ranking_options if options is not None else None
            bodies.append(
                {
                    "type": "file_search",
                    "file_search": {
                        "max_num_results": options.max_num_results if options is not None else None,
                        "ranking_options": {
                            "score_threshold": ranking.score_threshold if ranking is not None else 0.0,
                            "ranker": (ranking and ranking.ranker) or "default_2024_08_21",
                        },
                    },
                }
            )
        else:
            bodies.append({"type": tool.type})
    return bodies


def response_format_body(response_format: Any) -> Any:
    """Return a response format in the form that replies have; "auto" if none was given."""
    if response_format is None or response_format == "auto":
        return "auto"
    return response_format.model_dump(exclude_none=True, by_alias=True)


def new_assistant(request: CreateAssistant, tool_resources: Body, now: int) -> Body:
    """Return a new assistant."""
    body = {
        "id": new_id("asst_"),
        "object": "assistant",
        "created_at": now,
        "name": request.name,
        "description": request.description,
        "model": request.model,
        "instructions": request.instructions,
        "tools": tool_bodies(request.tools),
        "tool_resources": tool_resources,
        "metadata": request.metadata or {},
        "temperature": 1.0 if request.temperature is None else request.temperature,
        "top_p": 1.0 if request.top_p is None else request.top_p,
        "response_format": response_format_body(request.response_format),
    }
    if request.reasoning_effort is not None:
        body["reasoning_effort"] = request.reasoning_effort
    return body


def new_thread(metadata: Mapping[str, str] | None, tool_resources: Body, now: int) -> Body:
    """Return a new thread."""
    return {
        "id": new_id("thread_"),
        "object": "thread",
        "created_at": now,
        "metadata": dict(metadata or {}),
        "tool_resources": tool_resources,
    }


def _content(request: CreateMessage) -> list[Body]:
    if isinstance(request.content, str):
        return [_text(request.content)]
    return [_text(part.text) if part.type == "text" else part.model_dump() for part in request.content]


def _text(value: str) -> Body:
    return {"type": "text", "text": {"value": value, "annotations": []}}


def new_message(request: CreateMessage, thread_id: str, now: int) -> MessageBody:
    """Return a message that a client adds; it is completed from the start."""
    return {
        "id": new_id("msg_"),
        "object": "thread.message",
        "created_at": now,
        "assistant_id": None,
        "thread_id": thread_id,
        "run_id": None,
        "status": "completed",
        "incomplete_details": None,
        "incomplete_at": None,
        "completed_at": now,
        "role": request.role,
        "content": _content(request),
        "attachments": [each.model_dump() for each in request.attachments or []],
        "metadata": request.metadata or {},
    }


def assistant_message(run: RunBody, now: int) -> MessageBody:
    """Return the message that a run begins to write."""
    return {
        "id": new_id("msg_"),
        "object": "thread.message",
        "created_at": now,
        "assistant_id": run["assistant_id"],
        "thread_id": run["thread_id"],
        "run_id": run["id"],
        "status": "in_progress",
        "incomplete_details": None,
        "incomplete_at": None,
        "completed_at": None,
        "role": "assistant",
        "content": [],
        "attachments": [],
        "metadata": {},
    }


def new_run(
    request: RunOptions,
    assistant: Body,
    thread_id: str,
    *,
    model: str,
    additional_instructions: str | None,
    now: int,
    timeout_s: int,
) -> RunBody:
    """Return a queued run. The request's settings override the assistant's."""
    truncation = request.truncation_strategy
    return {
        "id": new_id("run_"),
        "object": "thread.run",
        "created_at": now,
        "assistant_id": assistant["id"],
        "thread_id": thread_id,
        "status": "queued",
        "started_at": None,
        "expires_at": now + timeout_s,
        "cancelled_at": None,
        "failed_at": None,
        "completed_at": None,
        "required_action": None,
        "last_error": None,
        "incomplete_details": None,
        "model": model,
        "instructions": _instructions(request.instructions, assistant["instructions"], additional_instructions),
        "tools": assistant["tools"] if request.tools is None else tool_bodies(request.tools),
        "tool_resources": {},
        "metadata": request.metadata or {},
        "temperature": assistant["temperature"] if request.temperature is None else request.temperature,
        "top_p": assistant["top_p"] if request.top_p is None else request.top_p,
        "max_prompt_tokens": request.max_prompt_tokens,
        "max_completion_tokens": request.max_completion_tokens,
        "truncation_strategy": {
            "type": truncation.type if truncation else "auto",
            "last_messages": truncation.last_messages if truncation else None,
        },
        "tool_choice": _tool_choice(request.tool_choice),
        "parallel_tool_calls": True if request.parallel_tool_calls is None else request.parallel_tool_calls,
        "response_format": (
            assistant["response_format"]
            if request.response_format is None
            else response_format_body(request.response_format)
        ),
        "usage": None,
    }


def _instructions(own: str | None, of_assistant: str | None, additional: str | None) -> str:
    instructions = of_assistant if own is None else own
    return " ".join(filter(None, (instructions, additional)))


def _tool_choice(choice: Any) -> Any:
    if choice is None:
        return "auto"
    return choice if isinstance(choice, str) else choice.model_dump(exclude_none=True)


def new_step(run: RunBody, details: Body, now: int) -> StepBody:
    """Return the step that a run begins; `details` is its `step_details`."""
    return {
        "id": new_id("step_"),
        "object": "thread.run.step",
        "created_at": now,
        "run_id": run["id"],
        "assistant_id": run["assistant_id"],
        "thread_id": run["thread_id"],
        "type": details["type"],
        "status": "in_progress",
        "cancelled_at": None,
        "completed_at": None,
        "expired_at": None,
        "failed_at": None,
        "last_error": None,
        "step_details": details,
        "usage": None,
        "metadata": {},
    }


def usage_body(count: TokenCount) -> Body:
    """Return the usage of a run or step. The protocol spells it `prompt_token_details`."""
    return {
        "prompt_tokens": count.prompt_tokens,
        "completion_tokens": count.completion_tokens,
        "total_tokens": count.total_tokens,
        "prompt_token_details": {"cached_tokens": count.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": count.reasoning_tokens},
    }
