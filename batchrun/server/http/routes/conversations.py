"""The operations of /conversations and their items."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchrun.server.errors import no_such
from batchrun.server.http.endpoint import operation
from batchrun.server.http.routes.input_items import included, stored_items
from batchrun.server.protocol.ids import new_id
from batchrun.server.protocol.items import prefix_of
from batchrun.server.protocol.metadata import merged_metadata
from batchrun.server.protocol.requests.items import CreateConversation, CreateItems, UpdateConversation
from batchrun.server.replies.encoding import dumps
from batchrun.server.replies.replies import Json, json_reply
from batchrun.server.store.kinds import CONVERSATION, ITEM
from batchrun.server.store.objects import list_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batchrun.server.http.endpoint import Call
    from batchrun.server.protocol.bodies import Body
    from batchrun.server.protocol.requests.input_items import InputItem

__all__ = ["OPERATIONS"]


def _add_items(call: Call, conversation_id: str, items: Sequence[InputItem]) -> list[Body]:
    bodies = stored_items(call, items, new_id, param="items")
    for body in bodies:
        body["id"] = new_id(prefix_of(body))  # a referenced item stays where it is, and this is its copy
        call.objects.add(ITEM, call.owner, body, parent=conversation_id)
    return bodies


def _find(call: Call) -> Body:
    return call.objects.get(CONVERSATION, call.owner, call.path["conversation_id"])


def create_conversation(call: Call, request: CreateConversation) -> Json:
    body: Body = {
        "id": new_id("conv_"),
        "object": "conversation",
        "created_at": call.parts.now(),
        "metadata": request.metadata or {},
    }
    call.objects.add(CONVERSATION, call.owner, body)
    _add_items(call, body["id"], request.items or ())
    return json_reply(body)


def retrieve_conversation(call: Call) -> Json:
    return json_reply(_find(call))


def update_conversation(call: Call, request: UpdateConversation) -> Json:
    body = _find(call)
    body["metadata"] = merged_metadata(body["metadata"], request.metadata)
    call.objects.save(body)
    return json_reply(body)


def delete_conversation(call: Call) -> Json:
    conversation_id = _find(call)["id"]
    call.objects.remove_children(call.owner, ITEM, conversation_id)
    call.objects.remove(conversation_id)
    return json_reply({"id": conversation_id, "object": "conversation.deleted", "deleted": True})


def create_items(call: Call, request: CreateItems) -> Json:
    included(call)
    bodies = _add_items(call, _find(call)["id"], request.items)
    return Json(text=list_json([dumps(body) for body in bodies], [body["id"] for body in bodies], False))


def list_items(call: Call) -> Json:
    included(call)
    return Json(text=call.objects.page(ITEM, call.owner, call.page(), parent=_find(call)["id"]))


def _item(call: Call) -> Body:
    item = call.objects.find(ITEM, call.owner, call.path["item_id"], parent=_find(call)["id"])
    if item is None:
        raise no_such("item", call.path["item_id"])
    return item


def retrieve_item(call: Call) -> Json:
    included(call)
    return json_reply(_item(call))


def delete_item(call: Call) -> Json:
    call.objects.remove(_item(call)["id"])
    return json_reply(_find(call))


OPERATIONS = (
    operation("POST", "/conversations", create_conversation, CreateConversation, beta=False),
    operation("GET", "/conversations/{conversation_id}", retrieve_conversation, beta=False),
    operation("POST", "/conversations/{conversation_id}", update_conversation, UpdateConversation, beta=False),
    operation("DELETE", "/conversations/{conversation_id}", delete_conversation, beta=False),
    operation("POST", "/conversations/{conversation_id}/items", create_items, CreateItems, beta=False),
    operation("GET", "/conversations/{conversation_id}/items", list_items, beta=False),
    operation("GET", "/conversations/{conversation_id}/items/{item_id}", retrieve_item, beta=False),
    operation("DELETE", "/conversations/{conversation_id}/items/{item_id}", delete_item, beta=False),
)
