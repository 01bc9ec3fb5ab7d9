"""The operations of /responses."""

from __future__ import annotations

import itertools
from functools import partial
from typing import TYPE_CHECKING

from batchrun.server.errors import ApiError, bad_value, no_such
from batchrun.server.execution.containers import add_container
from batchrun.server.execution.live_response import LiveResponse, announce_start
from batchrun.server.execution.response_calls import without_details
from batchrun.server.execution.responses import response_functions
from batchrun.server.http.endpoint import find_log, operation
from batchrun.server.http.routes.input_items import included, stored_items
from batchrun.server.http.routes.resources import refuse_other_choice, refuse_other_tools
from batchrun.server.http.waiting_call import waiting_reply
from batchrun.server.protocol.ids import new_id, new_item_id
from batchrun.server.protocol.items import check_calls
from batchrun.server.protocol.requests.input_items import MessageItem
from batchrun.server.protocol.requests.items import (
    CodeTool,
    CountInputTokens,
    CreateResponse,
    ResponseFunctionTool,
    SearchTool,
)
from batchrun.server.protocol.requests.neutral import change_refusal
from batchrun.server.protocol.token_counts import count_prompt
from batchrun.server.replies.encoding import dumps
from batchrun.server.replies.event_log import EventLog
from batchrun.server.replies.replies import HttpReply, Json, Stream, Waiting, json_reply
from batchrun.server.responders.base import answering_model
from batchrun.server.store.kinds import CONTAINER, CONVERSATION, FILE, RESPONSE, UNSTORED_RESPONSE, VECTOR_STORE
from batchrun.server.store.objects import page_of

if TYPE_CHECKING:
    from batchrun.server.http.endpoint import Call
    from batchrun.server.protocol.bodies import Body
    from batchrun.server.protocol.ids import Prefix
    from batchrun.server.protocol.requests.items import ResponseTool
    from batchrun.server.store.hidden import ResponseHidden

__all__ = ["OPERATIONS"]

_FIRST_INPUT_NUMBER = 5000
"""The ids of input items count from here; the items of the output, of which there are never so many, from 0."""


_OFFERED = ("function", "file_search", "code_interpreter")


def create_response(call: Call, request: CreateResponse) -> HttpReply:
    if request.background and request.store is False:
        raise bad_value("background", "Background mode requires the response to be stored: set store to true.")
    refuse_other_tools(call, request.tools, offered=_OFFERED)
    refusal = change_refusal(request, call.parts.responder.name)
    if refusal is not None:
        raise refusal
    model = answering_model(call.parts.responder, request.model)
    body = _new_response(request, model, call.parts.now())
    refuse_other_choice(call, body["tool_choice"], response_functions(body))
    _check_context(call, body)
    hidden: ResponseHidden = {
        "input": _input_items(call, request, body["id"]),
        "parameters": _parameters(request),
        "keyed": call.keyed,
    }
    _add_hosted_facts(call, request, hidden)
    check_calls([*call.core.responses.earlier_items(call.owner, body), *hidden["input"]])
    kind = UNSTORED_RESPONSE if request.store is False else RESPONSE
    call.objects.add(
        kind,
        call.owner,
        body,
        parent=body["conversation"]["id"] if body["conversation"] else "",
        status=body["status"],
        active=True,
        hidden=hidden,
    )
    live = LiveResponse(EventLog(body["id"], 0), call.owner, body, hidden, is_charged=not call.is_line)
    announce_start(live)
    accepted = Json(text=call.objects.text(body["id"]))
    call.after.append(partial(call.core.responses.start, live))
    if request.stream:
        return Stream(log=live.log, tail=b"")
    if request.background:
        return accepted
    return Waiting(log=live.log)


def _add_hosted_facts(call: Call, request: CreateResponse, hidden: ResponseHidden) -> None:
    """Add to the hidden part of a response what its hosted tools need.

    Raises:
        ApiError: 404: a vector store, a file or a container does not exist.
    """
    if request.include:
        hidden["include"] = list(request.include)
    # A script rehearses requests to a service, whose stores and files do not exist here.
    exists_here = call.parts.responder.name != "script"
    for tool in request.tools or ():
        if isinstance(tool, SearchTool) and exists_here:
            for store_id in tool.vector_store_ids:
                call.objects.get(VECTOR_STORE, call.owner, store_id, noun="vector store")
        elif isinstance(tool, CodeTool):
            hidden["container"], hidden["file_ids"] = _container(call, tool, exists_here=exists_here)


