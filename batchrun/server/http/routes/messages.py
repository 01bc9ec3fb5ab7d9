"""The operations of /threads/{thread_id}/messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchrun.server.errors import locked_thread
from batchrun.server.http.endpoint import operation
from batchrun.server.http.routes.resources import attach_files, check_attachments
from batchrun.server.protocol.metadata import merged_metadata
from batchrun.server.protocol.objects import new_message
from batchrun.server.protocol.requests.threads import CreateMessage, UpdateMetadata
from batchrun.server.replies.replies import Json, json_reply
from batchrun.server.store.kinds import MESSAGE, RUN, THREAD
from batchrun.server.store.objects import no_more_than

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batchrun.server.http.endpoint import Call
    from batchrun.server.protocol.bodies import MessageBody

__all__ = ["OPERATIONS", "add_messages"]

MAX_MESSAGES = 100_000


def add_messages(call: Call, thread_id: str, requests: Sequence[CreateMessage]) -> list[MessageBody]:
    """Append messages to a thread and return them.

    Raises:
        ApiError: 404: a file does not exist. 400: the thread is full.
    """
    objects, now = call.objects, call.parts.now()
    if requests:
        no_more_than(objects, call.owner, MESSAGE, thread_id, MAX_MESSAGES, len(requests))
    messages = [new_message(request, thread_id, now) for request in requests]
    for message in messages:
        check_attachments(call, message)
        objects.add(MESSAGE, call.owner, message, parent=thread_id, status="completed")
    if any(message["attachments"] for message in messages):
        attach_files(call, thread_id, messages)
    return messages


def active_run(call: Call, thread_id: str) -> str | None:
    """Return the id of the run that locks the thread, or None."""
    for _, run in call.objects.active(RUN, thread_id):
        return str(run["id"])
    return None


def create_message(call: Call, request: CreateMessage) -> Json:
    thread_id = call.path["thread_id"]
    call.objects.get(THREAD, call.owner, thread_id)
    run_id = active_run(call, thread_id)
    if run_id is not None:
        raise locked_thread(thread_id, run_id)
    (message,) = add_messages(call, thread_id, [request])
    return json_reply(message)


def list_messages(call: Call) -> Json:
    thread_id = call.path["thread_id"]
    call.objects.get(THREAD, call.owner, thread_id)
    return Json(text=call.objects.page(MESSAGE, call.owner, call.page(), parent=thread_id, run=call.one("run_id")))


def _message(call: Call) -> MessageBody:
    thread_id = call.path["thread_id"]
    call.objects.get(THREAD, call.owner, thread_id)
    return call.objects.get(MESSAGE, call.owner, call.path["message_id"], parent=thread_id)


def retrieve_message(call: Call) -> Json:
    return json_reply(_message(call))


def update_message(call: Call, request: UpdateMetadata) -> Json:
    message = _message(call)
    message["metadata"] = merged_metadata(message["metadata"], request.metadata)
    call.objects.save(message, status=message["status"])
    return json_reply(message)


def delete_message(call: Call) -> Json:
    message = _message(call)
    run_id = active_run(call, message["thread_id"])
    if run_id is not None:
        raise locked_thread(message["thread_id"], run_id)
    call.objects.remove(message["id"])
    return json_reply({"id": message["id"], "object": "thread.message.deleted", "deleted": True})


OPERATIONS = (
    operation("POST", "/threads/{thread_id}/messages", create_message, CreateMessage),
    operation("GET", "/threads/{thread_id}/messages", list_messages),
    operation("GET", "/threads/{thread_id}/messages/{message_id}", retrieve_message),
    operation("POST", "/threads/{thread_id}/messages/{message_id}", update_message, UpdateMetadata),
    operation("DELETE", "/threads/{thread_id}/messages/{message_id}", delete_message),
)
