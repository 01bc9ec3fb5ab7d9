"""Translates the errors of the SDK, of its HTTP client and of services into batchrun's own, here and nowhere else."""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Iterator, Mapping

import aiohttp
import httpx2
import openai

from batchrun.engine.durations import wait_in_words
from batchrun.errors import (
    BatchRefused,
    ConnectionLost,
    PermanentFault,
    RateLimited,
    Refused,
    RunLost,
    ServerFault,
    ServiceFault,
    Shortage,
    Silence,
    Unavailable,
)
from batchrun.records import JsonObject
from batchrun.services.redaction import scrubbed
from batchrun.services.refusals import (
    QUOTA_CODES,
    SETTING_CODES,
    concerns_every_row,
    refusal_of_every_row,
    refused_setting,
    too_long_error_type,
)
from batchrun.services.retry_after import parse_retry_after
from batchrun.token_usage import Usage

__all__ = [
    "HttpFailure",
    "bad_reply",
    "causes_of",
    "fault_of_error_body",
    "fault_of_exception",
    "fault_of_failed_run",
    "fault_of_result",
    "is_error_body",
    "needs_tools",
]

HttpFailure = (openai.OpenAIError, httpx2.HTTPError, aiohttp.ClientError)
"""The exceptions of a request and of reading its reply. aiohttp's own errors come through its adapter if the bytes are
not HTTP."""

_CODE_OF_RUN_ERROR = {
    "error": "server_error",  # the type of the Responses API's error event, not of the error in it
    "None": "server_error",
    "api_error": "server_error",
    "internal_server_error": "server_error",
    "overloaded_error": "server_error",
    "rate_limit_error": "rate_limit_exceeded",
    "requests": "rate_limit_exceeded",
    "throttling_error": "rate_limit_exceeded",
    "tokens": "rate_limit_exceeded",
    "too_many_requests": "rate_limit_exceeded",
}
"""The `type` of an error without a code, in a reply with HTTP 200 → the code that it means."""

_CODE_OF_HTTP_ERROR = {
    "exceed_context_size_error": "context_length_exceeded",
    "insufficient_quota": "insufficient_quota",
}
"""The `type` of an error without a code, in a reply with an HTTP error status → the code that it means."""

_NOTHING_LEFT = frozenset({errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL})
"""This process, or this machine, has no file descriptor left, or no local port."""

_GATEWAY_STATUSES = frozenset({502, 503, 504, 521, 522, 523, 529})
"""Statuses of a gateway that reaches no service (521 to 523 are Cloudflare's), and of an overloaded service."""

_LOADING = re.compile(
    r"(?<!error )(?<!failed )\bloading (the )?model\b|\bmodel\b.{0,80}\b(is|still|currently) loading\b", re.IGNORECASE
)
_TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)


# -- requests that failed ---------------------------------------------------------------------------------------


def fault_of_exception(
    exc: Exception, secrets: tuple[str, ...] = (), settings: frozenset[str] = frozenset()
) -> ServiceFault:
    """Translate the exception of a request.

    Args:
        secrets: strings that must not appear in the message (keys).
        settings: names of the parameters that the user set: a refusal that names one concerns every row.
    """
    if isinstance(exc, openai.APIStatusError):
        return _fault_of_status(exc, secrets, settings)
    causes = tuple(causes_of(exc))
    own = next((cause for cause in causes if isinstance(cause, ServiceFault)), None)
    if own is not None:
        return own  # raised while the SDK read the reply: see batchrun.services.reply_size
    shortage = next((cause for cause in causes if isinstance(cause, OSError) and cause.errno in _NOTHING_LEFT), None)
    if shortage is not None:
        return Shortage(
            f"this machine cannot open another connection ({shortage.strerror})", error_type="too_many_connections"
        )
    if _any(causes, aiohttp.ClientConnectionResetError):
        # A kept connection that the server closed in the meantime: the request was not written to it.
        return Unavailable("the connection was closed before the request was sent", error_type="connection_error")
    if _any(causes, aiohttp.ConnectionTimeoutError):
        return _unconnected("the server could not be reached")
    if _any(causes, aiohttp.ServerDisconnectedError):
        fault = _unconnected("the server closed the connection without an answer")
        fault.sent = True
        return fault
    # The adapter reports every other problem of a connection as a connect timeout: aiohttp's own error decides.
    if _any(causes, httpx2.ConnectTimeout) or not _any(causes, openai.APITimeoutError, httpx2.TimeoutException):
        if _any(causes, openai.APIConnectionError, httpx2.TransportError, httpx2.DecodingError, aiohttp.ClientError):
            reason = " ".join(scrubbed(str(causes[-1]) or type(causes[-1]).__name__, secrets).split())
            if _any(causes, aiohttp.ClientConnectorError):
                return _unconnected(f"the connection failed: {reason}")
            return ConnectionLost(f"the connection failed: {reason}", error_type="connection_error")
    else:
        return Silence("the server sent nothing within the deadline", error_type="timeout")
    return PermanentFault(scrubbed(str(exc) or type(exc).__name__, secrets), error_type="request_error")


