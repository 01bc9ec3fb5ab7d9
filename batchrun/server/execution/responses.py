"""The execution of responses: their events, their end, and their restart with the server."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from batchrun.server.errors import ApiError, server_error
from batchrun.server.execution.answer import Answer, ask, check_format
from batchrun.server.execution.containers import keep_in_container, search_options, usable_in
from batchrun.server.execution.hosted_tools import MAX_ROUNDS, HostedTools, offered_tools
from batchrun.server.execution.input_files import image_url, read_files
from batchrun.server.execution.live_response import LiveResponse, announce_start, response_usage
from batchrun.server.execution.supervisor import Supervisor
from batchrun.server.protocol.ids import new_id, response_of_item
from batchrun.server.protocol.items import item_messages, prefix_of
from batchrun.server.protocol.tool_choices import chosen
from batchrun.server.replies.encoding import dumps
from batchrun.server.replies.event_log import EventLog
from batchrun.server.responders.base import (
    Conversation,
    Message,
    ResponderError,
    ToolCall,
    ToolOutput,
)
from batchrun.server.store.kinds import ITEM, RESPONSE, UNSTORED_RESPONSE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from batchrun.server.execution.parts import Parts
    from batchrun.server.protocol.bodies import Body

__all__ = ["Responses", "response_functions"]


class Responses(Supervisor[LiveResponse]):
    """Executes responses."""

    noun = "response"
    expected = (ResponderError, ApiError)

    def __init__(self, parts: Parts, tools: HostedTools) -> None:
        super().__init__(parts)
        self._tools = tools

    def cancel(self, response_id: str) -> None:
        """Cancel a response."""
        live = self.live.get(response_id)
        if live is not None and live.body["status"] in ("queued", "in_progress"):
            self._end(live, "cancelled")
            live.scope.cancel()

    async def _answer(self, live: LiveResponse) -> None:
        async with self._parts.slots:
            await self._write_answer(live)

    def _settle(self, live: LiveResponse, failure: BaseException | None) -> None:
        if isinstance(failure, Exception) and not live.interrupted and not live.log.closed:
            live.body["error"] = _error_body(failure)
            self._end(live, "failed")

    async def _write_answer(self, live: LiveResponse) -> None:
        """Call the responder, again after each round of hosted tools, until the response ends."""
        live.body["status"] = "in_progress"
        live.announce("in_progress")
        given = await self.conversation(live.owner, live.body, live.hidden["input"], live.hidden["parameters"])
        for _ in range(MAX_ROUNDS):
            left = _tokens_left(live)
            if left is not None and left <= 0:
                self._cut(live, "max_output_tokens")
                return
            conversation = _continued(given, live, left)
            answer = await ask(self._parts.responder, conversation, live.delta, live.call_delta)
            live.add_usage(answer.usage)
            if live.is_charged:
                self._parts.limits.charge(live.owner, answer.usage.total_tokens)
            if answer.finish.reason in ("length", "content_filter"):
                self._cut(live, "max_output_tokens" if answer.finish.reason == "length" else "content_filter")
                return
            hosted = [call for call in answer.calls if live.hosted_kind(call.name)]
            await self._run_hosted(live, answer, hosted)
            if hosted and len(hosted) == len(answer.calls):
                continue
            if not answer.calls:
                check_format(answer, conversation.response_format, self._parts.responder)
                if not answer.text:
                    live.open_message()
            live.close_message("completed")
            live.complete_calls([call for call in answer.calls if call not in hosted])
            self._end(live, "completed")
            return
        raise ResponderError(f"The model called hosted tools {MAX_ROUNDS} times without an answer.")

    def _cut(self, live: LiveResponse, reason: str) -> None:
        live.close("incomplete")
        live.body["incomplete_details"] = {"reason": reason}
        self._end(live, "incomplete")

    async def _run_hosted(self, live: LiveResponse, answer: Answer, calls: Sequence[ToolCall]) -> None:
        """Make the answer's calls of hosted tools. Their outputs are part of the next conversation.

        A call beyond `max_tool_calls` is not made; its output says so.
        """
        live.close_message("completed")
        resources, options = usable_in(live), search_options(live)
        outputs = []
        for call in calls:
            if _is_over(live):
                live.refuse_hosted(call)
                outputs.append(ToolOutput(call.id, "This call was not made: the request allows no more tool calls."))
                continue
            live.begin_hosted(call)
            searches = sum(result.call.name == "file_search" for result in live.results)
            result = await self._tools.run(live.owner, options, resources, call, searches)
            paths = result.facts.get("paths", {})
            resources["file_ids"] += paths.values()
            if paths:
                keep_in_container(self._parts, live, list(paths.values()))
            urls = [image_url(self._parts, live.owner, file_id) or "" for file_id in result.images]
            live.end_hosted(result, urls)
            outputs.append(ToolOutput(call.id, result.output))
        if calls:
            live.written.append(Message("assistant", answer.text, tool_calls=tuple(calls)))
            live.written.append(Message("tool", "", tool_outputs=tuple(outputs)))

    def _end(self, live: LiveResponse, status: str) -> None:
        """Store the end, the events and the new items of the conversation, then publish the end."""
        parts, body = self._parts, live.body
        live.close("incomplete")
        body["status"] = status
        if status == "completed":
            body["completed_at"] = parts.now()
        if live.usage.total_tokens and status in ("completed", "incomplete"):
            body["usage"] = response_usage(live.usage)
        live.announce(status)
        with parts.database.transaction():
            parts.objects.save(body, status=status, hidden=live.hidden if live.results else None)
            live.log.result = dumps(body)
            if body["conversation"] is not None and status in ("completed", "incomplete"):
                for item in (*live.hidden["input"], *body["output"]):
                    if response_of_item(item["id"]) != body["id"]:  # it was referenced, and this is its copy
                        item = item | {"id": new_id(prefix_of(item))}
                    parts.objects.add(ITEM, live.owner, item, parent=body["conversation"]["id"])
            if body["store"] or live.hidden["keyed"]:
                parts.replies.keep_events(body["id"], 0, b"".join(live.log.frames), parts.clock.now())
            else:
                parts.objects.remove(body["id"])
        live.log.close()

    async def conversation(
        self, owner: str, body: Body, own_items: Sequence[Body], parameters: Mapping[str, Any]
    ) -> Conversation:
        """Return the conversation that a response's first answer continues.

        Raises:
            ApiError: 400 if a response of the chain was deleted.
            ResponderError: the text of a file cannot be extracted.
        """
        items = [*self.earlier_items(owner, body), *own_items]
        text_format = body["text"]["format"]
        choice, functions = chosen(body["tool_choice"], response_functions(body))
        return Conversation(
            model=body["model"],
            instructions=body["instructions"] or "",
            messages=tuple(item_messages(items, await read_files(self._parts, owner, items))),
            tools=functions,
            tool_choice=choice,
            parallel_tool_calls=body["parallel_tool_calls"],
            response_format=_chat_format(text_format),
            max_completion_tokens=body["max_output_tokens"],
            parameters=parameters,
            metadata=body["metadata"],
        )

    def earlier_items(self, owner: str, body: Body) -> list[Body]:
        """Return the items before a response's own input: those of its conversation, or of the chain it continues.

        Raises:
            ApiError: 400 if a response of the chain was deleted.
        """
        objects = self._parts.objects
        if body["conversation"] is not None:
            return objects.children(owner, ITEM, body["conversation"]["id"])
        chain: list[list[Body]] = []
        previous_id = body["previous_response_id"]
        while previous_id is not None:
            previous = objects.find(RESPONSE, owner, previous_id)
            if previous is None:
                raise ApiError(
                    400,
                    f"Previous response with id '{previous_id}' not found.",
                    param="previous_response_id",
                    code="previous_response_not_found",
                )
            chain.append([*objects.response_hidden(previous_id)["input"], *previous["output"]])
            previous_id = previous["previous_response_id"]
        return [item for items in reversed(chain) for item in items]

    def recover(self) -> None:
        """Execute the responses that the last process left unfinished, again from their start."""
        objects = self._parts.objects
        for kind in (RESPONSE, UNSTORED_RESPONSE):
            for owner, body in objects.active(kind):
                body |= {"status": "queued" if body["background"] else "in_progress", "output": []}
                live = LiveResponse(EventLog(body["id"], 0), owner, body, objects.response_hidden(body["id"]))
                announce_start(live)
                self.start(live)


def _error_body(failure: Exception) -> Body:
    """Return the `error` of a failed response."""
    if isinstance(failure, ResponderError):
        return {"code": failure.code, "message": str(failure)}
    reported = failure if isinstance(failure, ApiError) else server_error()
    return {"code": "server_error", "message": reported.message}


def response_functions(body: Body) -> list[Body]:
    """Return a response's tools as functions in the form of Chat Completions; hosted ones too."""
    return offered_tools([_chat_tool(tool) for tool in body["tools"]])


