"""The responder `upstream`: it streams the answers of any Chat Completions endpoint.

The SDK makes the request (address, key, errors). The reply is read as bytes, because a typed object for each piece of
text would cost more than all other work.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from typing import Any, Literal, cast
from urllib.parse import urlsplit

import aiohttp
import httpx2
import openai
from openai import AsyncOpenAI, AsyncStream

from batchrun.server.errors import SettingsError
from batchrun.server.protocol.bodies import Body
from batchrun.server.responders.base import (
    Conversation,
    Message,
    Part,
    ResponderError,
)
from batchrun.server.responders.upstream_answer import UpstreamAnswer, one_line

__all__ = ["FAILURES", "UpstreamResponder", "open_client", "responder_error"]

_CONNECT_TIMEOUT_S = 15.0
_MAX_LINE_BYTES = 16 * 1024 * 1024
_OWN_PARAMETERS = frozenset({"messages", "model", "n", "stream", "stream_options"})
# The SDK's aiohttp transport passes on some of aiohttp's own errors, such as those for malformed HTTP.
FAILURES = (openai.OpenAIError, httpx2.HTTPError, aiohttp.ClientError)


class UpstreamResponder:
    """Forwards conversations to a Chat Completions endpoint and returns its answers.

    Args:
        base_url: URL of the endpoint, including `/v1`.
        api_key: None for servers that require none.
        models: names to list; if empty, none is listed and any is accepted.
        silence_timeout_s: seconds without a byte after which an answer fails.
        max_tokens_parameter: the endpoint's parameter for the limit of the answer's tokens.
        include_usage: request the token count; False for endpoints that refuse `stream_options`.
        max_connections: maximum of open connections; further answers wait for one.

    Raises:
        SettingsError: `base_url` is not a URL that requests can be sent to.
    """

    name = "upstream"

    def __init__(
        self,
        base_url: str,
        api_key: str | None,
        *,
        models: tuple[str, ...] = (),
        silence_timeout_s: float = 600.0,
        max_tokens_parameter: Literal["max_completion_tokens", "max_tokens"] = "max_completion_tokens",
        include_usage: bool = True,
        max_connections: int = 1000,
    ) -> None:
        self.models = models
        self._key = api_key
        self._max_tokens_parameter = max_tokens_parameter
        self._include_usage = include_usage
        self._client = open_client(
            base_url, api_key, silence_timeout_s=silence_timeout_s, max_connections=max_connections
        )

    async def respond(self, conversation: Conversation) -> AsyncIterator[Part]:
        """Yield the endpoint's answer as it arrives; see `Responder.respond`.

        Raises:
            ResponderError: `rate_limit_exceeded` for 429, `invalid_prompt` for requests that the endpoint refuses,
                otherwise `server_error`: 5xx, no connection, silence, or an incomplete stream.
        """
        answer = UpstreamAnswer(conversation)
        async with self._stream(self._body(conversation)) as events:
            async for event in events:
                piece = answer.take(event)
                if piece.text:
                    yield piece
                if answer.deltas:
                    for delta in answer.taken_deltas():
                        yield delta
        for part in answer.end():
            yield part

    async def embed(self, body: Mapping[str, Any]) -> str:
        """Return the endpoint's reply to a request for embeddings, as JSON text.

        Raises:
            ResponderError: as in `respond`.
        """
        try:
            response = await self._client.post("/embeddings", cast_to=httpx2.Response, body=body)
        except FAILURES as exc:
            raise responder_error(exc, self._key, "embeddings") from exc
        reply = _decoded(response.content)
        if not isinstance(reply.get("data"), list):
            raise ResponderError(
                "The upstream endpoint answered without embeddings; check its URL and the model.", status_code=502
            )
        return response.content.decode()

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.close()

    def _body(self, conversation: Conversation) -> Body:
        body: Body = {
            key: value
            for key, value in conversation.parameters.items()
            if value is not None and key not in _OWN_PARAMETERS
        }
        body |= {"model": conversation.model, "messages": _messages(conversation), "stream": True}
        if self._include_usage:
            body["stream_options"] = {"include_usage": True}
        if conversation.tools:
            body["tools"] = list(conversation.tools)
            body["tool_choice"] = conversation.tool_choice
            body["parallel_tool_calls"] = conversation.parallel_tool_calls
        if conversation.response_format is not None:
            body["response_format"] = conversation.response_format
        if conversation.max_completion_tokens is not None:
            body[self._max_tokens_parameter] = conversation.max_completion_tokens
        return body

    @asynccontextmanager
    async def _stream(self, body: Mapping[str, Any]) -> AsyncIterator[AsyncIterator[Any]]:
        try:
            reply: object = await self._client.post(
                "/chat/completions",
                cast_to=httpx2.Response,
                body=body,
                stream=True,
                stream_cls=AsyncStream[Any],
            )
            # `cast_to=Response` overrides `stream_cls`: the SDK returns the response unread.
            response = cast("httpx2.Response", reply)
            try:
                yield _events(response)
            finally:
                await response.aclose()
        except FAILURES as exc:
            raise responder_error(exc, self._key) from exc


def open_client(base_url: str, api_key: str | None, *, silence_timeout_s: float, max_connections: int) -> AsyncOpenAI:
    """Return a client that sends each request once, with this key and without settings from the environment.

    Raises:
        SettingsError: `base_url` is not a URL that requests can be sent to.
    """
    _check_url(base_url)
    client = AsyncOpenAI(
        api_key=api_key or "none",
        base_url=base_url,
        # The run's client retries it; a hidden second request would be paid twice.
        max_retries=0,
        timeout=httpx2.Timeout(silence_timeout_s, connect=_CONNECT_TIMEOUT_S, pool=None),
        http_client=openai.DefaultAioHttpClient(
            limits=httpx2.Limits(max_connections=max_connections, max_keepalive_connections=max_connections),
            follow_redirects=False,  # key and prompts are for this endpoint alone
        ),
    )
    # Without these lines the SDK would take both from the environment and send them to any endpoint.
    client.organization = None
    client.project = None
    return client


def _check_url(base_url: str) -> None:
    """Check that requests can be sent to the URL. Messages do not repeat parts of it that may be secret."""
    if "@" in base_url:
        raise SettingsError(
            "upstream: the URL contains a user or password (before the @), which cannot be sent together with a key; "
            "give the key separately."
        )
    if "?" in base_url or "#" in base_url:
        raise SettingsError("upstream: the URL must not contain ? or #, because the endpoints' paths follow it.")
    try:
        parts = urlsplit(base_url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets without an address, or an invalid port
        usable = False
    if not usable or not base_url.isprintable() or " " in base_url:
        raise SettingsError(
            f"upstream: expected a base URL with a host, such as http://127.0.0.1:11434/v1, got {base_url!r}."
        )


def _messages(conversation: Conversation) -> list[Body]:
    messages: list[Body] = []
    if conversation.instructions:
        messages.append({"role": "system", "content": conversation.instructions})
    for message in conversation.messages:
        messages += _chat_messages(message)
    return messages


def _chat_messages(message: Message) -> Iterator[Body]:
    if message.role == "tool":
        for output in message.tool_outputs:
            yield {"role": "tool", "tool_call_id": output.call_id, "content": output.output}
        if message.content:  # a message of the role `tool` can't hold images
            yield {"role": "user", "content": list(message.content)}
        return
    content: Any = message.text if message.content is None else list(message.content)
    for part in message.content or ():
        if part.get("type") == "image_file":
            raise ResponderError(
                "Images uploaded as files cannot be forwarded to the upstream endpoint; send them by URL.",
                code="invalid_prompt",
                status_code=400,
            )
    chat: Body = {"role": message.role, "content": content}
    if message.tool_calls:
        chat["content"] = content or None
        chat["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    yield chat


async def _events(response: httpx2.Response) -> AsyncIterator[Any]:
    """Yield the decoded `data` of each server-sent event up to `[DONE]`; a plain JSON reply is one event."""
    if not response.headers.get("content-type", "").startswith("text/event-stream"):
        yield _json_reply(response.headers.get("content-type", "no content type"), await response.aread())
        return
    rest = b""
    async for chunk in response.aiter_bytes():
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) > _MAX_LINE_BYTES:
            raise ResponderError(f"The upstream endpoint sent a line over {_MAX_LINE_BYTES} bytes.", status_code=502)
        for line in lines:
            data = line.removeprefix(b"data:").strip() if line.startswith(b"data:") else b""
            if data == b"[DONE]":
                return
            if data:
                yield _decoded(data)


def _json_reply(content_type: str, body: bytes) -> Any:
    if "json" not in content_type:
        raise ResponderError(
            f"The upstream endpoint answered with {content_type} instead of a completion; check its URL.",
            status_code=502,
        )
    return _decoded(body)


def _decoded(data: bytes) -> Any:
    try:
        event = json.loads(data)
    except ValueError:
        event = None
    if not isinstance(event, dict):
        raise ResponderError("The upstream endpoint sent an event that is not a JSON object.", status_code=502)
    return event


def responder_error(exc: Exception, key: str | None, name: str = "upstream") -> ResponderError:
    """Return one of `FAILURES` as an error in one line, without the key. `name` names the endpoint."""
    if isinstance(exc, openai.APIStatusError):
        return _status_error(exc, key, name)
    cause = exc.__cause__ or exc
    # The SDK's aiohttp transport reports every failure to connect as ConnectTimeout.
    timeout = isinstance(exc, (openai.APITimeoutError, httpx2.TimeoutException))
    if timeout and not isinstance(cause, httpx2.ConnectTimeout):
        return ResponderError(f"The {name} endpoint did not answer in time.", status_code=504)
    return ResponderError(f"The connection to the {name} endpoint failed ({type(cause).__name__}).", status_code=502)


def _status_error(exc: openai.APIStatusError, key: str | None, name: str) -> ResponderError:
    status = exc.status_code
    body = exc.body if isinstance(exc.body, Mapping) else {}
    reason = one_line(body.get("message") or f"HTTP {status} without a reason")
    message = f"The {name} endpoint answered {status}: {reason.replace(key, '…') if key else reason}"
    if status == 429:
        return ResponderError(
            message,
            code="rate_limit_exceeded",
            status_code=429,
            retry_after_s=_retry_after(exc.response.headers),
        )
    if status < 400:
        message = f"The {name} endpoint answered {status}, a redirect, which is not followed; check its URL."
    if status < 400 or status in (401, 402, 403):
        # Forwarded unchanged, it would look like a fault of the caller's own key.
        return ResponderError(message, code="upstream_refused", status_code=500)
    if status in (400, 404) and (body.get("code") == "model_not_found" or _NO_MODEL.search(reason)):
        return ResponderError(message, code="model_not_found", status_code=404)
    if status >= 500 or status in (408, 409):
        return ResponderError(
            message,
            status_code=max(status, 500),
            retry_after_s=_retry_after(exc.response.headers),
        )
    return ResponderError(message, code="invalid_prompt", status_code=status)


_NO_MODEL = re.compile(r"\bmodel\b.{0,80}\b(not found|not exist)", re.IGNORECASE)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds of `retry-after-ms` or `Retry-After` (a number, or a date: RFC 9110 §10.2.3), or None."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            return max(0.0, float(headers[name]) * unit)
        except (KeyError, ValueError):
            pass
    try:
        due = parsedate_to_datetime(headers["retry-after"])
        sent = parsedate_to_datetime(headers["date"])
        return max(0.0, (due - sent).total_seconds())
    except (KeyError, ValueError, TypeError):
        return None
