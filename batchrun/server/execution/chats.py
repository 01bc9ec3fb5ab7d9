"""Chat completions that are executing. Nothing of them is stored but what an idempotency key has to repeat."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from batchrun.server.errors import ApiError
from batchrun.server.execution.answer import Answer, ask
from batchrun.server.replies.encoding import dumps
from batchrun.server.responders.base import ResponderError, TokenCount, answering_model

if TYPE_CHECKING:
    from batchrun.server.execution.parts import Parts
    from batchrun.server.protocol.objects import Body
    from batchrun.server.replies.event_log import EventLog
    from batchrun.server.responders.base import Conversation

__all__ = ["Chats", "chat_usage"]

logger = logging.getLogger("batchrun.server")


def chat_usage(count: TokenCount) -> Body:
    """Usage as Chat Completions spell it."""
    return {
        "prompt_tokens": count.prompt_tokens,
        "completion_tokens": count.completion_tokens,
        "total_tokens": count.prompt_tokens + count.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": count.cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": count.reasoning_tokens, "audio_tokens": 0,
            "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0,
        },
    }  # fmt: skip


class Chats:
    """Executes chat completions. Mutable state: `live` (completion id → its log)."""

    def __init__(self, parts: Parts) -> None:
        self.live: dict[str, EventLog] = {}
        self._parts = parts

    def launch(
        self, owner: str, conversation: Conversation, log: EventLog, *, stream: bool, usage: bool, keep: bool
    ) -> None:
        """Answer into `log`.

        Args:
            stream: write chunks as they come; else the log's `result` is set at the end.
            usage: end the stream with a chunk of usage.
            keep: store events and result, for an idempotency key.
        """
        self.live[log.stream] = log
        model = answering_model(self._parts.responder, conversation.model)
        chat = _Chat(model, self._parts.now(), log, stream=stream, usage=usage)
        self._parts.tasks.start_soon(self._execute, owner, conversation, chat, keep)

    async def _execute(self, owner: str, conversation: Conversation, chat: _Chat, keep: bool) -> None:
        log, finished = chat.log, False
        try:
            async with self._parts.slots:
                answer = await ask(self._parts.responder, conversation, chat.delta)
            chat.finish(answer)
            self._parts.limits.charge(owner, answer.usage.prompt_tokens + answer.usage.completion_tokens)
            finished = True
        except ResponderError as error:
            chat.fail(_refusal(error))
        except Exception:
            logger.exception("completion %s met an error of the server", log.stream)
            chat.fail(ApiError(500, "The server had an error while processing your request.", type="server_error"))
        finally:
            try:
                if keep:
                    self._keep(owner, log, finished)
            except Exception:
                logger.exception("completion %s could not be stored", log.stream)
            log.close(done=finished)
            self.live.pop(log.stream, None)

    def _keep(self, owner: str, log: EventLog, finished: bool) -> None:
        """Store what the key has to repeat; a failed completion frees its key, so that a retry is a new try."""
        parts = self._parts
        with parts.database.transaction():
            if not finished:
                parts.objects.remove(log.stream)
                parts.replies.release(owner, log.stream)
            else:
                body = {"id": log.stream, "result": log.result}
                parts.objects.save(body, status="completed")
                parts.replies.keep_events(log.stream, 0, b"".join(log.frames), parts.clock.now())

    def recover(self) -> None:
        """Free the keys of completions that the last process did not finish."""
        with self._parts.database.transaction():
            for owner, body in self._parts.objects.active("completion"):
                self._parts.objects.remove(body["id"])
                self._parts.replies.release(owner, body["id"])


class _Chat:
    """One completion: its chunks or its body."""

    def __init__(self, model: str, created: int, log: EventLog, *, stream: bool, usage: bool) -> None:
        self.log = log
        self._model = model
        self._created = created
        self._stream = stream
        self._usage = usage
        self._head = (
            f'data: {{"id":"{log.stream}","object":"chat.completion.chunk","created":{created},'
            f'"model":{dumps(model)},"service_tier":"default","system_fingerprint":null,'
        )

    def _chunk(self, delta: Body, finish_reason: str | None = None) -> None:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        usage = ',"usage":null' if self._usage else ""
        self.log.append(f'{self._head}"choices":[{dumps(choice)}]{usage}}}\n\n'.encode())

    def _open(self) -> None:
        if not self.log.frames:
            self._chunk({"role": "assistant", "content": "", "refusal": None})

    def delta(self, text: str, refusal: bool) -> None:
        if self._stream:
            self._open()
            self._chunk({"refusal" if refusal else "content": text})

    def finish(self, answer: Answer) -> None:
        reason = "tool_calls" if answer.calls and answer.finish.reason == "stop" else answer.finish.reason
        calls = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in answer.calls
        ]
        usage = chat_usage(answer.usage)
        if self._stream:
            self._open()
            for index, call in enumerate(calls):
                self._chunk({"tool_calls": [{"index": index, **call}]})
            self._chunk({}, reason)
            if self._usage:
                self.log.append(f'{self._head}"choices":[],"usage":{dumps(usage)}}}\n\n'.encode())
            return
        message: Body = {
            "role": "assistant",
            "content": None if answer.refused else answer.text or (None if calls else ""),
            "refusal": answer.text if answer.refused else None, "annotations": [],
        }  # fmt: skip
        if calls:
            message["tool_calls"] = calls
        self.log.result = dumps(
            {
                "id": self.log.stream,
                "object": "chat.completion",
                "created": self._created,
                "model": answer.finish.model or self._model,
                "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": reason}],
                "usage": usage,
                "service_tier": "default",
                "system_fingerprint": None,
            }
        )

    def fail(self, error: ApiError) -> None:
        """Before the first chunk the error is the HTTP answer, after it an event."""
        if self.log.frames:
            self.log.append(f"data: {dumps(error.body())}\n\n".encode())
        self.log.failure = error


_ERROR_TYPES = {
    "rate_limit_exceeded": "rate_limit_error",
    "server_error": "server_error",
    "invalid_prompt": "invalid_request_error",
    "model_not_found": "invalid_request_error",
    "upstream_refused": "server_error",
}


def _refusal(error: ResponderError) -> ApiError:
    status = error.status_code
    if error.code == "rate_limit_exceeded":
        status = 429
    elif error.code == "invalid_prompt" and status >= 500:
        status = 400
    headers = {} if error.retry_after_s is None else {"retry-after": f"{error.retry_after_s:g}"}
    return ApiError(status, str(error), type=_ERROR_TYPES[error.code], code=error.code, headers=headers)
