"""The way from an HTTP request through an operation to its reply.

An operation is one synchronous function that decides everything about a request. An operation that writes runs in one
transaction with the record of its idempotency key. So a lost reply can be requested again, and work that was not
recorded was not done.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from urllib.parse import parse_qs

from pydantic import BaseModel

from batchrun.server.errors import ApiError, StoreError, forgotten_events, missing_beta
from batchrun.server.http.multipart import Upload, read_upload
from batchrun.server.protocol.ids import new_id
from batchrun.server.protocol.requests.base import parse_json, validate
from batchrun.server.protocol.requests.lists import page_from_query
from batchrun.server.replies.encoding import DONE
from batchrun.server.replies.event_log import EventLog
from batchrun.server.replies.planned_faults import Dropped, refused_request
from batchrun.server.replies.replies import HttpReply, Json, Stream, Waiting, error_reply
from batchrun.server.store import Page, Recorded

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from batchrun.server.execution.core import Core
    from batchrun.server.execution.parts import Parts
    from batchrun.server.http.auth import Keyring
    from batchrun.server.responders.batch_faults import Request
    from batchrun.server.store import Objects

__all__ = ["Call", "Operation", "OperationEndpoint", "operation"]

logger = logging.getLogger("batchrun.server")

BodyT = TypeVar("BodyT", bound=BaseModel)

MAX_KEY_LENGTH = 255


@dataclass(slots=True)
class Call:
    """One request, as an operation sees it.

    Mutable state: `keyed`, set before the operation is called, and `after`.

    Attributes:
        owner: the owner whose objects the request may see.
        path: path parameters.
        query: query parameters, each with all its values.
        last_event_id: the header with which a client resumes a lost stream.
        keyed: the request has an idempotency key, so its reply must be repeatable.
        is_line: the request is a line of a service batch.
        after: actions to take when the transaction is committed.
    """

    core: Core
    owner: str
    path: dict[str, str]
    query: dict[str, list[str]]
    last_event_id: str | None = None
    keyed: bool = False
    is_line: bool = False
    after: list[Callable[[], None]] = field(default_factory=list)

    @property
    def parts(self) -> Parts:
        """The server's shared parts."""
        return self.core.parts

    @property
    def objects(self) -> Objects:
        """The stored objects of all owners."""
        return self.core.parts.objects

    def page(self, *, max_limit: int = 100, default_limit: int = 20) -> Page:
        """Return the list parameters `limit`, `order`, `after` and `before`.

        Raises:
            ApiError: 400: a parameter is invalid.
        """
        return page_from_query(self.query, max_limit=max_limit, default_limit=default_limit)

    def one(self, name: str) -> str | None:
        """Return the last value of a query parameter, or None."""
        values = self.query.get(name)
        return values[-1] if values else None


@dataclass(frozen=True, slots=True)
class Operation(Generic[BodyT]):
    """One method on one path.

    Attributes:
        path: path without /v1, in Starlette's form.
        model: the request model that validates the body; None if the operation takes no body.
        beta: the header `OpenAI-Beta: assistants=v2` is required.
        upload: the body is a form with a file, in the part of this name, and the function gets an `Upload`; None for
            any other body.
    """

    method: str
    path: str
    function: Callable[..., HttpReply]
    model: type[BodyT] | None = None
    beta: bool = True
    upload: str | None = None


def operation(
    method: str,
    path: str,
    function: Callable[..., HttpReply],
    model: type[BaseModel] | None = None,
    *,
    beta: bool = True,
    upload: str | None = None,
) -> Operation[BaseModel]:
    """Return an `Operation`."""
    return Operation(method, path, function, model, beta, upload)


