"""Tool resources: the files and vector stores that assistants, threads and runs may use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batchrun.server.errors import bad_value, no_such
from batchrun.server.execution.vector_stores import add_store, chunking_body
from batchrun.server.http.routes.vector_stores import add_files
from batchrun.server.protocol.tool_choices import missing_tool
from batchrun.server.store.kinds import FILE, THREAD, VECTOR_STORE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batchrun.server.http.endpoint import Call
    from batchrun.server.protocol.bodies import Body, MessageBody
    from batchrun.server.protocol.requests.items import ResponseTool
    from batchrun.server.protocol.requests.tools import FunctionTool, OtherTool
    from batchrun.server.store.hidden import UsableResources

__all__ = [
    "attach_files",
    "check_attachments",
    "refuse_other_choice",
    "refuse_other_tools",
    "resources_body",
    "usable_resources",
    "wants_contents",
]


def refuse_other_tools(
    call: Call,
    tools: Sequence[FunctionTool | ResponseTool | OtherTool] | None,
    *,
    offered: Sequence[str] = ("function",),
) -> None:
    """Refuse tools that run at a service, unless a script answers: it rehearses requests to a service that has them.

    Raises:
        ApiError: 400: names the tool.
    """
    if call.parts.responder.name == "script":
        return
    for index, tool in enumerate(tools or ()):
        if tool.type not in offered:
            where, named = f"tools[{index}].type", ", ".join(f"'{each}'" for each in offered)
            raise bad_value(where, f"Invalid value: '{tool.type}'. Supported values are: {named}.")


def refuse_other_choice(call: Call, choice: str | Body | None, functions: Sequence[Body]) -> None:
    """Refuse a choice of a tool that the request does not offer, unless a script answers.

    Args:
        functions: the tools of the request, in the form of Chat Completions.

    Raises:
        ApiError: 400: names the tool.
    """
    if call.parts.responder.name == "script":
        return
    if choice == "required" and not functions:
        raise bad_value("tool_choice", "Tool choice 'required' is only allowed when 'tools' are specified.")
    missing = missing_tool(choice, functions)
    if missing is not None:
        raise bad_value("tool_choice", f"Tool choice '{missing}' not found in the 'tools' parameter.")


_CONTENTS = "step_details.tool_calls[*].file_search.results[*].content"


def wants_contents(call: Call) -> bool:
    """Return whether a query asks for the texts of search results.

    Raises:
        ApiError: 400: it asks for anything else.
    """
    requested = [*call.query.get("include", ()), *call.query.get("include[]", ())]
    for each in requested:
        if each != _CONTENTS:
            raise bad_value("include", f"Invalid value: '{each}'. Supported values are: '{_CONTENTS}'.")
    return bool(requested)


def resources_body(call: Call, resources: Any, tools: list[Body] | None = None) -> Body:
    """Return tool resources in the form that replies have: both keys, null for a tool without resources.

    An assistant with the tool code_interpreter gets `{"file_ids": []}` for it.

    Raises:
        ApiError: 404: a file or vector store does not exist.
    """
    body: Body = {"code_interpreter": None, "file_search": None}
    kinds = {tool["type"] for tool in tools or ()}
    if resources is not None and resources.code_interpreter is not None:
        for file_id in resources.code_interpreter.file_ids:
            call.objects.get(FILE, call.owner, file_id)
        body["code_interpreter"] = {"file_ids": resources.code_interpreter.file_ids}
    elif "code_interpreter" in kinds:
        body["code_interpreter"] = {"file_ids": []}
    if resources is not None and resources.file_search is not None:
        store_ids = [*(resources.file_search.vector_store_ids or [])]
        for store_id in store_ids:
            if call.objects.find(VECTOR_STORE, call.owner, store_id) is None:
                raise no_such("vector store", store_id)
        for new in getattr(resources.file_search, "vector_stores", None) or ():
            store = add_store(call.parts, call.owner, None, new.metadata, None)
            add_files(call, store["id"], new.file_ids, chunking_body(new.chunking_strategy))
            store_ids.append(store["id"])
        if len(store_ids) > 1:
            raise bad_value(
                "tool_resources.file_search", "Invalid 'tool_resources.file_search': at most 1 vector store is allowed."
            )
        body["file_search"] = {"vector_store_ids": store_ids}
    elif "file_search" in kinds:
        body["file_search"] = {"vector_store_ids": []}
    return body


def usable_resources(resources: Body) -> UsableResources:
    """Return the vector stores and files of tool resources, as a run keeps them."""
    search, interpreter = resources["file_search"] or {}, resources["code_interpreter"] or {}
    return {
        "vector_store_ids": search.get("vector_store_ids") or [],
        "file_ids": interpreter.get("file_ids") or [],
    }


ATTACHED_STORE_LIFE = {"anchor": "last_active_at", "days": 7}
"""Vector stores made for attachments expire 7 days after their last use, as the hosted API's do."""


def attach_files(call: Call, thread_id: str, messages: Sequence[MessageBody]) -> None:
    """Add the files that are attached to messages to the resources of the thread's tools.

    Raises:
        ApiError: 400: a tool would get more files than it takes.
    """
    parts = call.parts
    thread = parts.objects.get(THREAD, call.owner, thread_id)
    resources = thread["tool_resources"]
    for message in messages:
        for attachment in message["attachments"]:
            tools = {tool["type"] for tool in attachment["tools"]}
            if "code_interpreter" in tools:
                code_files = resources["code_interpreter"] = resources["code_interpreter"] or {"file_ids": []}
                if attachment["file_id"] not in code_files["file_ids"]:
                    code_files["file_ids"].append(attachment["file_id"])
                if len(code_files["file_ids"]) > 20:
                    raise bad_value("attachments", "Invalid 'attachments': code_interpreter takes at most 20 files.")
            if "file_search" in tools:
                stores = resources["file_search"] = resources["file_search"] or {"vector_store_ids": []}
                if not stores["vector_store_ids"]:
                    store = add_store(parts, call.owner, None, None, ATTACHED_STORE_LIFE)
                    stores["vector_store_ids"].append(store["id"])
                add_files(call, stores["vector_store_ids"][0], [attachment["file_id"]], chunking_body(None))
    parts.objects.save(thread)


def check_attachments(call: Call, message: MessageBody) -> None:
    """Check that the files of a message exist.

    Raises:
        ApiError: 404: a file does not exist.
    """
    for attachment in message["attachments"]:
        call.objects.get(FILE, call.owner, attachment["file_id"])
    for part in message["content"]:
        if part["type"] == "image_file":
            call.objects.get(FILE, call.owner, part["image_file"]["file_id"])
