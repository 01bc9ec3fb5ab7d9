"""The operations of chat completions that were stored with `store: true`."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from batchrun.server.errors import no_such
from batchrun.server.execution.chats import STORED_PREFIX
from batchrun.server.http.endpoint import operation
from batchrun.server.protocol.metadata import merged_metadata
from batchrun.server.protocol.requests.chat import UpdateChatCompletion
from batchrun.server.replies.replies import Json, json_reply
from batchrun.server.store.kinds import STORED_COMPLETION
from batchrun.server.store.objects import page_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batchrun.server.http.endpoint import Call
    from batchrun.server.protocol.bodies import Body
    from batchrun.server.protocol.requests.chat import ChatMessage
    from batchrun.server.store import Page

__all__ = ["OPERATIONS", "stored_messages"]

_NOUN = "chat completion"


def stored_messages(completion_id: str, messages: Sequence[ChatMessage]) -> list[Body]:
    """Return the messages of a request in the form in which they are listed."""
    listed: list[Body] = []
    for number, message in enumerate(messages):
        body = message.model_dump(exclude_none=True)
        content = body.pop("content", None)
        is_list = isinstance(content, list)
        listed.append(
            {
                "id": f"{completion_id}-{number}",
                "name": None,
                **body,
                "content": None if is_list else content,
                "content_parts": content if is_list else None,
            }
        )
    return listed


def _page(call: Call) -> Page:
    """Return the list parameters; these two lists have the oldest first, unless `order` says otherwise."""
    page = call.page()
    return page if "order" in call.query else dataclasses.replace(page, order="asc")


def _find(call: Call) -> Body:
    completion_id = call.path["completion_id"]
    body = call.objects.find(STORED_COMPLETION, call.owner, STORED_PREFIX + completion_id)
    if body is None:
        raise no_such(_NOUN, completion_id)
    return body


def list_chat_completions(call: Call) -> Json:
    page, model = _page(call), call.one("model")
    wanted = {
        name[len("metadata[") : -1]: values[-1]
        for name, values in call.query.items()
        if name.startswith("metadata[") and name.endswith("]")
    }
    if not wanted:
        listed = call.objects.page(STORED_COMPLETION, call.owner, page, run=model, noun=_NOUN, prefix=STORED_PREFIX)
        return Json(text=listed)
    bodies = call.objects.children(call.owner, STORED_COMPLETION, "", run=model)
    return Json(text=page_of([each for each in bodies if wanted.items() <= each["metadata"].items()], page, _NOUN))


def retrieve_chat_completion(call: Call) -> Json:
    return json_reply(_find(call))


def update_chat_completion(call: Call, request: UpdateChatCompletion) -> Json:
    body = _find(call)
    body["metadata"] = merged_metadata(body["metadata"], request.metadata)
    call.objects.save(body, key=STORED_PREFIX + body["id"])
    return json_reply(body)


def delete_chat_completion(call: Call) -> Json:
    completion_id = _find(call)["id"]
    call.objects.remove(STORED_PREFIX + completion_id)
    return json_reply({"id": completion_id, "object": "chat.completion.deleted", "deleted": True})


def list_chat_messages(call: Call) -> Json:
    messages = call.objects.completion_hidden(STORED_PREFIX + _find(call)["id"])["messages"]
    return Json(text=page_of(messages, _page(call), "message"))


_ONE = "/chat/completions/{completion_id}"

OPERATIONS = (
    operation("GET", "/chat/completions", list_chat_completions, beta=False),
    operation("GET", _ONE, retrieve_chat_completion, beta=False),
    operation("POST", _ONE, update_chat_completion, UpdateChatCompletion, beta=False),
    operation("DELETE", _ONE, delete_chat_completion, beta=False),
    operation("GET", f"{_ONE}/messages", list_chat_messages, beta=False),
)