def _container(call: Call, tool: CodeTool, *, exists_here: bool) -> tuple[str, list[str]]:
    """Return id and files of the container in which code runs; a new one, unless the request names one."""
    if isinstance(tool.container, str):
        container = call.objects.find(CONTAINER, call.owner, tool.container)
        if container is None and exists_here:
            raise no_such("container", tool.container)
        return tool.container, [] if container is None else container["file_ids"]
    file_ids = (tool.container.file_ids if tool.container is not None else None) or []
    for file_id in file_ids if exists_here else ():
        call.objects.get(FILE, call.owner, file_id)
    return add_container(call.parts, call.owner, file_ids), list(file_ids)


def _new_response(request: CreateResponse, model: str, now: int) -> Body:
    text, reasoning = request.text, request.reasoning
    conversation = request.conversation
    text_format = text.format.model_dump(by_alias=True, exclude_none=True) if text and text.format else None
    return {
        "id": new_id("resp_"),
        "object": "response",
        "created_at": now,
        "status": "queued" if request.background else "in_progress",
        "background": bool(request.background),
        "completed_at": None,
        "conversation": (
            None if conversation is None else {"id": conversation if isinstance(conversation, str) else conversation.id}
        ),
        "error": None,
        "incomplete_details": None,
        "instructions": request.instructions,
        "max_output_tokens": request.max_output_tokens,
        "max_tool_calls": request.max_tool_calls,
        "metadata": request.metadata or {},
        "model": model,
        "output": [],
        "parallel_tool_calls": True if request.parallel_tool_calls is None else request.parallel_tool_calls,
        "previous_response_id": request.previous_response_id,
        "prompt_cache_key": request.prompt_cache_key,
        "reasoning": {
            "effort": reasoning.effort if reasoning else None,
            "summary": reasoning.summary if reasoning else None,
        },
        "safety_identifier": request.safety_identifier,
        "service_tier": "default",
        "store": request.store is not False,
        "temperature": 1.0 if request.temperature is None else request.temperature,
        "text": {"format": text_format or {"type": "text"}, "verbosity": (text and text.verbosity) or "medium"},
        "tool_choice": (
            "auto"
            if request.tool_choice is None
            else request.tool_choice
            if isinstance(request.tool_choice, str)
            else request.tool_choice.model_dump()
        ),
        "tools": [_tool_body(tool) for tool in request.tools or ()],
        "top_logprobs": 0,
        "top_p": 1.0 if request.top_p is None else request.top_p,
        "truncation": request.truncation or "disabled",
        "usage": None,
        "user": request.user,
    }


def _tool_body(tool: ResponseTool) -> Body:
    if not isinstance(tool, ResponseFunctionTool):
        return tool.model_dump(exclude_none=True)
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters,
        "strict": True if tool.strict is None else tool.strict,
    }


def _input_items(call: Call, request: CreateResponse, response_id: str) -> list[Body]:
    numbers = itertools.count(_FIRST_INPUT_NUMBER)

    def new_id_here(prefix: Prefix) -> str:
        return new_item_id(prefix, response_id, next(numbers))

    items = request.input or ()
    if isinstance(items, str):
        items = [MessageItem(role="user", content=items)]
    return stored_items(call, items, new_id_here, param="input")


def _parameters(request: CreateResponse) -> Body:
    parameters: Body = {}
    for name in ("temperature", "top_p", "user", "service_tier", "prompt_cache_key", "safety_identifier"):
        if getattr(request, name) is not None:
            parameters[name] = getattr(request, name)
    if request.reasoning is not None and request.reasoning.effort is not None:
        parameters["reasoning_effort"] = request.reasoning.effort
    if request.text is not None and request.text.verbosity is not None:
        parameters["verbosity"] = request.text.verbosity
    return parameters


