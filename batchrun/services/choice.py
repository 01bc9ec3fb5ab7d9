"""Which service a job means, and how its options are called there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, assert_never

from batchrun.job import Api, Job
from batchrun.services.assistants import AssistantSettings, AssistantsService
from batchrun.services.base import Service
from batchrun.services.chat import ChatService, ChatSettings
from batchrun.services.responses import ResponseSettings, ResponsesService
from batchrun.services.wire import Wire

__all__ = ["make_service", "model_parameters"]


def model_parameters(job: Job, api: Api) -> dict[str, Any]:
    """The parameters of the model that the user set, under the names of the protocol; `--param` wins."""
    bound = "max_output_tokens" if api == "responses" else "max_completion_tokens"
    named = {"temperature": job.temperature, "top_p": job.top_p, bound: job.max_completion_tokens}
    return {name: value for name, value in named.items() if value is not None} | job.param


def make_service(
    job: Job,
    api: Api,
    wire: Wire,
    *,
    batch_id: str,
    assistant_id: str | None,
    assistant_made: Callable[[str], None],
) -> Service:
    """The service that the job speaks to, over `wire`.

    Args:
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
            )
            return AssistantsService(wire, settings, poll=job.poll, made=assistant_made)
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
                ),
            )
        case "chat":
            return ChatService(
                wire,
                ChatSettings(model=job.model, instructions=job.instructions, stream=job.stream, parameters=parameters),
            )
    assert_never(api)
