"""Tool resources: the files and vector stores that assistants, threads and runs may use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batchrun.server.errors import no_such

if TYPE_CHECKING:
    from batchrun.server.operations import Call
    from batchrun.server.shapes import Body

__all__ = ["check_attachments", "resources_body"]


def resources_body(call: Call, resources: Any, tools: list[Body] | None = None) -> Body:
    """Tool resources as they are echoed: both keys, null where the tool has none.

    An assistant that has code_interpreter among its tools gets `{"file_ids": []}` for it.

    Raises:
        ApiError: 404 where a file or vector store does not exist.
    """
    body: Body = {"code_interpreter": None, "file_search": None}
    kinds = {tool["type"] for tool in tools or ()}
    if resources is not None and resources.code_interpreter is not None:
        for file_id in resources.code_interpreter.file_ids:
            call.core.objects.get("file", call.owner, file_id)
        body["code_interpreter"] = {"file_ids": resources.code_interpreter.file_ids}
    elif "code_interpreter" in kinds:
        body["code_interpreter"] = {"file_ids": []}
    if resources is not None and resources.file_search is not None:
        store_ids = resources.file_search.vector_store_ids or []
        for store_id in store_ids:
            if call.core.objects.find("vector_store", call.owner, store_id) is None:
                raise no_such("vector store", store_id)
        body["file_search"] = {"vector_store_ids": store_ids}
    elif "file_search" in kinds:
        body["file_search"] = {"vector_store_ids": []}
    return body


def check_attachments(call: Call, message: Body) -> None:
    """Refuse a message whose files do not exist.

    Raises:
        ApiError: 404.
    """
    for attachment in message["attachments"]:
        call.core.objects.get("file", call.owner, attachment["file_id"])
    for part in message["content"]:
        if part["type"] == "image_file":
            call.core.objects.get("file", call.owner, part["image_file"]["file_id"])