def _check_context(call: Call, body: Body) -> None:
    """Raise an error if the earlier items do not exist, are given twice, or are in use by another response."""
    if body["conversation"] is None:
        return
    if body["previous_response_id"] is not None:
        raise ApiError(
            400,
            "Mutually exclusive parameters: 'previous_response_id' and 'conversation'. Give one of them.",
            param="previous_response_id",
            code="mutually_exclusive_parameters",
        )
    objects, conversation_id = call.objects, body["conversation"]["id"]
    if objects.find(CONVERSATION, call.owner, conversation_id) is None:
        raise no_such("conversation", conversation_id)
    for kind in (RESPONSE, UNSTORED_RESPONSE):
        if objects.active(kind, conversation_id):
            raise ApiError(
                400,
                "Another process is currently operating on this conversation. Please retry in a few seconds.",
                param="conversation",
                code="conversation_locked",
            )


def _find(call: Call) -> Body:
    response_id = call.path["response_id"]
    body = call.objects.find(RESPONSE, call.owner, response_id)
    if body is None:
        raise ApiError(404, f"Response with id '{response_id}' not found.")
    live = call.core.responses.live.get(response_id)
    return body if live is None else body | {"status": live.body["status"]}


def retrieve_response(call: Call) -> HttpReply:
    body = _find(call)
    include = included(call)
    if call.one("stream") not in ("true", "True", "1"):
        return json_reply(_with_details(call, body, include) if include else body)
    after = call.one("starting_after")
    if after is not None and not (after.isascii() and after.isdigit() and len(after) < 10):
        raise bad_value("starting_after", f"Invalid 'starting_after': expected an integer, but got '{after}'.")
    return Stream(log=find_log(call.core, body["id"], 0), skip=0 if after is None else int(after) + 1, tail=b"")


def _with_details(call: Call, body: Body, include: list[str]) -> Body:
    details = call.objects.response_hidden(body["id"]).get("details", {})
    output = [without_details(details.get(item["id"], item), include) for item in body["output"]]
    return body | {"output": output}


def cancel_response(call: Call) -> Json:
    body = _find(call)
    if not body["background"]:
        raise ApiError(400, "Cannot cancel a synchronous response.")
    live = call.core.responses.live.get(body["id"])
    if live is not None and body["status"] in ("queued", "in_progress"):
        call.after.append(partial(call.core.responses.cancel, body["id"]))
        body["status"] = "cancelled"
    return json_reply(body)


def delete_response(call: Call) -> Json:
    body = _find(call)
    call.objects.remove(body["id"])
    call.after.append(partial(call.core.responses.forget, body["id"]))
    return json_reply({"id": body["id"], "object": "response", "deleted": True})


def list_input_items(call: Call) -> Json:
    body = _find(call)
    included(call)
    return Json(text=page_of(call.objects.response_hidden(body["id"])["input"], call.page(), "item"))


def count_input_tokens(call: Call, request: CountInputTokens) -> Waiting:
    refuse_other_tools(call, request.tools, offered=_OFFERED)
    responder = call.parts.responder
    # A count needs no model: the rule is the same for all.
    model = answering_model(responder, request.model or next(iter(responder.models), ""))
    asked = CreateResponse.model_construct(**{**dict(request), "model": model})
    body = _new_response(asked, model, call.parts.now())
    refuse_other_choice(call, body["tool_choice"], response_functions(body))
    _check_context(call, body)
    items = _input_items(call, asked, body["id"])
    check_calls([*call.core.responses.earlier_items(call.owner, body), *items])

    async def count() -> str:
        conversation = await call.core.responses.conversation(call.owner, body, items, {})
        return dumps({"object": "response.input_tokens", "input_tokens": count_prompt(conversation)})

    return waiting_reply(call, count)


OPERATIONS = (
    operation("POST", "/responses", create_response, CreateResponse, beta=False),
    operation("POST", "/responses/input_tokens", count_input_tokens, CountInputTokens, beta=False),
    operation("GET", "/responses/{response_id}", retrieve_response, beta=False),
    operation("DELETE", "/responses/{response_id}", delete_response, beta=False),
    operation("POST", "/responses/{response_id}/cancel", cancel_response, beta=False),
    operation("GET", "/responses/{response_id}/input_items", list_input_items, beta=False),
)
