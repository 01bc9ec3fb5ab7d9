"""Builds the service of a job, with the job's options under the names of its protocol."""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

from batchrun.engine.service import Service
from batchrun.job.options import Api, Job
from batchrun.records import JsonObject
from batchrun.services.assistants import AssistantSettings, AssistantsService
from batchrun.services.chat import ChatService, ChatSettings
from batchrun.services.files.row_files import RowFiles
from batchrun.services.own_settings import job_of_row
from batchrun.services.parameters import metadata_of, model_parameters, response_format
from batchrun.services.responses import ResponseSettings, ResponsesService
from batchrun.services.wire import Wire

__all__ = ["make_service"]


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
    on_unknown_end: Callable[[str], None] | None = None,
) -> Service:
    """Return the service of the job's protocol, which sends its requests over `wire`.

    Args:
        assistant_id: the assistant that an earlier process created for this batch; None if there is none.
        assistant_made: called with the id of the assistant that this process creates.
        structure: response format of structured answers; None for plain text.
        row_files: the batch's files; None if it has none.
        on_unknown_end: see `ChatService`.
    """
    match api:
        case "assistants":
            settings = _assistant_settings(job, batch_id, assistant_id, structure)
            return AssistantsService(wire, settings, poll=job.poll, assistant_made=assistant_made, row_files=row_files)
        case "responses":
            return ResponsesService(wire, _response_settings(job, batch_id, structure), row_files)
        case "chat":
            return ChatService(wire, _chat_settings(job, structure), row_files, on_unknown_end)
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
        metadata=metadata_of(job, batch_id),
        parameters=model_parameters(job, "assistants"),
        of_row=lambda own: _assistant_settings(job_of_row(job, own), batch_id, assistant_id, structure),
        structure=structure,
        keep=frozenset(job.keep or ()),
    )


def _response_settings(job: Job, batch_id: str, structure: JsonObject | None) -> ResponseSettings:
    return ResponseSettings(
        model=job.model,
        instructions=job.instructions,
        metadata=metadata_of(job, batch_id),
        conversation=job.conversation,
        stream=job.stream,
        background=job.background,
        parameters=model_parameters(job, "responses"),
        of_row=lambda own: _response_settings(job_of_row(job, own), batch_id, structure),
        structure=response_format(structure, "responses"),
        keep=frozenset(job.keep or ()),
    )


def _chat_settings(job: Job, structure: JsonObject | None) -> ChatSettings:
    return ChatSettings(
        model=job.model,
        instructions=job.instructions,
        stream=job.stream,
        parameters=model_parameters(job, "chat"),
        of_row=lambda own: _chat_settings(job_of_row(job, own), structure),
        structure=structure,
        keep=frozenset(job.keep or ()),
    )