def causes_of(exc: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception and the chain of its causes."""
    while exc is not None:
        yield exc
        exc = exc.__cause__


def _any(errors: tuple[BaseException, ...], *kinds: type[BaseException]) -> bool:
    return any(isinstance(error, kinds) for error in errors)


def _unconnected(message: str) -> Unavailable:
    fault = Unavailable(message, error_type="connection_error")
    fault.connected = False
    return fault


def _fault_of_status(exc: openai.APIStatusError, secrets: tuple[str, ...], settings: frozenset[str]) -> ServiceFault:
    return _fault_of_reply(
        exc.status_code,
        exc.body,
        exc.response.text,
        path=exc.request.url.path,
        retry_after_s=parse_retry_after(exc.response.headers),
        secrets=secrets,
        settings=settings,
    )


def _fault_of_reply(
    status: int,
    body: object,
    sent: str,
    *,
    path: str,
    retry_after_s: float | None,
    secrets: tuple[str, ...],
    settings: frozenset[str],
) -> ServiceFault:
    """Return the fault of a reply with an HTTP error status.

    Args:
        body: the error in the reply, as the SDK gives it; the text itself if it is not JSON.
        sent: the reply's text.
    """
    body = _error_object(body)
    code = param = None
    if isinstance(body, Mapping):
        message = str(body.get("message") or body.get("detail") or body)
        code = _name(body.get("code")) or _CODE_OF_HTTP_ERROR.get(str(body.get("type")))
        param = _name(body.get("param"))
    elif isinstance(body, str) and body != sent.strip():
        message = body  # {"error": "text"}, as llama.cpp and Ollama send it in places
    else:
        message = _not_json(status, scrubbed(sent, secrets))
    message = scrubbed(message, secrets)
    if concerns_every_row(status, param, code, message, settings):
        return refused_setting(" ".join(message.split()), code, status, param)
    return _fault(
        status,
        code=code,
        message=message,
        path=path,
        retry_after_s=retry_after_s,
        api_error=isinstance(body, Mapping) and "message" in body,
    )


def fault_of_result(
    status: int, body: object, path: str, secrets: tuple[str, ...] = (), settings: frozenset[str] = frozenset()
) -> ServiceFault:
    """Return the fault of a result line of the Batch API: that of an ordinary reply with this status and body.

    The request of the line has ended, so that another attempt is another request.

    Args:
        status: HTTP status; 0 if the service could not send the request.
        body: the reply's body, or the line's error object.
        path: of the request.
        settings: as for `fault_of_exception`.
    """
    error = body.get("error", body) if isinstance(body, Mapping) else body
    text = body if isinstance(body, str) else "" if body is None else json.dumps(body, ensure_ascii=False)
    if status < 100:
        found = _error_object(error)
        message = str(found.get("message") or "") if isinstance(found, Mapping) else ""
        line = " ".join(scrubbed(message or "the service got no reply to the request", secrets).split())
        fault: ServiceFault = ServerFault(line, error_type=f"http_{status}", status_code=status)
    else:
        fault = _fault_of_reply(status, error, text, path=path, retry_after_s=None, secrets=secrets, settings=settings)
    fault.run_ended = True
    return fault


def _error_object(body: object) -> object:
    """Return the error in a body that the SDK has parsed; Gemini sends a list with one error in it."""
    if isinstance(body, list) and body and isinstance(body[0], Mapping):
        return body[0].get("error") or body[0]
    return body


def _name(value: object) -> str | None:
    """Return a `code` or `param` that is a name. Some servers (vLLM, LiteLLM) repeat the HTTP status there."""
    return value if isinstance(value, str) and value not in ("", "None") and not value.isdigit() else None


def _not_json(status: int, text: str) -> str:
    title = _TITLE.search(text)
    shown = title[1] if title else text[:120]
    kind = "HTML" if "<html" in text[:500].lower() or title else "something that is not JSON"
    return f"the server answered {status} with {kind}: {shown.strip() or 'an empty body'}"


def _fault(
    status: int, *, code: str | None, message: str, path: str, retry_after_s: float | None, api_error: bool
) -> ServiceFault:
    """Return the fault of a reply with an HTTP error status, by status, code and message."""
    line = " ".join(message.split())
    of_every_row = refusal_of_every_row(status, code, line, path, api_error=api_error)
    if of_every_row is not None:
        return of_every_row
    if 400 <= status <= 500 and (too_long := too_long_error_type(code, line)) is not None:
        return PermanentFault(line, error_type=too_long, status_code=status)
    if code == "idempotency_key_reused":
        # An earlier process sent this key with other options; the end of that request is unknown.
        return RunLost(line, error_type=code, status_code=status, run_ended=True)
    if status in (429, 498) or code == "rate_limit_exceeded":  # 498: Groq has no capacity left for its flex tier
        return RateLimited(
            line,
            error_type=code or "rate_limit_exceeded",
            status_code=status,
            retry_after_s=wait_in_words(line) if retry_after_s is None else retry_after_s,
        )
    error_type = code or f"http_{status}"
    if status in _GATEWAY_STATUSES or _LOADING.search(line):
        return Unavailable(line, error_type=error_type, status_code=status, retry_after_s=retry_after_s)
    if status in (408, 409) or status >= 500 or code == "conversation_locked":
        return ServerFault(line, error_type=error_type, status_code=status, retry_after_s=retry_after_s)
    kind = Refused if status in (403, 404) else PermanentFault
    return kind(line, error_type=error_type, status_code=status)


# -- errors that arrive with HTTP 200 ---------------------------------------------------------------------------


def fault_of_failed_run(
    code: str | None, message: str, usage: Usage | None = None, secrets: tuple[str, ...] = ()
) -> ServiceFault:
    """Return the fault of a run that failed, which arrives with HTTP 200. The model's rate limits show only here."""
    line = " ".join(scrubbed(message, secrets).split())
    wait_s = wait_in_words(line)
    if code in QUOTA_CODES or ("exceeded your current quota" in line and wait_s is None):
        return BatchRefused(
            f"the quota is exhausted: {line}", error_type="insufficient_quota", run_ended=True, usage=usage
        )
    if code in SETTING_CODES:
        return refused_setting(line, code, None, usage=usage)
    too_long = too_long_error_type(code, line)
    if too_long is not None:
        return PermanentFault(line, error_type=too_long, run_ended=True, usage=usage)
    if code == "rate_limit_exceeded":
        return RateLimited(line, error_type=code, retry_after_s=wait_s, run_ended=True, usage=usage)
    if code == "server_error":
        return ServerFault(line, error_type=code, run_ended=True, usage=usage)
    return PermanentFault(line, error_type=code or "run_failed", run_ended=True, usage=usage)


def is_error_body(body: JsonObject) -> bool:
    """Return whether an object that arrived with HTTP 200 is an error, or has one: vLLM's has its fields at the top."""
    return bool(body.get("error")) or body.get("object") == "error"


def fault_of_error_body(body: object, secrets: tuple[str, ...] = ()) -> ServiceFault:
    """Return the fault of an error that arrived with HTTP 200, as a whole reply or as an event of a stream.

    The body is `{"error": {...}}` or the error object itself. If its code is a number (vLLM, LiteLLM, OpenRouter), that
    is the HTTP status which the error should have had.
    """
    body = _error_object(body)
    error = (body.get("error") or body) if isinstance(body, Mapping) else {"message": str(body)}
    if not isinstance(error, Mapping):
        error = {"message": str(error)}
    message = scrubbed(str(error.get("message") or "the service sent an error"), secrets)
    code = _name(error.get("code"))
    status = str(error.get("code"))
    if code is None and status.isdigit() and 400 <= int(status) < 600:
        return _fault(int(status), code=None, message=message, path="", retry_after_s=None, api_error=True)
    kind = str(error.get("type") or "server_error")
    fault = fault_of_failed_run(code or _CODE_OF_RUN_ERROR.get(kind, kind), message)
    fault.run_ended = False
    return fault


def bad_reply(missing: str, body: object, protocol: str, secrets: tuple[str, ...]) -> PermanentFault:
    """Return the fault of a reply without a field that is indispensable: the server does not speak the protocol."""
    shown = scrubbed(json.dumps(body, ensure_ascii=False), secrets)[:80]
    return PermanentFault(
        f"the server's reply has no {missing}: {shown} (does the server support the {protocol} protocol?)",
        error_type="bad_reply",
    )


def needs_tools(usage: Usage) -> PermanentFault:
    """Return the fault of a model that calls a function by `function_call`, which has no id to send an output to."""
    return PermanentFault(
        "the model calls a function by `function_call`, which was replaced by `tool_calls` in 2023; batchrun supports "
        "`tool_calls` only",
        error_type="requires_action",
        run_ended=True,
        usage=usage,
    )
