"""The operations of /threads. The hosted API does not list threads; this server does."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from batchrun.server.http.endpoint import operation
from batchrun.server.http.routes.messages import add_messages
from batchrun.server.http.routes.resources import resources_body
from batchrun.server.protocol.metadata import merged_metadata
from batchrun.server.protocol.objects import new_thread
from batchrun.server.protocol.requests.threads import CreateThread, UpdateThread
from batchrun.server.replies.replies import Json, json_reply
from batchrun.server.store.kinds import MESSAGE, RUN, STEP, THREAD

if TYPE_CHECKING:
    from batchrun.server.http.endpoint import Call
    from batchrun.server.protocol.bodies import Body

__all__ = ["OPERATIONS", "add_thread"]


def add_thread(call: Call, request: CreateThread) -> Body:
    """Store a new thread with its first messages, and return it."""
    thread = new_thread(request.metadata, resources_body(call, request.tool_resources), call.parts.now())
    call.objects.add(THREAD, call.owner, thread)
    add_messages(call, thread["id"], request.messages)
    return thread


def create_thread(call: Call, request: CreateThread) -> Json:
    return json_reply(add_thread(call, request))


def list_threads(call: Call) -> Json:
    return Json(text=call.objects.page(THREAD, call.owner, call.page()))


def retrieve_thread(call: Call) -> Json:
    return json_reply(call.objects.get(THREAD, call.owner, call.path["thread_id"]))


def update_thread(call: Call, request: UpdateThread) -> Json:
    thread = call.objects.get(THREAD, call.owner, call.path["thread_id"])
    thread["metadata"] = merged_metadata(thread["metadata"], request.metadata)
    if request.tool_resources is not None:
        changed = resources_body(call, request.tool_resources)
        for key in request.tool_resources.model_fields_set:
            thread["tool_resources"][key] = changed[key]
    call.objects.save(thread)
    return json_reply(thread)


def delete_thread(call: Call) -> Json:
    objects = call.objects
    thread_id = call.path["thread_id"]
    objects.get(THREAD, call.owner, thread_id)
    runs = [run["id"] for run in objects.children(call.owner, RUN, thread_id)]
    for run_id in runs:
        objects.remove_children(call.owner, STEP, run_id)
    objects.remove_children(call.owner, RUN, thread_id)
    objects.remove_children(call.owner, MESSAGE, thread_id)
    objects.remove(thread_id)
    call.after.append(partial(call.core.runs.forget_all, runs))
    return json_reply({"id": thread_id, "object": "thread.deleted", "deleted": True})


OPERATIONS = (
    operation("POST", "/threads", create_thread, CreateThread),
    operation("GET", "/threads", list_threads),
    operation("GET", "/threads/{thread_id}", retrieve_thread),
    operation("POST", "/threads/{thread_id}", update_thread, UpdateThread),
    operation("DELETE", "/threads/{thread_id}", delete_thread),
)
