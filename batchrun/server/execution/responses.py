"""The execution of responses: their events, their end, and their restart with the server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchrun.server.errors import ApiError, server_error
from batchrun.server.execution.answer import ask, check_format
from batchrun.server.execution.input_files import read_files
from batchrun.server.execution.live_response import LiveResponse, announce_start, response_usage
from batchrun.server.execution.supervisor import Supervisor
from batchrun.server.protocol.items import item_messages
from batchrun.server.replies.encoding import dumps
from batchrun.server.replies.event_log import EventLog
from batchrun.server.responders.base import Conversation, ResponderError, TokenCount
from batchrun.server.store.kinds import ITEM, RESPONSE, UNSTORED_RESPONSE

if TYPE_CHECKING:
    from batchrun.server.protocol.bodies import Body

__all__ = ["Responses"]


class Responses(Supervisor[LiveResponse]):
    """Executes responses."""

    noun = "response"
    expected = (ResponderError, ApiError)

    def cancel(self, response_id: str) -> None:
        """Cancel a response."""
        live = self.live.get(response_id)
        if live is not None and live.body["status"] in ("queued", "in_progress"):
            self._end(live, "cancelled", None)
            live.scope.cancel()

    async def _answer(self, live: LiveResponse) -> None:
        async with self._parts.slots:
            await self._write_answer(live)

    def _settle(self, live: LiveResponse, failure: BaseException | None) -> None:
        if isinstance(failure, Exception) and not live.interrupted and not live.log.closed:
            live.body["error"] = _error_body(failure)
            self._end(live, "failed", None)

    async def _write_answer(self, live: LiveResponse) -> None:
        live.body["status"] = "in_progress"
        live.announce("in_progress")
        conversation = await self._conversation(live)
        answer = await ask(self._parts.responder, conversation, live.delta, live.call_delta)
        if live.is_charged:
            self._parts.limits.charge(live.owner, answer.usage.total_tokens)
        if answer.finish.reason in ("length", "content_filter"):
            reason = "max_output_tokens" if answer.finish.reason == "length" else "content_filter"
            live.close_message("incomplete")
            live.body["incomplete_details"] = {"reason": reason}
            self._end(live, "incomplete", answer.usage)
            return
        if not answer.calls:
            check_format(answer, conversation.response_format)
            if not answer.text:
                live.open_message()
        live.close_message("completed")
        live.complete_calls(answer.calls)
        self._end(live, "completed", answer.usage)

    def _end(self, live: LiveResponse, status: str, usage: TokenCount | None) -> None:
        """Store the end, the events and the new items of the conversation, then publish the end."""
        parts, body = self._parts, live.body
        live.close("incomplete")
        body["status"] = status
        if status == "completed":
            body["completed_at"] = parts.now()
        if usage is not None:
            body["usage"] = response_usage(usage)
        live.announce(status)
        with parts.database.transaction():
            parts.objects.save(body, status=status)
            live.log.result = dumps(body)
            if body["conversation"] is not None and status in ("completed", "incomplete"):
                for item in (*live.hidden["input"], *body["output"]):
                    parts.objects.add(ITEM, live.owner, item, parent=body["conversation"]["id"])
            if body["store"] or live.hidden["keyed"]:
                parts.replies.keep_events(body["id"], 0, b"".join(live.log.frames), parts.clock.now())
            else:
                parts.objects.remove(body["id"])
        live.log.close()

    async def _conversation(self, live: LiveResponse) -> Conversation:
        body = live.body
        items = [*self.earlier_items(live.owner, body), *live.hidden["input"]]
        text_format = body["text"]["format"]
        return Conversation(
            model=body["model"],
            instructions=body["instructions"] or "",
            messages=tuple(item_messages(items, await read_files(self._parts, live.owner, items))),
            tools=[
                {"type": "function", "function": {k: v for k, v in tool.items() if k != "type" and v is not None}}
                for tool in body["tools"]
                if tool["type"] == "function"
            ],
            tool_choice=_tool_choice(body["tool_choice"]),
            parallel_tool_calls=body["parallel_tool_calls"],
            response_format=_chat_format(text_format),
            max_completion_tokens=body["max_output_tokens"],
            parameters=live.hidden["parameters"],
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


def _tool_choice(choice: str | Body) -> str | Body:
    """Return a tool choice in the form of Chat Completions. A hosted tool is not called here, whatever is chosen."""
    if isinstance(choice, str):
        return choice
    return {"type": "function", "function": {"name": choice["name"]}} if choice["type"] == "function" else "auto"


def _chat_format(text_format: Body) -> Body | None:
    if text_format["type"] == "text":
        return None
    if text_format["type"] == "json_object":
        return text_format
    schema = {key: value for key, value in text_format.items() if key != "type"}
    return {"type": "json_schema", "json_schema": schema}
