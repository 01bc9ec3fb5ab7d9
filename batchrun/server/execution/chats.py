"""The execution of chat completions. They are stored with `store: true`, or for an idempotency key."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from batchrun.server.errors import ApiError, server_error
from batchrun.server.execution.answer import Answer, ask
from batchrun.server.execution.kept_replies import free_unfinished_keys, keep_reply
from batchrun.server.execution.supervisor import Live, Supervisor
from batchrun.server.replies.encoding import dumps
from batchrun.server.responders.base import ResponderError, TokenCount
from batchrun.server.store.kinds import STORED_COMPLETION

if TYPE_CHECKING:
    from batchrun.server.protocol.bodies import Body
    from batchrun.server.responders.base import Conversation, ToolCallDelta

__all__ = ["STORED_PREFIX", "Chats", "LiveChat", "api_error", "chat_usage"]

STORED_PREFIX = "stored/"
"""The part of a stored completion's key before its id."""


def chat_usage(count: TokenCount) -> Body:
    """Return the usage in the form of Chat Completions."""
    return {
        "prompt_tokens": count.prompt_tokens,
        "completion_tokens": count.completion_tokens,
        "total_tokens": count.total_tokens,
        "prompt_tokens_details": {"cached_tokens": count.cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": count.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


@dataclass(slots=True)
class LiveChat(Live):
    """A chat completion that has a task.

    Attributes:
        model: the name that the reply gives.
        created: seconds since 1970-01-01 UTC.
        is_stream: write chunks as they come; otherwise the log's `result` is set at the end.
        has_usage: end the stream with a chunk that holds the usage.
        completion: the whole completion, when it is finished and needed.
        stored_messages: messages of the request, to be stored with the completion; None if it is not to be stored.
        is_kept: store events and result for an idempotency key; the caller has called `add_kept_reply`.
    """

    owner: str
    conversation: Conversation
    model: str
    created: int
    is_stream: bool
    has_usage: bool
    is_kept: bool
    stored_messages: list[Body] | None = None
    completion: Body | None = field(default=None, init=False)
    _head: str = field(init=False)
    _calls: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._head = (
            f'data: {{"id":"{self.log.stream}","object":"chat.completion.chunk","created":{self.created},'
            f'"model":{dumps(self.model)},"service_tier":"default",'
        )

    def _append_chunk(self, delta: Body, finish_reason: str | None = None) -> None:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        usage = ',"usage":null' if self.has_usage else ""
        self.log.append(f'{self._head}"choices":[{dumps(choice)}]{usage}}}\n\n'.encode())

    def _open(self) -> None:
        if not self.log.frames:
            self._append_chunk({"role": "assistant", "content": "", "refusal": None})

    def append_text(self, text: str, refusal: bool) -> None:
        """Add a piece of the answer's text, or of its refusal, to the stream."""
        if self.is_stream:
            self._open()
            self._append_chunk({"refusal" if refusal else "content": text})

    def append_call(self, delta: ToolCallDelta) -> None:
        """Add a piece of a function call to the stream; its first piece names it."""
        if not self.is_stream:
            return
        index = self._calls.get(delta.id)
        if index is not None:
            self._append_chunk({"tool_calls": [{"index": index, "function": {"arguments": delta.arguments}}]})
            return
        index = self._calls[delta.id] = len(self._calls)
        begun = {
            "index": index,
            "id": delta.id,
            "type": "function",
            "function": {"name": delta.name, "arguments": ""},
        }
        opening: Body = {} if self.log.frames else {"role": "assistant", "content": None, "refusal": None}
        self._append_chunk({**opening, "tool_calls": [begun]})

    def finish(self, answer: Answer) -> None:
        """Write the finish reason and the usage, or the whole completion."""
        reason = "tool_calls" if answer.calls and answer.finish.reason == "stop" else answer.finish.reason
        usage = chat_usage(answer.usage)
        if self.stored_messages is not None or not self.is_stream:
            self.completion = self._completion(answer, usage, reason)
        if self.is_stream:
            self._open()
            self._append_chunk({}, reason)
            if self.has_usage:
                self.log.append(f'{self._head}"choices":[],"usage":{dumps(usage)}}}\n\n'.encode())
        else:
            self.log.result = dumps(self.completion)

    def _completion(self, answer: Answer, usage: Body, reason: str) -> Body:
        calls: list[Body] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in answer.calls
        ]
        message: Body = {
            "role": "assistant",
            "content": None if answer.refused else answer.text or (None if calls else ""),
            "refusal": answer.text if answer.refused else None,
            "annotations": [],
        }
        if calls:
            message["tool_calls"] = calls
        return {
            "id": self.log.stream,
            "object": "chat.completion",
            "created": self.created,
            "model": answer.finish.model or self.model,
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": reason}],
            "usage": usage,
            "service_tier": "default",
        }

    def fail(self, error: ApiError) -> None:
        """Report an error: before the first chunk it is the HTTP reply, after it an event."""
        if self.log.frames:
            self.log.append(f"data: {dumps(error.body())}\n\n".encode())
        self.log.failure = error


class Chats(Supervisor[LiveChat]):
    """Executes chat completions."""

    noun = "completion"
    expected = (ResponderError,)

    async def _answer(self, live: LiveChat) -> None:
        async with self._parts.slots:
            answer = await ask(self._parts.responder, live.conversation, live.append_text, live.append_call)
        live.finish(answer)
        if live.is_charged:
            self._parts.limits.charge(live.owner, answer.usage.total_tokens)

    def _settle(self, live: LiveChat, failure: BaseException | None) -> None:
        if isinstance(failure, Exception):
            live.fail(api_error(failure) if isinstance(failure, ResponderError) else server_error())
        is_finished = failure is None
        try:
            if is_finished and live.stored_messages is not None:
                self._store(live, live.stored_messages)
            if live.is_kept:
                keep_reply(self._parts, live.owner, live.log, is_finished=is_finished)
        finally:
            live.log.close(done=is_finished)

    def _store(self, live: LiveChat, messages: list[Body]) -> None:
        assert live.completion is not None
        body = live.completion | {"metadata": dict(live.conversation.metadata)}
        with self._parts.database.transaction():
            self._parts.objects.add(
                STORED_COMPLETION,
                live.owner,
                body,
                key=f"{STORED_PREFIX}{body['id']}",
                run=body["model"],
                hidden={"messages": messages},
            )

    def recover(self) -> None:
        """Free the keys of completions and searches that the last process did not finish."""
        free_unfinished_keys(self._parts)


_ERROR_TYPES = {
    "rate_limit_exceeded": "rate_limit_error",
    "server_error": "server_error",
    "invalid_prompt": "invalid_request_error",
    "model_not_found": "invalid_request_error",
    "upstream_refused": "server_error",
}


def api_error(error: ResponderError) -> ApiError:
    """Return a responder's error as the reply of a request."""
    status = error.status_code
    if error.code == "rate_limit_exceeded":
        status = 429
    elif error.code == "invalid_prompt" and status >= 500:
        status = 400
    headers = {} if error.retry_after_s is None else {"retry-after": f"{error.retry_after_s:g}"}
    return ApiError(status, str(error), type=_ERROR_TYPES[error.code], code=error.code, headers=headers)
