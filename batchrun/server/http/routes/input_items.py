"""The items that a request sends: in the form that is stored, with references resolved."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from batchrun.server.errors import ApiError, bad_value
from batchrun.server.protocol.ids import response_of_item
from batchrun.server.protocol.items import content_parts, item_body
from batchrun.server.protocol.requests.input_items import ItemReference
from batchrun.server.protocol.requests.items import Include
from batchrun.server.store.kinds import FILE, ITEM, RESPONSE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from batchrun.server.http.endpoint import Call
    from batchrun.server.protocol.bodies import Body
    from batchrun.server.protocol.ids import Prefix
    from batchrun.server.protocol.requests.input_items import InputItem

__all__ = ["included", "stored_items"]


def included(call: Call) -> list[str]:
    """Return the details that a query asks for.

    Raises:
        ApiError: 400: there is no such detail.
    """
    include = [*call.query.get("include", ()), *call.query.get("include[]", ())]
    for each in include:
        if each not in get_args(Include):
            named = ", ".join(f"'{value}'" for value in get_args(Include))
            raise bad_value("include", f"Invalid value: '{each}'. Supported values are: {named}.")
    return include


def stored_items(call: Call, items: Sequence[InputItem], new_id: Callable[[Prefix], str], *, param: str) -> list[Body]:
    """Return items in the form that is stored; a reference becomes the item that it names.

    Args:
        new_id: returns the id of a new item.
        param: the parameter that holds the items.

    Raises:
        ApiError: 404: an item or a file does not exist.
    """
    bodies = []
    for item in items:
        body = _referenced(call, item.id, param) if isinstance(item, ItemReference) else item_body(item, new_id)
        for part in content_parts(body):
            if part.get("file_id"):
                call.objects.get(FILE, call.owner, part["file_id"])
        bodies.append(body)
    return bodies


def _referenced(call: Call, item_id: str, param: str) -> Body:
    item = call.objects.find(ITEM, call.owner, item_id)
    if item is not None:
        return item
    response = call.objects.find(RESPONSE, call.owner, response_of_item(item_id))
    if response is not None:
        for each in (*response["output"], *call.objects.response_hidden(response["id"])["input"]):
            if each["id"] == item_id:
                found: Body = each
                return found
    raise ApiError(
        404,
        f"Item with id '{item_id}' not found. Items are not persisted when `store` is set to false. Try again with "
        "`store` set to true, or remove this item from your input.",
        param=param,
    )