class OperationEndpoint:
    """Serves one operation over ASGI."""

    def __init__(self, core: Core, keyring: Keyring, op: Operation[Any]) -> None:
        self._core = core
        self._keyring = keyring
        self._operation = op
        self._writes = op.method in ("POST", "DELETE")
        self._batch_request = _BATCH_REQUESTS.get((op.method, op.path))
        self._is_logged = logger.isEnabledFor(logging.DEBUG)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = new_id("req_")
        began_s = time.monotonic()
        try:
            settings = self._core.parts.settings
            if self._operation.upload is not None:
                self._owner(scope)
                async with read_upload(scope, receive, settings.max_upload_bytes, self._operation.upload) as upload:
                    reply = self._decide(scope, upload)
            elif self._operation.method == "POST":
                body = await read_body(scope, receive, settings.max_body_bytes)
                if body:
                    check_json(scope["headers"])
                reply = self._decide(scope, body)
            else:
                reply = self._decide(scope, b"")
        except ApiError as exc:
            reply = error_reply(exc)
        except StoreError as exc:
            logger.error("%s %s: %s", scope["method"], scope["path"], exc)
            reply = error_reply(ApiError(500, exc.client_message, type="server_error"))
        except Exception:
            logger.exception("%s %s failed: an error of the server", scope["method"], scope["path"])
            reply = error_reply(
                ApiError(
                    500,
                    "The server had an error while processing your request. Sorry about that!",
                    type="server_error",
                )
            )
        reply.headers["x-request-id"] = request_id
        await reply.send(send)
        if self._is_logged:
            # The raw path has no character that needs an escape, and the query may hold a key.
            path = scope["raw_path"].partition(b"?")[0].decode("latin-1")
            duration_s = time.monotonic() - began_s
            logger.debug("%s %s: %d after %.3f s (%s)", scope["method"], path, reply.status, duration_s, request_id)

    def _decide(self, scope: Scope, received: bytes | Upload) -> HttpReply:
        core, op = self._core, self._operation
        headers = {name: value for name, value in scope["headers"] if name in _READ_HEADERS}
        owner = self._keyring.owner(_credentials(headers))
        # Azure's assistants have no such header.
        if op.beta and b"assistants=v2" not in headers.get(b"openai-beta", b"") and "deployment" not in scope:
            raise missing_beta()
        limited = core.parts.limits.admit(owner)
        planned = core.service_batches.faults.request(self._batch_request) if self._batch_request else None
        refusal = refused_request(planned) if planned is not None else None
        if refusal is not None:
            return refusal
        core.runs.expire_due()
        query = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        call = Call(core, owner, scope["path_params"], query, _text(headers.get(b"last-event-id")))
        if not self._writes:
            reply = op.function(call)
            reply.headers |= limited
            return reply if planned is None else Dropped(reply=reply)
        arguments = self._arguments(call, received, scope.get("deployment"))
        fault = core.faults.draw(arguments[-1])
        refusal = core.faults.refuse(fault) if fault is not None else None
        if refusal is not None:
            return refusal
        key = _text(headers.get(b"idempotency-key")) if op.method == "POST" else None
        call.keyed = bool(key)
        with core.parts.database.transaction():
            reply = self._once(call, key, _digest(scope, received), arguments) if key else op.function(*arguments)
        for action in call.after:
            action()
        reply.headers |= limited
        if planned is not None:
            return Dropped(reply=reply)
        return reply if fault is None else Dropped(reply=reply, after_deltas=fault.after_deltas)

    def _owner(self, scope: Scope) -> str:
        """Return the owner, before an upload is read, so that a client without a key cannot fill the disk."""
        return self._keyring.owner(_credentials(dict(scope["headers"])))

    def _arguments(self, call: Call, received: bytes | Upload, deployment: str | None) -> tuple[Any, ...]:
        if isinstance(received, Upload):
            return call, received
        model = self._operation.model
        if model is None:
            return (call,)
        data = parse_json(received)
        if deployment is not None and "model" in model.model_fields:
            data["model"] = deployment
        return call, validate(model, data)

    def _once(self, call: Call, key: str, digest: bytes, arguments: tuple[Any, ...]) -> HttpReply:
        """Return the reply that is recorded for this key; without one, call the operation and record its reply."""
        if len(key) > MAX_KEY_LENGTH:
            raise ApiError(
                400,
                f"Invalid 'Idempotency-Key': expected at most {MAX_KEY_LENGTH} characters, got {len(key)}.",
                param="Idempotency-Key",
                code="invalid_value",
            )
        replies = self._core.parts.replies
        recorded = replies.find(call.owner, key)
        if recorded is None:
            reply = self._operation.function(*arguments)
            replies.record(call.owner, key, _record(digest, reply), self._core.parts.clock.now())
            return reply
        if recorded.digest != digest:
            raise ApiError(
                409,
                "This idempotency key was already used for a different request; use a new key for each request.",
                type="idempotency_error",
                param="Idempotency-Key",
                code="idempotency_key_reused",
                headers={"x-should-retry": "false"},
            )
        return replay(self._core, recorded)


