"""Which service a job means, and how its options are called there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, assert_never

from batchrun.engine.service import Service
from batchrun.job.options import Api, Job
from batchrun.services.assistants import AssistantSettings, AssistantsService
from batchrun.services.chat import ChatService, ChatSettings
from batchrun.services.files.row_files import RowFiles
from batchrun.services.responses import ResponseSettings, ResponsesService
from batchrun.services.wire import Wire

__all__ = ["make_service", "model_parameters", "response_format"]


def model_parameters(job: Job, api: Api) -> dict[str, Any]:
    """The parameters of the model that the user set, under the names of the protocol; `--param` wins."""
    responses = api == "responses"
    named = {
        "temperature": job.temperature,
        "top_p": job.top_p,
        "max_output_tokens" if responses else "max_completion_tokens": job.max_completion_tokens,
        "text" if responses else "response_format": response_format(job.response_format, api),
        "tools": [_tool(function, responses=responses) for function in job.functions] if job.functions else None,
    }
    return {name: value for name, value in named.items() if value is not None} | job.param


def response_format(wanted: Mapping[str, Any] | None, api: Api) -> dict[str, Any] | None:
    """Responses has the format under `text`, and a schema's fields beside its type rather than below it."""
    if wanted is None or api != "responses":
        return dict(wanted) if wanted is not None else None
    schema = wanted.get("json_schema")
    return {"format": {"type": wanted["type"], **schema} if isinstance(schema, Mapping) else dict(wanted)}


def _tool(function: Mapping[str, Any], *, responses: bool) -> dict[str, Any]:
    """Responses has a function's fields beside the tool's type; it also wants to hear whether it is strict."""
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
    structure: Mapping[str, Any] | None = None,
    enclosures: RowFiles | None = None,
) -> Service:
    """The service that the job speaks to, over `wire`.

    Args:
        structure: the response format of answers that are to have a form.
        enclosures: the files of the batch, where it has any.
        assistant_id: the assistant that an earlier run of this batch made.
        assistant_made: called with the id of the one that is made now.
    """
    parameters = model_parameters(job, api)
    metadata = {"batch": batch_id}
    match api:
        case "assistants":
            settings = AssistantSettings(
                assistant_id=job.assistant,
                known_assistant_id=assistant_id,
                name=f"batchrun {batch_id}",
                model=job.model,
                instructions=job.instructions,
                metadata=metadata,
                parameters=parameters,
                structure=structure,
            )
            return AssistantsService(wire, settings, poll=job.poll, made=assistant_made, enclosures=enclosures)
        case "responses":
            return ResponsesService(
                wire,
                ResponseSettings(
                    model=job.model,
                    instructions=job.instructions,
                    metadata=metadata,
                    conversation=job.conversation,
                    stream=job.stream,
                    background=job.background,
                    parameters=parameters,
                    structure=response_format(structure, api),
                ),
                enclosures,
            )
        case "chat":
            return ChatService(
                wire,
                ChatSettings(
                    model=job.model,
                    instructions=job.instructions,
                    stream=job.stream,
                    parameters=parameters,
                    structure=structure,
                ),
                enclosures,
            )
    assert_never(api)