def _chat_tool(tool: Body) -> Body:
    """Return a function in the form of Chat Completions; any other tool as it is."""
    if tool["type"] != "function":
        return tool
    return {"type": "function", "function": {k: v for k, v in tool.items() if k != "type" and v is not None}}


def _tokens_left(live: LiveResponse) -> int | None:
    """Return the output tokens that the response may still use; None for any number."""
    limit = live.body["max_output_tokens"]
    return None if limit is None else limit - live.usage.completion_tokens


def _is_over(live: LiveResponse) -> bool:
    """Return whether the response has made all the calls of hosted tools that it may make."""
    limit = live.body["max_tool_calls"]
    return limit is not None and len(live.results) >= limit


def _continued(given: Conversation, live: LiveResponse, left: int | None) -> Conversation:
    """Return the conversation for the next answer: what was given, and the calls of hosted tools so far.

    A forced choice applies to the first answer only, and hosted tools are offered up to `max_tool_calls`.
    """
    if not live.written:
        return given
    is_over = _is_over(live)
    return dataclasses.replace(
        given,
        messages=(*given.messages, *live.written),
        tools=[tool for tool in given.tools if not (is_over and live.hosted_kind(tool["function"]["name"]))],
        tool_choice="none" if given.tool_choice == "none" else "auto",
        max_completion_tokens=left,
    )


def _chat_format(text_format: Body) -> Body | None:
    if text_format["type"] == "text":
        return None
    if text_format["type"] == "json_object":
        return text_format
    schema = {key: value for key, value in text_format.items() if key != "type"}
    return {"type": "json_schema", "json_schema": schema}