def replay(core: Core, recorded: Recorded) -> HttpReply:
    """Return the recorded reply again: the same JSON, or the stream from its start, even if it still grows."""
    headers = {"idempotent-replayed": "true"}
    if recorded.stream is None or recorded.segment is None:
        return Json(status=recorded.status, headers=headers, text=recorded.body or "{}")
    log = find_log(core, recorded.stream, recorded.segment)
    if recorded.body is None:
        return Stream(headers=headers, log=log, tail=_tail(recorded.stream))
    if log.closed and log.result is None:
        log.result = core.parts.objects.result(recorded.stream)
    return Waiting(headers=headers, log=log)


def _tail(stream: str) -> bytes:
    """Return the bytes that end a stream of this kind."""
    if stream.startswith("run_"):
        return DONE
    return b"data: [DONE]\n\n" if stream.startswith("chatcmpl-") else b""


def find_log(core: Core, stream: str, segment: int) -> EventLog:
    """Return the log of a segment, live or stored.

    Raises:
        ApiError: 404: the events are no longer stored.
    """
    live = core.live_log(stream)
    if live is not None and live.segment == segment:
        return live
    frames = core.parts.replies.events(stream, segment)
    if frames is None:
        raise forgotten_events(stream)
    log = EventLog(stream, segment, frames)
    log.close()
    return log


def _record(digest: bytes, reply: HttpReply) -> Recorded:
    if isinstance(reply, Stream) and reply.log is not None:
        return Recorded(digest, reply.status, None, reply.log.stream, reply.log.segment)
    if isinstance(reply, Waiting) and reply.log is not None:
        # An empty body marks a reply that waits for the end of its stream.
        return Recorded(digest, reply.status, "", reply.log.stream, reply.log.segment)
    assert isinstance(reply, Json)
    return Recorded(digest, reply.status, reply.text)


_BATCH_REQUESTS: dict[tuple[str, str], Request] = {
    ("POST", "/files"): "upload",
    ("GET", "/files/{file_id}/content"): "content",
    ("DELETE", "/files/{file_id}"): "delete",
    ("POST", "/batches"): "create",
    ("GET", "/batches"): "list",
    ("GET", "/batches/{batch_id}"): "retrieve",
    ("POST", "/batches/{batch_id}/cancel"): "cancel",
}
"""The requests that a script can make fail."""

_READ_HEADERS = frozenset({b"authorization", b"api-key", b"openai-beta", b"idempotency-key", b"last-event-id"})


def _credentials(headers: Mapping[bytes, bytes]) -> str | None:
    """Return the `Authorization` header, or Azure's `api-key` in its form."""
    authorization, key = headers.get(b"authorization"), headers.get(b"api-key")
    return _text(authorization) if authorization is not None or key is None else f"Bearer {_text(key)}"


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1")


def _digest(scope: Scope, received: bytes | Upload) -> bytes:
    head = f"{scope['method']} {scope['path']}?".encode() + scope["query_string"] + b"\n"
    if scope.get("deployment") is not None:
        head += scope["deployment"].encode("utf-8", "replace") + b"\n"
    body = received.digest if isinstance(received, Upload) else received
    return hashlib.sha256(head + body).digest()


def check_json(headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Check that a body is declared as JSON.

    Browsers send other types, or none, for any web page without asking the server first.

    Raises:
        ApiError: 400: it is declared as something else.
    """
    kind = next((value for name, value in headers if name == b"content-type"), b"")
    if kind != b"application/json" and kind.partition(b";")[0].strip().lower() != b"application/json":
        shown = kind.decode("latin-1")
        raise ApiError(
            400,
            f"Unsupported content type: '{shown}'. This API method only accepts 'application/json' requests, but you "
            f"specified the header 'Content-Type: {shown}'. Please try again with a supported content type.",
            code="unsupported_content_type",
        )


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """Return the whole request body.

    Raises:
        ApiError: 413, as soon as the body exceeds `limit` bytes; 400 if the connection closes before its end.
    """
    too_large = ApiError(413, f"The request body is larger than the maximum of {limit} bytes.", code="body_too_large")
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value) > limit:
            raise too_large
    chunks: list[bytes] = []
    size = 0
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ApiError(400, "The connection closed before the end of the request body.")
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if size > limit:
            raise too_large
        more = message.get("more_body", False)
    return b"".join(chunks)
