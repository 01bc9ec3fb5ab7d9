"""The operations of /assistants."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchrun.server.http.endpoint import operation
from batchrun.server.http.routes.resources import resources_body
from batchrun.server.protocol.metadata import merged_metadata
from batchrun.server.protocol.objects import new_assistant, response_format_body, tool_bodies
from batchrun.server.protocol.requests.threads import CreateAssistant, UpdateAssistant
from batchrun.server.replies.replies import Json, json_reply
from batchrun.server.store.kinds import ASSISTANT

if TYPE_CHECKING:
    from batchrun.server.http.endpoint import Call

__all__ = ["OPERATIONS"]


def create_assistant(call: Call, request: CreateAssistant) -> Json:
    resources = resources_body(call, request.tool_resources, tool_bodies(request.tools))
    assistant = new_assistant(request, resources, call.parts.now())
    call.objects.add(ASSISTANT, call.owner, assistant)
    return json_reply(assistant)


def list_assistants(call: Call) -> Json:
    return Json(text=call.objects.page(ASSISTANT, call.owner, call.page()))


def retrieve_assistant(call: Call) -> Json:
    return json_reply(call.objects.get(ASSISTANT, call.owner, call.path["assistant_id"]))


def update_assistant(call: Call, request: UpdateAssistant) -> Json:
    assistant = call.objects.get(ASSISTANT, call.owner, call.path["assistant_id"])
    given = request.model_fields_set
    for name in ("name", "description", "instructions", "model", "reasoning_effort"):
        if name in given and (name != "model" or request.model is not None):
            assistant[name] = getattr(request, name)
    for name in ("temperature", "top_p"):
        if name in given:
            value = getattr(request, name)
            assistant[name] = 1.0 if value is None else value
    assistant["metadata"] = merged_metadata(assistant["metadata"], request.metadata)
    if "response_format" in given:
        assistant["response_format"] = response_format_body(request.response_format)
    if request.tools is not None:
        assistant["tools"] = tool_bodies(request.tools)
    if request.tool_resources is not None:
        assistant["tool_resources"] |= {
            key: value
            for key, value in resources_body(call, request.tool_resources).items()
            if key in request.tool_resources.model_fields_set
        }
    if request.tools is not None:
        defaults = resources_body(call, None, assistant["tools"])
        for key, value in defaults.items():
            if assistant["tool_resources"][key] is None:
                assistant["tool_resources"][key] = value
    call.objects.save(assistant)
    return json_reply(assistant)


def delete_assistant(call: Call) -> Json:
    assistant_id = call.path["assistant_id"]
    call.objects.get(ASSISTANT, call.owner, assistant_id)
    call.objects.remove(assistant_id)
    return json_reply({"id": assistant_id, "object": "assistant.deleted", "deleted": True})


OPERATIONS = (
    operation("POST", "/assistants", create_assistant, CreateAssistant),
    operation("GET", "/assistants", list_assistants),
    operation("GET", "/assistants/{assistant_id}", retrieve_assistant),
    operation("POST", "/assistants/{assistant_id}", update_assistant, UpdateAssistant),
    operation("DELETE", "/assistants/{assistant_id}", delete_assistant),
)
