"""Builds the service of a job, with the job's options under the names of its protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import assert_never

from batchrun.engine.service import Service
from batchrun.job.options import Api, Job
from batchrun.records import JsonDict, JsonObject
from batchrun.services.assistants import AssistantSettings, AssistantsService
from batchrun.services.chat import ChatService, ChatSettings
from batchrun.services.files.row_files import RowFiles
from batchrun.services.responses import ResponseSettings, ResponsesService
from batchrun.services.wire import Wire

__all__ = ["make_service", "model_parameters", "response_format"]


def model_parameters(job: Job, api: Api) -> JsonDict:
    """Return the model parameters that the user set, under the names of the protocol. `--param` takes precedence."""
    responses = api == "responses"
    named = {
        "temperature": job.temperature,
        "top_p": job.top_p,
        "max_output_tokens" if responses else "max_completion_tokens": job.max_completion_tokens,
        "text" if responses else "response_format": response_format(job.response_format, api),
        "tools": [_tool(function, responses=responses) for function in job.functions] if job.functions else None,
    }
    return {name: value for name, value in named.items() if value is not None} | job.param


def response_format(wanted: JsonObject | None, api: Api) -> JsonDict | None:
    """Return a response format as the protocol has it.

    Responses expects the fields of a schema next to its type, not below it, and all of it under `format`.
    """
    if wanted is None or api != "responses":
        return dict(wanted) if wanted is not None else None
    schema = wanted.get("json_schema")
    return {"format": {"type": wanted["type"], **schema} if isinstance(schema, Mapping) else dict(wanted)}


def _tool(function: JsonObject, *, responses: bool) -> JsonDict:
    """Return a function as a tool. Responses expects its fields next to the tool's type, and requires `strict`."""
    if responses:
        return {"type": "function", "strict": False, **function}
    return {"type": "function", "function": dict(function)}


def make_service(
    job: Job,
    api: Api,
    wire: Wire,
    *,
    batch_id: str,
    assistant_id: str | None,
    assistant_made: Callable[[str], None],
    structure: JsonObject | None = None,
    row_files: RowFiles | None = None,
) -> Service:
    """Return the service of the job's protocol, which sends its requests over `wire`.

    Args:
        assistant_id: the assistant that an earlier process created for this batch; None if there is none.
        assistant_made: called with the id of the assistant that this process creates.
        structure: response format of structured answers; None for plain text.
        row_files: the batch's files; None if it has none.
    """
    match api:
        case "assistants":
            settings = _assistant_settings(job, batch_id, assistant_id, structure)
            return AssistantsService(wire, settings, poll=job.poll, assistant_made=assistant_made, row_files=row_files)
        case "responses":
            return ResponsesService(wire, _response_settings(job, batch_id, structure), row_files)
        case "chat":
            return ChatService(wire, _chat_settings(job, structure), row_files)
    assert_never(api)


def _assistant_settings(
    job: Job, batch_id: str, assistant_id: str | None, structure: JsonObject | None
) -> AssistantSettings:
    return AssistantSettings(
        assistant_id=job.assistant,
        known_assistant_id=assistant_id,
        name=f"batchrun {batch_id}",
        model=job.model,
        instructions=job.instructions,
        metadata={"batch": batch_id},
        parameters=model_parameters(job, "assistants"),
        structure=structure,
    )


def _response_settings(job: Job, batch_id: str, structure: JsonObject | None) -> ResponseSettings:
    return ResponseSettings(
        model=job.model,
        instructions=job.instructions,
        metadata={"batch": batch_id},
        conversation=job.conversation,
        stream=job.stream,
        background=job.background,
        parameters=model_parameters(job, "responses"),
        structure=response_format(structure, "responses"),
    )


def _chat_settings(job: Job, structure: JsonObject | None) -> ChatSettings:
    return ChatSettings(
        model=job.model,
        instructions=job.instructions,
        stream=job.stream,
        parameters=model_parameters(job, "chat"),
        structure=structure,
    )
